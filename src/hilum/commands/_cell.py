"""One cell of `hilum profile`, in a process of its own: a cell that runs out of memory takes nothing with it.

`python -m hilum.commands._cell` reads the cell as JSON from stdin and writes what it found as JSON to stdout.
"""

import json
import resource
import statistics
import sys
from typing import Any

import numpy as np
import torch
from torch import nn

from hilum import find
from hilum.commands._pretext import task_in
from hilum.config import TrainConfig, settings_in
from hilum.data.batch import Batch
from hilum.data.views import View
from hilum.images.spec import InputSpec
from hilum.models.encoder import Encoder
from hilum.train.rehearsal import Rehearsal
from hilum.train.task import Task

FINDINGS = ("first", "second")
WARM_UP = 2
"""Steps before those that are timed."""
OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "ALLOC_FAILED",
    "not enough memory",
)


def says_out_of_memory(text: str) -> bool:
    """Whether an error's text is one of the many that mean it.

    >>> says_out_of_memory("CUDA out of memory. Tried to allocate 20.00 GiB")
    True
    """
    return any(words.lower() in text.lower() for words in OUT_OF_MEMORY)


def measure(cell: dict[str, Any]) -> dict[str, Any]:
    """Seconds and memory of a training step on random radiographs, or why there are none."""
    if cell["memory_limit"]:
        # What is written to counts, not what is only mapped: torch maps many times what it uses.
        resource.setrlimit(resource.RLIMIT_DATA, (cell["memory_limit"], cell["memory_limit"]))
    try:
        return {"status": "ok", **_measure(cell)}
    except (MemoryError, torch.OutOfMemoryError) as error:
        return {"status": "out of memory", "error": _first_line(error)}
    except Exception as error:
        status = "out of memory" if says_out_of_memory(str(error)) else "failed"
        return {"status": status, "error": f"{type(error).__name__}: {_first_line(error)}"}


def _measure(cell: dict[str, Any]) -> dict[str, Any]:
    names = ("batch_size", "precision", "device", "threads", "compile", "optimizer")
    config = TrainConfig(**{name: cell[name] for name in names})
    task = _task(cell)
    rehearsal = Rehearsal(task, config)
    seconds = []
    for step in range(WARM_UP + cell["steps"]):
        rehearsal.step(_batch(task, cell, step), lr=1e-6)
        seconds.append(rehearsal.seconds)
    median = statistics.median(seconds[WARM_UP:])
    return {
        "seconds_per_step": round(median, 6),
        "images_per_second": round(cell["batch_size"] / median, 2),
        "memory_gib": round(rehearsal.peak_memory() / 2**30, 3),
        "device_name": torch.cuda.get_device_name() if rehearsal.device.type == "cuda" else "cpu",
    }


def _task(cell: dict[str, Any]) -> Task:
    task_class = task_in(cell["method"])
    own = settings_in(find.path("hilum.methods", cell["method"]))
    arguments = own.build(cell["method_settings"], cell["method"]).model_dump()
    if "findings" in task_class.needs:
        arguments["findings"] = FINDINGS
    encoder = Encoder(cell["arch"], InputSpec(side=cell["image_size"]))
    if cell["channels"] != 1:
        _widen(encoder, cell["channels"])
    return task_class(encoder, **arguments)


def _widen(encoder: Encoder, channels: int) -> None:
    """Gives the first convolution more channels: what RGB copies of grey films would cost."""
    for name, layer in encoder.named_modules():
        if isinstance(layer, nn.Conv2d):
            wide = nn.Conv2d(
                channels,
                layer.out_channels,
                layer.kernel_size,  # type: ignore[arg-type]
                layer.stride,  # type: ignore[arg-type]
                layer.padding,  # type: ignore[arg-type]
                bias=layer.bias is not None,
            )
            parent, _, child = name.rpartition(".")
            setattr(encoder.get_submodule(parent), child, wide)
            return


def _batch(task: Task, cell: dict[str, Any], step: int) -> Batch:
    random, size = np.random.default_rng(step), cell["batch_size"]
    views = tuple(
        torch.from_numpy(random.integers(0, 256, (size, cell["channels"], side, side), np.uint8))
        for side in task.recipe(View(), View()).sides
    )
    rows = torch.arange(size) + step * size
    labels = torch.from_numpy(random.integers(0, 2, (size, len(FINDINGS))).astype(np.float32))
    words = ("No effusion is seen.", "There is a small nodule.", "The heart is enlarged.")
    texts = tuple(" ".join(random.permutation(words).tolist()) for _ in range(size))
    codes = dict.fromkeys(task.columns, rows // 2)
    epochs = torch.zeros(size, dtype=torch.long)
    return Batch(views, labels, rows, epochs, codes, codes, texts)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")[:300]


if __name__ == "__main__":
    found = measure(json.load(sys.stdin))
    sys.stdout.write("\n" + json.dumps(found) + "\n")
