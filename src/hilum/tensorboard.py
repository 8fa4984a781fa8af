"""TensorBoard's event files: what metrics.jsonl holds, written beside it as it comes, and old logs read.

Nothing of TensorBoard is imported before it is asked for: it is the extra `tensorboard`.
"""

import importlib.util
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hilum.errors import DependencyError, MissingError

FOLDER = "tensorboard"
"""Where event files lie in a run."""
PATTERN = "*tfevents*"


def require_tensorboard(wanted: str = "--tensorboard") -> None:
    """Says at once what is missing, and not when hours of decoding are over.

    Raises:
        DependencyError: tensorboard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise DependencyError(f"{wanted} needs an optional package: pip install hilum[tensorboard]")


class EventWriter:
    """Writes rows of metrics.jsonl as scalars; every row can be seen at once."""

    def __init__(self, folder: Path, before: Sequence[Mapping[str, Any]], *, begun: bool) -> None:
        """Goes on after the rows that are kept, `before`; what was written after them is hidden.

        Where nothing was begun here, those rows are written first.
        """
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._steps: dict[str, int] = {}
        last = max((int(row["step"]) for row in before), default=-1)
        self._writer = SummaryWriter(str(folder), purge_step=last + 1 if begun else None)
        for row in () if begun else before:
            self._add(row)
        self._writer.flush()

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes a row; what is no number is left to metrics.jsonl."""
        self._add(row)
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()

    def _add(self, row: Mapping[str, Any]) -> None:
        step = int(row["step"])
        for name, value in row.items():
            # The row of validation repeats the learning rate of its step.
            if name != "step" and isinstance(value, bool | int | float) and self._steps.get(name) != step:
                self._writer.add_scalar(name, float(value), step)
                self._steps[name] = step


class Scalar(NamedTuple):
    """One number that was logged; the epoch is NaN where none was."""

    step: int
    epoch: float
    name: str
    value: float


@dataclass(frozen=True)
class Events:
    """The scalars of a log, and how many bytes at the ends of its files could not be read."""

    scalars: list[Scalar]
    unread: int


def event_folders(folder: Path) -> list[Path]:
    """The folders in which event files lie, itself included, in order."""
    return sorted({path.parent for path in folder.rglob(PATTERN) if path.is_file()})


def read_events(log: Path) -> Events:
    """The scalars of an event file, or of all event files of a folder, by name and step.

    Steps that a resumed run wrote again count once: as it wrote them last.

    Raises:
        DependencyError: tensorboard is not installed.
        MissingError: there is no event file.
    """
    require_tensorboard(f"{log}: reading a TensorBoard log")
    from tensorboard.backend.event_processing import event_accumulator  # type: ignore[import-untyped]

    files = [log] if log.is_file() else sorted(path for path in log.glob(PATTERN) if path.is_file())
    if not files:
        raise MissingError(f"{log}: no TensorBoard log ({PATTERN}) is there")
    logging.getLogger("tensorboard").setLevel(logging.WARNING)  # it tells of each end of a file
    unread = sum(map(_unread, files))
    everything = event_accumulator.STORE_EVERYTHING_SIZE_GUIDANCE
    accumulator = event_accumulator.EventAccumulator(str(log), size_guidance=everything)
    accumulator.Reload()
    found: dict[str, dict[int, float]] = {}
    for name, step, value in _values(accumulator):
        found.setdefault(name, {})[step] = value
    epochs = found.pop("epoch", {})
    scalars = [
        Scalar(step, epochs.get(step, math.nan), name, value)
        for name, values in found.items()
        for step, value in sorted(values.items())
    ]
    return Events(scalars, unread)


def _values(accumulator: Any) -> Iterator[tuple[str, int, float]]:
    from tensorboard.util.tensor_util import make_ndarray  # type: ignore[import-untyped]

    for name in accumulator.Tags()["scalars"]:
        for event in accumulator.Scalars(name):
            yield name, event.step, event.value
    for name in accumulator.Tags()["tensors"]:  # how TensorFlow 2 writes scalars
        if accumulator.SummaryMetadata(name).plugin_data.plugin_name == "scalars":
            for event in accumulator.Tensors(name):
                yield name, event.step, float(make_ndarray(event.tensor_proto))


def _unread(file: Path) -> int:
    """Bytes after the last whole event: a writer that was killed leaves some, and so does a damaged file."""
    from tensorboard.backend.event_processing import event_file_loader

    framing = 16  # bytes around an event: its length, and the checksums of both
    events = event_file_loader.RawEventFileLoader(str(file)).Load()
    return file.stat().st_size - sum(len(event) + framing for event in events)
