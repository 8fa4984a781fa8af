"""A sweep of the toy pretraining in a process of its own, to be killed: `python sweep_driver.py OUT`."""

import sys
from pathlib import Path

import hilum
from hilum.commands import _sweep_places

if __name__ == "__main__":
    _sweep_places.CHILD = "tests.commands.sweep_child"
    axes = {"lr": [0.001, 0.01, 0.7]}
    hilum.sweep(
        "pretrain",
        method="simclr",
        records="none.csv",
        axes=axes,
        objective="toy_auroc",
        out=Path(sys.argv[1]),
    )
