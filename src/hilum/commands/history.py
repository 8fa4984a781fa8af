"""hilum history: what runs logged while they trained, as one table and as curves."""

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from hilum.config import Config
from hilum.durable import write_atomically
from hilum.errors import ConfigError, MissingError, OutputError
from hilum.find import did_you_mean
from hilum.records.defects import listed
from hilum.records.writing import write_csv
from hilum.report.overlay import Points, overlay
from hilum.run import METRICS
from hilum.tensorboard import FOLDER, Scalar, event_folders, read_events

EXAMPLE = "hilum history runs/simclr runs/moco --out history.csv --plot loss rankme"
TAKES = "runs"

log = logging.getLogger(__name__)


class Settings(Config):
    """Gathers what runs logged while they trained, or old TensorBoard logs, in one table."""

    runs: list[Path]
    """Runs, finished or not, folders of runs, or TensorBoard logs: a folder, or an event file."""
    out: Path
    """The table that is written: run, step, epoch, name, value. It must not exist."""
    plot: list[str] = []
    """Names to draw as curves, into a PNG beside the table."""


@dataclass
class Log:
    """What one run logged, and what of its file could not be read."""

    run: str
    scalars: list[Scalar] = field(default_factory=list)
    unread: str = ""


def history(config: Settings) -> Path:
    """Writes the table, and the figure where names are asked for; returns the table's path."""
    picture = config.out.with_suffix(".png")
    for path in (config.out, *([picture] if config.plot else [])):
        if path.exists():
            raise OutputError(f"{path}: is there already; give another --out or remove it")
    logs = [one for source in config.runs for one in read(source, _name(source, config.runs))]
    for one in logs:
        if one.unread:
            log.warning("%s: %s", one.run, one.unread)
    table = table_of(logs)
    if table.empty:
        raise MissingError(f"{listed(map(str, config.runs))}: nothing was logged there yet")
    curves = {name: _curves(table, name) for name in config.plot}
    write_csv(table, config.out)
    if curves:
        write_atomically(picture, overlay(curves))
    log.info("%d runs, %d numbers", table["run"].nunique(), len(table))
    return config.out


def read(source: Path, name: str) -> list[Log]:
    """The logs at a path: a run's own, those of the runs below a folder, or TensorBoard's.

    Raises:
        MissingError: none is there.
    """
    if source.is_file():
        return [read_rows(source, name)] if source.suffix == ".jsonl" else [_read_events(source, name)]
    if not source.is_dir():
        raise MissingError(f"{source}: no such run or log")
    files = sorted(source.rglob(METRICS))
    ours = {file.parent / FOLDER for file in files}  # copies of what metrics.jsonl holds
    logs = [read_rows(file, _below(source, file.parent, name)) for file in files]
    logs += [
        _read_events(folder, _below(source, folder, name))
        for folder in event_folders(source)
        if folder not in ours
    ]
    if not logs:
        raise MissingError(
            f"{source}: neither {METRICS} nor a TensorBoard log is there or below; a run of transfer by "
            "logistic regression logs no steps"
        )
    return logs


def read_rows(file: Path, name: str) -> Log:
    """The rows of a metrics.jsonl; lines that are cut short or damaged are left out, counted, and said."""
    found: dict[tuple[int, str], Scalar] = {}  # the row of validation repeats the learning rate of its step
    wrong = []
    lines = file.read_bytes().rstrip(b"\n").split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            step, epoch = int(row["step"]), float(row.get("epoch", math.nan))
        except (ValueError, KeyError, TypeError):
            wrong.append(number)
            continue
        for key, value in row.items():
            if key not in ("step", "epoch") and isinstance(value, bool | int | float):
                found[step, key] = Scalar(step, epoch, key, float(value))
    unread = ""
    if wrong:
        which = "the last line is cut short" if wrong == [len(lines)] else f"the first is line {wrong[0]}"
        unread = (
            f"{len(wrong)} of {len(lines)} lines of {METRICS} could not be read and are left out ({which})"
        )
    return Log(name, list(found.values()), unread)


def _read_events(log_: Path, name: str) -> Log:
    events = read_events(log_)
    unread = f"{events.unread:,} bytes after the last whole event could not be read and are left out"
    return Log(name, events.scalars, unread if events.unread else "")


def table_of(logs: list[Log]) -> pd.DataFrame:
    """One row per number: run, step, epoch (empty where none was logged), name and value, as text."""
    rows = [
        (one.run, s.step, "" if math.isnan(s.epoch) else f"{s.epoch:g}", s.name, repr(s.value))
        for one in logs
        for s in one.scalars
    ]
    return pd.DataFrame(rows, columns=["run", "step", "epoch", "name", "value"])


def _curves(table: pd.DataFrame, name: str) -> dict[str, Points]:
    mine = table[table["name"] == name]
    if mine.empty:
        known = sorted(set(table["name"]))
        near = did_you_mean(name, known)
        raise ConfigError(
            f"--plot {name}: nothing was logged under it{near or '; there are ' + listed(known)}"
        )
    values = mine["value"].astype(float)
    return dict(_points(mine.assign(value=values)))


def _points(mine: pd.DataFrame) -> Iterator[tuple[str, Points]]:
    for run, rows in mine.groupby("run", sort=False):
        yield str(run), list(zip(rows["step"].tolist(), rows["value"].tolist(), strict=True))


def _name(source: Path, sources: list[Path]) -> str:
    """The name of a run's folder, or its path where two folders are called the same."""
    names = [one.resolve().name for one in sources]
    own = source.resolve().name
    return own if names.count(own) == 1 else str(source)


def _below(source: Path, folder: Path, name: str) -> str:
    return name if folder == source else f"{name}/{folder.relative_to(source)}"
