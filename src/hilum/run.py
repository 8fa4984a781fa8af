"""The directory that one training leaves on disk, and the only code that writes into it.

Whatever moment the power goes at, a reader meets the old file or the new one (`hilum.durable`). A checkpoint
is a directory whose manifest holds the SHA-256 of its files; it counts only when every hash agrees.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hilum.config import Config, read_yaml
from hilum.durable import remove_partial, sha256, sync, write_atomically, write_error
from hilum.errors import HilumError, OutputError
from hilum.tensorboard import FOLDER, PATTERN, EventWriter

log = logging.getLogger(__name__)

CONFIG, METRICS, DONE, MANIFEST = "config.yaml", "metrics.jsonl", "done.json", "manifest.json"
KEEP = 2
"""Checkpoints on disk at any moment: one flipped bit or a crash while writing costs only the newest."""

# Settings that cannot change what a run computes: a run may be resumed with others.
FREE = frozenset({"out", "workers", "save_minutes", "log_every", "store", "tensorboard"})


@dataclass
class Run:
    """A run directory, locked against a second process while it is open."""

    path: Path
    _lock: int | None = None
    _events: EventWriter | None = None

    @classmethod
    def open(cls, path: Path, config: Config, environment: Mapping[str, Any]) -> Self:
        """Begins a run, or reopens the unfinished one that these same settings began.

        Raises:
            OutputError: the directory holds a run of other settings, something that is no run, or is in use.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{path}: cannot be created: {error.strerror}; give another --out") from None
        run = cls(path)
        run._take_lock()
        try:
            run._check_settings(config)
            if not run.finished:
                remove_partial(path)
            if not (path / CONFIG).exists():
                run.write_json("environment.json", environment)
                run.write(CONFIG, config.to_yaml().encode())
        except BaseException:
            run.close()
            raise
        return run

    def _take_lock(self) -> None:
        lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise OutputError(
                f"{self.path}: another process is writing this run; wait for it or give another --out"
            ) from None
        self._lock = lock

    def _check_settings(self, config: Config) -> None:
        if not (self.path / CONFIG).exists():
            known = {".lock", "environment.json", "cells"}
            foreign = sorted(
                p.name for p in self.path.iterdir() if p.name not in known and not p.name.endswith(".part")
            )
            if foreign:
                raise OutputError(
                    f"{self.path}: holds {foreign[0]!r}, which is no part of a run; give an empty --out"
                )
            return
        now, before = json.loads(config.model_dump_json()), read_yaml(self.path / CONFIG)
        changed = [
            f"{key} is {now.get(key)!r}, was {before.get(key)!r}"
            for key in sorted({*now, *before} - FREE)
            if now.get(key) != before.get(key)
        ]
        if changed:
            state = "finished" if self.finished else "unfinished"
            raise OutputError(
                f"{self.path}: holds a {state} run of other settings ({'; '.join(changed[:5])}). "
                "Give another --out, or the same settings, or remove the directory"
            )

    def close(self) -> None:
        """Lets other processes in."""
        self._end_events()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def finished(self) -> bool:
        """Whether everything the run promised is there; a finished run is never written into."""
        return (self.path / DONE).exists()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Seals the run with the hash of each of its files, then removes the checkpoints."""
        self._end_events()
        files = sorted(p for p in self.path.iterdir() if p.is_file() and not p.name.startswith("."))
        self.write_json(DONE, {**summary, "sha256": {p.name: sha256(p) for p in files}})
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)

    def write(self, name: str, content: bytes) -> Path:
        """Writes one file so that it is never seen half written."""
        write_atomically(self.path / name, content)
        return self.path / name

    def write_json(self, name: str, content: Mapping[str, Any]) -> Path:
        """Writes one JSON file, indented for people."""
        return self.write(name, (json.dumps(content, indent=2, default=str) + "\n").encode())

    def log(self, row: Mapping[str, Any]) -> None:
        """Appends a row to metrics.jsonl, and to TensorBoard's files where they are kept."""
        try:
            with (self.path / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            if self._events is not None:
                self._events.add(row)
        except OSError as error:
            raise write_error(self.path / METRICS, error) from None

    def keep_events(self) -> None:
        """From now on rows go to TensorBoard's files too, after those that metrics.jsonl holds now.

        They are copies, not part of what `finish` seals.

        Raises:
            DependencyError: tensorboard is not installed.
            OutputError: the folder cannot be written to.
            StorageError: the disk is full or failing.
        """
        self._end_events()
        folder = self.path / FOLDER
        try:
            self._events = EventWriter(folder, self.metrics(), begun=any(folder.glob(PATTERN)))
        except OSError as error:
            raise write_error(folder, error) from None

    def _end_events(self) -> None:
        if self._events is not None:
            with contextlib.suppress(OSError):  # each row was flushed when it came: a failure was said then
                self._events.close()
            self._events = None

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        path = self.path / METRICS
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def save_checkpoint(self, step: int, files: Mapping[str, bytes]) -> None:
        """Writes a checkpoint and removes those older than the one before it.

        Raises:
            StorageError: the disk is full or failing; the checkpoints that were there are still good.
        """
        folder = self.path / "checkpoints"
        partial, final = folder / f"{step:09d}.part", folder / f"{step:09d}"
        metrics = self.path / METRICS
        body = {
            "step": step,
            "metrics_bytes": metrics.stat().st_size if metrics.exists() else 0,
            "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        }
        manifest = json.dumps({"manifest": body, "sha256": _hash_of(body)}).encode()
        try:
            for stale in (partial, final):
                shutil.rmtree(stale, ignore_errors=True)
            partial.mkdir(parents=True)
            if metrics.exists():
                sync(metrics)
            for name, content in files.items():
                write_atomically(partial / name, content)
            write_atomically(partial / MANIFEST, manifest)
            partial.rename(final)
            sync(folder)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise write_error(final, error) from None
        except HilumError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        for old in self._checkpoints()[KEEP:]:
            shutil.rmtree(old, ignore_errors=True)

    def load_checkpoint(self, *, cut: bool = True) -> tuple[int, dict[str, bytes]] | None:
        """The newest checkpoint whose every hash agrees, and its step; None if the run has not got so far.

        Rows of metrics.jsonl that were written after it are cut: they will be written again. Of several
        processes one cuts.
        """
        folders = self._checkpoints()
        for folder in folders:
            try:
                sealed = json.loads((folder / MANIFEST).read_text())
                manifest = sealed["manifest"]
                files = {name: (folder / name).read_bytes() for name in manifest["sha256"]}
                wrong = [
                    n
                    for n, content in files.items()
                    if hashlib.sha256(content).hexdigest() != manifest["sha256"][n]
                ]
                wrong += [MANIFEST] if _hash_of(manifest) != sealed["sha256"] else []
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.warning("%s: skipped, not readable (%s)", folder, error)
                continue
            if wrong:
                log.warning(
                    "%s: skipped, %s is damaged (its SHA-256 differs)",
                    folder,
                    wrong[0],
                )
                continue
            if cut:
                self._cut_metrics(manifest["metrics_bytes"])
            return int(manifest["step"]), files
        if folders:
            log.warning("%s: no checkpoint can be read; the run begins anew", self.path)
        if cut:
            self._cut_metrics(0)
        return None

    def _checkpoints(self) -> list[Path]:
        folder = self.path / "checkpoints"
        return (
            sorted((p for p in folder.glob("*") if p.name.isdigit()), reverse=True) if folder.is_dir() else []
        )

    def _cut_metrics(self, size: int) -> None:
        path = self.path / METRICS
        if path.exists() and path.stat().st_size > size:
            write_atomically(path, path.read_bytes()[:size])


def _hash_of(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
