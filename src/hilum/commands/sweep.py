"""hilum sweep: one command many times, over settings that differ; what is best is said by validation."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, NonNegativeInt, PositiveInt

from hilum.commands._sweep_axes import axes_of
from hilum.commands._sweep_cells import Maker, SweepCell, refuse_equal_names
from hilum.commands._sweep_loop import Loop
from hilum.commands._sweep_places import Here, OnRay
from hilum.commands._sweep_results import conclude
from hilum.commands._sweep_scores import SCORED, VAL_AUROC, VAL_BOXES, lower_is_better, records_of
from hilum.commands._sweep_study import Listed, Study, Tpe, corners, draws, grid
from hilum.config import Config
from hilum.durable import write_atomically
from hilum.errors import ConfigError, HilumError, Interrupted, OutputError, RecordsError
from hilum.find import did_you_mean

EXAMPLE = (
    "hilum sweep transfer --records films.csv --axes init=random,runs/simclr seeds=0,1,2 --out runs/sweep"
)
TAKES = "command"


class Settings(Config):
    """Runs a command for every combination of settings, and says which is best on the validation split.

    Every combination is a run of its own in a process of its own: one that fails is listed with its reason
    and stops nothing. The same command again skips what is finished and goes on with the rest. Starting a
    process takes some seconds; fractions and seeds of a logistic fit are quicker within each run, as --set
    label_fraction=0.1,1 seeds=0,1,2. In a YAML file the settings of the command stand beside these.
    """

    model_config = ConfigDict(extra="allow")

    command: Literal["transfer", "pretrain", "detect"]
    """What is run many times."""
    axes: dict[str, Any]
    """What is varied: NAME=A,B,C is a list, NAME=LOW..HIGH a range, NAME=LOW..HIGH:log one by ratios. In YAML
    a list, a mapping with low, high and log, or names for several settings each: {none: {init: random}}."""
    out: Path
    """Folder of the sweep: a run for each combination in cells, sweep.csv, sweep.html, and where
    initialisations, fractions or seeds are compared, compare.html and leaderboard.html."""
    records: Path | None = None
    """The table of radiographs, for every run."""
    set: dict[str, Any] = {}
    """Settings that all runs share, for example arch=resnet50 steps=500."""
    then: dict[str, Any] = {}
    """After each pretraining, a transfer from it with these settings, for example fit=logistic: its
    validation is what the pretraining is judged by. Table, store and device are those of the pretraining."""
    search: Literal["grid", "random", "tpe"] = "grid"
    """grid: every combination. random: drawn. tpe: proposed by Optuna from those before; a fit that is worse
    at a validation than the median of the others is stopped (logistic fits have none to watch)."""
    trials: NonNegativeInt = 0
    """How many combinations random and tpe try."""
    search_seed: NonNegativeInt = 0
    """Of what random and tpe draw."""
    objective: str = ""
    """The validation metric to choose by; the lowest is best if its name ends in loss. Empty: val_auroc after
    a transfer, val_box_precision of a detector, knn_auroc of a pretraining with watch_finding, or none."""
    parallel: PositiveInt = 1
    """Runs at a time; they share the processor's cores."""
    spread: Literal["here", "ray"] = "here"
    """here: on this machine. ray: as tasks of a Ray cluster whose machines share the folders (RAY_ADDRESS
    names it; without it, one of this machine), each with a GPU where there are any."""


def sweep(config: Settings) -> Path:
    """Runs what is not finished yet, writes the table and the pages, and returns the folder.

    Raises:
        ConfigError: any cell's settings are wrong; nothing was run.
        Interrupted: the sweep was asked to stop; its cells saved.
        HilumError: some cells failed; all others are done.
    """
    from hilum.train.stop import stop_signals  # torch: not before settings are known to be right

    maker, cells = plan(config)
    objective = objective_of(config)
    _check_records([cell for cell in cells if config.search != "tpe"] or cells)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, cores // config.parallel)
    with _folder(config), stop_signals() as stop:
        study: Study = Listed(cells)
        if config.search == "tpe":
            minimise = lower_is_better(objective)
            study = Tpe(maker, config.trials, seed=config.search_seed, minimise=minimise)
        place = OnRay(config.parallel, threads) if config.spread == "ray" else Here()
        try:
            loop = Loop(study, place, config.out, objective, parallel=config.parallel, threads=threads)
            rows = loop.run(stop)
        finally:
            if isinstance(place, OnRay):
                place.close()
        conclude(rows, loop.cells, maker.axes, config, objective)
    if stop.code:
        raise Interrupted(
            f"{config.out}: stopped, and what ran was saved; the same command goes on from here", stop.code
        )
    failed = [row for row in rows if row.status == "failed"]
    if failed:
        error = HilumError(
            f"{config.out}: {len(failed)} of {len(rows)} runs failed; the reasons are in sweep.csv, "
            "all that they said in logs. The same command tries them again"
        )
        codes = {row.exit_code for row in failed}
        error.exit_code = codes.pop() if len(codes) == 1 and min(codes) > 0 else 1
        raise error
    return config.out


