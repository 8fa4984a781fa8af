"""What finished cells are worth: chosen by validation, shown on the test split."""

import json
import math
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hilum.commands._open import open_records
from hilum.commands._sweep_cells import SweepCell
from hilum.config import Config, RecordsConfig
from hilum.metrics.bootstrap import Estimate
from hilum.metrics.classification import mean_auroc
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.report.detection import DETECTION, DetectionReport
from hilum.report.report import Report
from hilum.run import METRICS

VAL_AUROC = "val_auroc"
VAL_BOXES = "val_box_precision"
SCORED = ("transfer", "detect")
"""Commands whose runs are scored on the test split."""


@dataclass
class Row:
    """What became of a cell. None where it is unknown; `reason` says why there is no score."""

    cell: str
    labels: dict[str, str]
    run: str
    status: str = "waiting"
    validation: float | None = None
    test: float | None = None
    low: float | None = None
    high: float | None = None
    seconds: float | None = None
    reason: str = ""
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        """The row for sweep.json."""
        return asdict(self)


def lower_is_better(objective: str) -> bool:
    """Whether the best value is the lowest, as for `monitor`: that of a loss.

    >>> lower_is_better("val_loss"), lower_is_better("val_auroc")
    (True, False)
    """
    return objective.endswith("loss")


def score(row: Row, cell: SweepCell, objective: str) -> None:
    """Fills in the validation score of a finished cell, and its test score with its interval."""
    folders = runs_in(cell.run)
    last = cell.stages[-1]
    if last.command == "transfer" and objective == VAL_AUROC:
        records = records_of(last.config)
        found = [_val_auroc(folder, records) for folder in folders]
    elif objective:
        found = [_kept(folder, objective, getattr(last.config, "monitor", "")) for folder in folders]
    else:
        found = []
    known = [value for value in found if value is not None and math.isfinite(value)]
    if found and len(known) == len(found):
        row.validation = float(np.mean(known))
    elif objective:
        row.reason = f"{objective} is undefined: not in metrics.jsonl, or no finding has both classes in val"
    if last.command in SCORED:
        _test(row, folders)


def curve(run: Path, objective: str) -> list[float]:
    """The objective at every validation so far of a run that may still be written."""
    path = run / METRICS
    values = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            values += [float(found) for key, found in json.loads(line).items() if key == objective]
        except ValueError:  # the last line is being written
            break
    return values


def runs_in(run: Path) -> list[Path]:
    """The runs that hold predictions: a run of transfer with several fractions or seeds has one for each."""
    return sorted((run / "cells").iterdir()) if (run / "cells").is_dir() else [run]


def records_of(config: Config) -> Records:
    """The table that a run of transfer was scored on.

    Raises:
        MissingError: there is no such table.
        RecordsError: it has defects; all of them are in the message.
    """
    way = {name: getattr(config, name) for name in RecordsConfig.model_fields}
    return _read(json.dumps(way, sort_keys=True, default=str))


@cache
def _read(way: str) -> Records:
    return open_records(RecordsConfig.build(json.loads(way), "records"), check_files=False)


def _val_auroc(folder: Path, records: Records) -> float | None:
    predictions = Predictions.read(folder / "predictions.csv").where("val")
    labels = records.table.set_index("image")[list(predictions.findings)]
    truth = np.array(labels.loc[predictions.table["image"]], np.float64)
    return mean_auroc(truth, predictions.scores)


def _kept(folder: Path, objective: str, monitor: str) -> float | None:
    """The objective of the model that was kept: the best where training watched it, otherwise the last."""
    values = curve(folder, objective)
    if not values:
        return None
    if monitor == objective:
        return min(values) if lower_is_better(objective) else max(values)
    return values[-1]


def _headline(folder: Path) -> Estimate | None:
    if (folder / DETECTION).exists():
        return _mean_score(DetectionReport.read(folder / DETECTION))
    return Report.read(folder / "report.json").headline


def _mean_score(report: DetectionReport) -> Estimate | None:
    """The RSNA score; of several findings, as in validation, the mean, which has no interval."""
    scores = [one.estimate("rsna_score") for one in report.findings]
    if len(scores) == 1:
        return scores[0]
    values = [one.value for one in scores if one is not None and one.value is not None]
    if len(values) < len(scores) or scores[0] is None:
        return None
    return replace(scores[0], finding="macro", value=float(np.mean(values)), low=None, high=None)


def _test(row: Row, folders: list[Path]) -> None:
    headlines = [_headline(folder) for folder in folders]
    values = [one.value for one in headlines if one is not None and one.value is not None]
    if len(values) == len(folders):
        row.test = float(np.mean(values))
        if len(folders) == 1 and headlines[0] is not None:
            row.low, row.high = headlines[0].low, headlines[0].high
