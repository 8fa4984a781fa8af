"""Pretraining on chest radiographs and transferring what was learnt.

```python
import hilum

run = hilum.pretrain("simclr", records="films.csv", out="runs/simclr")
probe = hilum.transfer(records="films.csv", init=run, label_fraction=0.1, out="runs/probe")
print(hilum.Report.read(probe / "report.json").headline)
```
The commands are functions here, with the same names (`records_check` for
`records check`), settings and defaults. Nothing heavy is imported before
it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hilum.images.phantom import write_phantoms
    from hilum.models.classifier import Classifier
    from hilum.models.encoder import Encoder
    from hilum.models.weights import load
    from hilum.records.predictions import Predictions
    from hilum.records.table import Records
    from hilum.report.evaluate import Report
    from hilum.run import Run
    from hilum.train.task import Task

_NOUNS = {
    "Classifier": "hilum.models.classifier",
    "Encoder": "hilum.models.encoder",
    "Predictions": "hilum.records.predictions",
    "Records": "hilum.records.table",
    "Report": "hilum.report.evaluate",
    "Run": "hilum.run",
    "Task": "hilum.train.task",
    "load": "hilum.models.weights",
    "write_phantoms": "hilum.images.phantom",
}
_COMMANDS = {
    name.replace(" ", "_").replace("-", "_"): name
    for name in (
        "compare",
        "cxrlearn",
        "demo",
        "detect",
        "encoder export",
        "encoder inspect",
        "evaluate",
        "explain",
        "history",
        "lr-range",
        "map",
        "neighbours",
        "predict",
        "pretrain",
        "profile",
        "records check",
        "records merge",
        "records preview",
        "records read",
        "records split",
        "retrieve",
        "sweep",
        "transfer",
        "zero-shot",
    )
}

__all__ = [
    "Classifier",
    "Encoder",
    "Predictions",
    "Records",
    "Report",
    "Run",
    "Task",
    "compare",
    "cxrlearn",
    "demo",
    "detect",
    "evaluate",
    "explain",
    "history",
    "load",
    "lr_range",
    "map",
    "neighbours",
    "predict",
    "pretrain",
    "profile",
    "retrieve",
    "sweep",
    "transfer",
    "write_phantoms",
    "zero_shot",
]


def __getattr__(name: str) -> Any:
    if name in _NOUNS:
        return getattr(import_module(_NOUNS[name]), name)
    if name in _COMMANDS:
        from hilum.commands import function

        return function(_COMMANDS[name])
    raise AttributeError(f"module 'hilum' has no attribute {name!r}")