def objective_of(config: Settings) -> str:
    """The validation metric by which cells are ranked; empty: none."""
    if config.objective or config.command == "transfer" or config.then:
        return config.objective or VAL_AUROC
    if config.command == "detect":
        return VAL_BOXES
    return "knn_auroc" if base_of(config).get("watch_finding") else ""


def base_of(config: Settings) -> dict[str, Any]:
    """The settings that all cells share."""
    records = {} if config.records is None else {"records": config.records}
    flags = {name.replace("-", "_"): value for name, value in config.set.items()}
    return {**(config.model_extra or {}), **records, **flags}


def plan(config: Settings) -> tuple[Maker, list[SweepCell]]:
    """The cells of a sweep, all of them valid; of tpe, those at the corners of its space.

    Raises:
        ConfigError: an axis or any cell's settings are wrong; all that is wrong is in the message.
    """
    wrong: list[str] = []
    axes = axes_of(config.axes, wrong)
    maker = Maker(config.command, base_of(config), config.then, config.out, axes, wrong)
    _check_search(config, maker)
    _check_base(config, maker)
    if not wrong and config.search == "grid":
        picks = list(grid(axes))
    elif not wrong and config.search == "random":
        picks = draws(maker, config.trials, seed=config.search_seed)
    else:  # or, where something is wrong already: what else is
        picks = list(corners(maker))
    cells = [cell for cell in map(maker.cell, picks) if cell is not None]
    refuse_equal_names(cells, wrong)
    if wrong:
        raise ConfigError("\n".join(wrong))
    return maker, cells


def _check_search(config: Settings, maker: Maker) -> None:
    ranges = [axis.name for axis in maker.axes if axis.range is not None]
    if config.search == "grid" and ranges:
        maker.wrong.append(
            f"axes.{ranges[0]} is a range, and a grid needs a list; give values, or --search random or tpe"
        )
    if config.search == "grid" and config.trials:
        maker.wrong.append("--trials is for --search random and tpe; a grid runs every combination")
    if config.search != "grid" and not config.trials:
        maker.wrong.append(f"--search {config.search} needs --trials, how many combinations it tries")
    if config.search == "tpe" and not objective_of(config):
        maker.wrong.append(
            "--search tpe of pretrainings needs what to judge them by: --then fit=logistic, or --set "
            "watch_finding=FINDING, or --objective"
        )
    if config.objective.startswith("test"):
        maker.wrong.append(f"--objective is {config.objective!r}; the test split chooses nothing")
    if config.then and config.command != "pretrain":
        maker.wrong.append("--then is a transfer after each pretraining; it is for hilum sweep pretrain")


def _check_base(config: Settings, maker: Maker) -> None:
    known = maker.fields()
    for name in maker.base:
        if name not in known:
            near = did_you_mean(name, [*known, *Settings.model_fields])
            maker.wrong.append(f"{maker.called} has no setting {name!r}, nor has sweep{near}")
    maker.base = {name: value for name, value in maker.base.items() if name in known}
    for name in ("out", "init"):
        if name in config.then:
            maker.wrong.append(f"then.{name} is the sweep's to say; leave it out")
    maker.check_names()


def _check_records(cells: list[SweepCell]) -> None:
    """Reads each table once, before hours are spent.

    Raises:
        RecordsError: a table has defects, or no split that keeps a pretraining from the test radiographs.
    """
    for cell in cells:
        last = cell.stages[-1].config
        if cell.stages[-1].command not in SCORED:
            return
        records = records_of(last)
        if len(cell.stages) == 1:
            continue
        if set(records.table["split"]) == {""}:
            raise RecordsError(
                f"{last.model_dump()['records']}: has no split, so the pretraining would see what the "
                "transfer is scored on; make one with `hilum records split`"
            )


@contextmanager
def _folder(config: Settings) -> Iterator[None]:
    """The sweep's folder, locked against a second sweep, with its settings in it."""
    out = config.out
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; give another --out")
    if out.is_dir() and any(out.iterdir()) and not (out / "sweep.yaml").exists():
        raise OutputError(f"{out}: holds something that is no sweep; give another --out")
    out.mkdir(parents=True, exist_ok=True)
    lock = os.open(out / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise OutputError(
            f"{out}: another process runs this sweep; wait for it or give another --out"
        ) from None
    try:
        write_atomically(out / "sweep.yaml", config.to_yaml().encode())
        yield
    finally:
        os.close(lock)
