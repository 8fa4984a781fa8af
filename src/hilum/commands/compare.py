"""hilum compare: several runs side by side, with intervals and paired differences."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from hilum.commands._open import open_records
from hilum.config import Config, RecordsConfig, read_yaml
from hilum.errors import ConfigError, MissingError, OutputError
from hilum.records.detections import Detections
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.report.compare import Cell, Comparison
from hilum.report.compare import compare as compare_cells
from hilum.report.detection import DETECTION, DetectionReport
from hilum.report.detection_compare import COMPARED, Detected, compare_detectors
from hilum.run import DONE

EXAMPLE = "hilum compare runs/pixels runs/random runs/simclr --out runs/comparison"
TAKES = "runs"

log = logging.getLogger(__name__)


class Settings(Config):
    """Puts runs of transfer, or of detect, on one page: label efficiency, and which differences are real."""

    runs: list[Path]
    """Runs of transfer, or of detect, with the same records; each is known by the name of its folder."""
    out: Path
    """Folder for comparison.json, compare.html and leaderboard.html; it must not exist."""
    baseline: str = ""
    """The run that the others are compared with, by its folder's name; empty: the first."""
    against: Literal["baseline", "all"] = "baseline"
    """What each run is compared with: the baseline, or all others, corrected for all these pairs."""
    metric: list[
        Literal[
            "auroc",
            "average_precision",
            "accuracy",
            "rsna_score",
            "box_precision",
            "box_precision_50",
            "box_precision_coco",
            "box_precision_boxed",
            "froc",
        ]
    ] = []
    """What is compared: auroc, average_precision, accuracy (at thresholds chosen on validation), or several;
    of detectors rsna_score, box_precision, or those of its report. Conclusions are drawn from the first.
    Empty: auroc, or rsna_score and box_precision."""
    replicates: int = 2000
    """Bootstrap replicates behind each interval."""

    @field_validator("metric", mode="before")
    @classmethod
    def _one_metric(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given


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
    found = compared(
        cells,
        _records(config.runs),
        metrics=config.metric,
        baseline=config.baseline or names[0],
        against=config.against,
        replicates=config.replicates,
    )
    config.out.mkdir(parents=True)
    found.write(config.out / "comparison.json")
    name = config.out.resolve().name
    found.write_page(config.out / "compare.html", title=f"hilum compare: {name}")
    found.write_leaderboard(config.out / "leaderboard.html", title=f"hilum leaderboard: {name}")
    return config.out


def compared(cells: list[Cell], records: Records, *, metrics: Sequence[str] = (), **how: Any) -> Comparison:
    """Cells of transfer, or of detect, side by side; without metrics, by those that are usual.

    Raises:
        ConfigError: there are both kinds, or a metric is of the other.
    """
    boxed = [cell for cell in cells if (Path(cell.run) / DETECTION).exists()]
    if len(boxed) not in (0, len(cells)):
        raise ConfigError(f"{boxed[0].run} is a run of detect and others are of transfer; compare one kind")
    wrong = [metric for metric in metrics if (metric in COMPARED) != bool(boxed)]
    if wrong:
        kind = "transfer" if boxed else "detect"
        raise ConfigError(f"--metric {wrong[0]} is of runs of {kind}, which these are not")
    if not boxed:
        return compare_cells(cells, records, metrics=metrics or ["auroc"], **how)  # type: ignore[arg-type]
    detected = {
        id(cell): Detected(
            Detections.read(Path(cell.run) / "detections.csv"),
            DetectionReport.read(Path(cell.run) / DETECTION),
        )
        for cell in cells
    }
    return compare_detectors(
        cells, detected, records, metrics=metrics or ["rsna_score", "box_precision"], **how
    )


def cells_of(run: Path, name: str) -> list[Cell]:
    """The cells of a run of transfer: the run itself, if it has one budget of labels and one seed."""
    folders = sorted((run / "cells").iterdir()) if (run / "cells").is_dir() else [run]
    return [_cell(folder, name) for folder in folders]


def _cell(folder: Path, name: str) -> Cell:
    settings = read_yaml(folder / "config.yaml")
    if "label_fraction" not in settings:
        raise ConfigError(f"{folder}: is no run of transfer or detect")
    done: dict[str, Any] = json.loads((folder / DONE).read_text()) if (folder / DONE).exists() else {}
    # A run of several cells has a list of shots, a cell has one of them.
    shots = settings.get("shots", 0)
    return Cell(
        init=name,
        fraction=settings["label_fraction"][0],
        seed=settings["seeds"][0],
        run=str(folder),
        predictions=Predictions.read(folder / "predictions.csv"),
        report={} if (folder / DETECTION).exists() else json.loads((folder / "report.json").read_text()),
        shots=int((shots[0] if shots else 0) if isinstance(shots, list) else shots),
        settings=settings,
        parameters=done.get("parameters"),
    )


def _records(runs: list[Path]) -> Records:
    """The one table that all runs were scored on.

    Raises:
        ConfigError: they were scored on different tables, or the same was read in different ways.
    """
    ways: dict[str, tuple[Path, RecordsConfig]] = {}
    for run in runs:
        path = run / "config.yaml"
        settings = read_yaml(path)
        way = RecordsConfig.build(
            {key: settings[key] for key in RecordsConfig.model_fields if key in settings}, str(path)
        )
        ways[way.model_dump_json()] = (run, way)
    if len(ways) > 1:
        (one, _), (other, _) = list(ways.values())[:2]
        raise ConfigError(
            f"{one} and {other} were scored on different records; only equal ones can be compared"
        )
    ((_, way),) = ways.values()
    return open_records(way, check_files=False)
