"""hilum compare: several runs side by side, with intervals and paired differences."""

import json
import logging
from pathlib import Path
from typing import Any, Literal

from hilum.config import Config, RecordsConfig, read_yaml
from hilum.errors import ConfigError, MissingError, OutputError
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.report.compare import Cell
from hilum.report.compare import compare as compare_cells
from hilum.run import DONE

EXAMPLE = "hilum compare runs/pixels runs/random runs/simclr --out runs/comparison"
TAKES = "runs"

log = logging.getLogger(__name__)


class Settings(Config):
    """Puts transfer runs on one page: label efficiency, and whether differences are real."""

    runs: list[Path]
    """Runs of transfer with the same records; each is known by the name of its folder."""
    out: Path
    """Folder for comparison.json and compare.html; it must not exist."""
    baseline: str = ""
    """The run that the others are compared with, by its folder's name; empty: the first."""
    metric: Literal["auroc", "average_precision"] = "auroc"
    """What is compared."""
    replicates: int = 2000
    """Bootstrap replicates behind each interval."""


def compare(config: Settings) -> Path:
    """Writes the comparison and returns its folder."""
    if config.out.exists():
        raise OutputError(f"{config.out}: is there already; give another --out or remove it")
    if len(config.runs) < 2:
        raise ConfigError(f"compare needs two runs or more, found {len(config.runs)}")
    names = [run.resolve().name for run in config.runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"runs are known by their folders' names, and {twice[0]!r} is there twice; rename one"
        )
    for run in config.runs:
        if not (run / DONE).exists():
            raise MissingError(f"{run}: no finished run; its own command, given again, finishes it")
    cells = [cell for run, name in zip(config.runs, names, strict=True) for cell in cells_of(run, name)]
    records = _records(config.runs)
    found = compare_cells(
        cells,
        records,
        baseline=config.baseline or names[0],
        metric=config.metric,
        replicates=config.replicates,
    )
    config.out.mkdir(parents=True)
    found.write(config.out / "comparison.json")
    found.write_page(config.out / "compare.html")
    return config.out


def cells_of(run: Path, name: str) -> list[Cell]:
    """The cells of a run of transfer: the run itself, if it has one fraction and one seed."""
    folders = sorted((run / "cells").iterdir()) if (run / "cells").is_dir() else [run]
    cells = []
    for folder in folders:
        settings = read_yaml(folder / "config.yaml")
        if "label_fraction" not in settings:
            raise ConfigError(f"{folder}: is no run of transfer")
        report: dict[str, Any] = json.loads((folder / "report.json").read_text())
        cells.append(
            Cell(
                init=name,
                fraction=settings["label_fraction"][0],
                seed=settings["seeds"][0],
                run=str(folder),
                predictions=Predictions.read(folder / "predictions.csv"),
                report=report,
            )
        )
    return cells


def _records(runs: list[Path]) -> Records:
    """The one table that all runs were scored on.

    Raises:
        ConfigError: they were scored on different tables, or the same was read in different ways.
    """
    ways = {}
    for run in runs:
        settings = read_yaml(run / "config.yaml")
        way = {key: settings[key] for key in RecordsConfig.model_fields}
        ways[json.dumps(way, sort_keys=True)] = (run, way)
    if len(ways) > 1:
        (one, _), (other, _) = list(ways.values())[:2]
        raise ConfigError(
            f"{one} and {other} were scored on different records; only equal ones can be compared"
        )
    ((_, way),) = ways.values()
    read = RecordsConfig.build(way, "config.yaml")
    return Records.read(
        read.records,
        findings=read.findings,
        uncertain=read.uncertain,
        columns=read.columns,
        root=read.root,
        check_files=False,
    )
