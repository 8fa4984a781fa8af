"""What a pretraining would take, found out from two batches; no run is written."""

import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilum.commands._pretext import Trainable, open_loader, open_partners, open_task
from hilum.errors import RecordsError
from hilum.images.fill import digest_of
from hilum.images.store import Store, build_store
from hilum.progress import left_words
from hilum.records.table import Records
from hilum.train.loop import planned_steps
from hilum.train.rehearsal import Rehearsal

if TYPE_CHECKING:
    from hilum.commands.pretrain import Settings

log = logging.getLogger(__name__)

BATCHES = 2
"""The first pays for what happens once: it is not timed."""


@dataclass(frozen=True)
class _Films:
    """The store of all radiographs, or of as many as two batches need."""

    records: Records
    store: Store
    complete: bool
    unreadable: int
    bytes_in_all: int
    seconds_in_all: float


def dry_run(config: "Settings", trainable: Trainable) -> list[str]:
    """Takes two steps as the run would, with everything built, and says in lines what all of them would take.

    Raises:
        RecordsError: none of the radiographs looked at can be read.
    """
    records = trainable.records
    partners = open_partners(config, records)
    with _films(config, records) as films:
        task = open_task(config, records)
        ahead = config.model_copy(update={"workers": 0})
        pairs = partners if films.complete and not films.unreadable else None
        loader = open_loader(ahead, task, films.records, films.store, partners=pairs)
        rehearsal, batches = Rehearsal(task, config), loader.batches(0, BATCHES)
        for _ in range(BATCHES):
            start = time.monotonic()
            batch = next(batches)
            preparing = time.monotonic() - start
            rehearsal.step(batch, lr=config.lr)
    computing, workers = rehearsal.seconds, config.workers
    seconds = max(computing, preparing / workers) if workers else computing + preparing
    steps = planned_steps(config, len(records))
    device = rehearsal.device.type
    where = "this process" if device == "cpu" else f"the {device}"
    rows = {
        "radiographs": _radiographs(config, trainable, films),
        "memory": f"{_size(rehearsal.peak_memory())} of {where} at most",
        "one step": f"{seconds:.3g} s for {config.batch_size} radiographs: computing {computing:.3g} s, "
        f"preparing a batch {preparing:.3g} s of one process (--workers {workers})",
        "whole run": f"{steps:,} steps, {left_words(seconds * steps)}",
        "store": _store(config, films),
        "checkpoints": f"{_size(rehearsal.checkpoint_bytes())} while the run lasts",
        "weights": _size(rehearsal.weights_bytes()),
        "disk": _disk(config.out, rehearsal.checkpoint_bytes() + rehearsal.weights_bytes()),
    }
    width = max(map(len, rows)) + 2
    return ["Dry run: nothing was written.", *(f"{name.ljust(width)}{said}" for name, said in rows.items())]


@contextmanager
def _films(config: "Settings", records: Records) -> Iterator[_Films]:
    """Films to take two batches from: the store if it is there, or a passing one of some radiographs."""
    images = records.table["image"].tolist()
    unique = list(dict.fromkeys(images))
    folder = config.store.expanduser() / "images"
    path = folder / digest_of(unique, config.store_size, "keep")
    if (path / "meta.json").is_file():
        store = build_store(
            images, folder=folder, size=config.store_size, exclude_unreadable=config.exclude_unreadable
        )
        kept, unreadable = _readable(records, store)
        yield _Films(kept, store, True, unreadable, (path / "pixels.u8").stat().st_size, 0.0)
        return
    count = min(len(records), BATCHES * config.batch_size)
    some = records.take(np.linspace(0, len(records) - 1, count).astype(np.int64))
    with tempfile.TemporaryDirectory() as passing:
        start = time.monotonic()
        store = build_store(
            some.table["image"].tolist(),
            folder=Path(passing),
            size=config.store_size,
            exclude_unreadable=True,
            quiet=True,
        )
        share = len(unique) / count
        seconds = (time.monotonic() - start) * share
        kept, unreadable = _readable(some, store)
        if not len(kept):
            raise RecordsError(
                f"{config.records}: none of the {count} radiographs that a dry run looked at can be read; "
                "`hilum records check` says why"
            )
        size = (store.path / "pixels.u8").stat().st_size
        yield _Films(kept, store, False, unreadable, round(size * share), seconds)


def _readable(records: Records, store: Store) -> tuple[Records, int]:
    unreadable = records.table["image"].isin(list(store.excluded)).to_numpy()
    return records.take(~unreadable), int(unreadable.sum())


def _radiographs(config: "Settings", trainable: Trainable, films: _Films) -> str:
    records = trainable.records
    said = f"{len(records):,} of {records.table['patient'].nunique():,} patients"
    out = [f"{count:,} {reason}" for reason, count in trainable.left_out.items()]
    said += f"; left out: {', '.join(out)}" if out else "; none left out"
    if films.unreadable:
        fate = "left out" if config.exclude_unreadable else "an error: --exclude-unreadable leaves them out"
        seen = len(films.records) + films.unreadable
        said += f"; {films.unreadable:,} of the {seen:,} looked at are unreadable, {fate}"
    return said


def _store(config: "Settings", films: _Films) -> str:
    if films.complete:
        return f"{_size(films.bytes_in_all)}, is there already"
    free = shutil.disk_usage(_existing(config.store.expanduser())).free
    full = "; THE DISK IS TOO FULL" if free < films.bytes_in_all else ""
    return (
        f"about {_size(films.bytes_in_all)} of {_size(free)} free, to be made once in about "
        f"{left_words(films.seconds_in_all)}{full}"
    )


def _disk(out: Path, needed: int) -> str:
    free = shutil.disk_usage(_existing(out)).free
    return f"{_size(free)} free where the run is written{'; TOO LITTLE' if free < needed else ''}"


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(parent for parent in (path, *path.parents) if parent.exists())


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MiB"
