"""One line on stderr that says how far a long task is and when it ends."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

SILENT_SECONDS = 2.0
"""A task that is over sooner shows nothing."""

LINE_SECONDS = 10.0
"""Time between lines where stderr is no terminal."""


class Progress:
    """A bar on a terminal, now and then a plain line elsewhere; nothing for what takes less than two seconds.

    `done` and `update` count what is finished, including what an earlier attempt finished.
    """

    def __init__(
        self, total: int, done: int = 0, *, doing: str = "decoding radiographs", quiet: bool = False
    ) -> None:
        self.total = total
        self.doing = doing
        self.quiet = quiet
        self._first = done
        self._begun = time.monotonic()
        self._next_line = self._begun + SILENT_SECONDS
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int) -> None:
        """Shows that `done` of the total are finished."""
        now = time.monotonic()
        if self.quiet or now < self._begun + SILENT_SECONDS:
            return
        if sys.stderr.isatty():
            self._draw(done)
        elif now >= self._next_line:
            self._next_line = now + LINE_SECONDS
            sys.stderr.write(self.line(done, now - self._begun) + "\n")
            sys.stderr.flush()

    def line(self, done: int, seconds: float) -> str:
        """The plain line after so many seconds.

        >>> Progress(1000, done=100).line(300, seconds=10.0)
        'decoding radiographs: 300/1000, 20.0/s, 0:35 left'
        """
        rate = (done - self._first) / max(seconds, 1e-9)
        left = f"{_clock((self.total - done) / rate)} left" if rate > 0 else "time left unknown"
        return f"{self.doing}: {done}/{self.total}, {rate:.1f}/s, {left}"

    def _draw(self, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        if self._bar is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self.doing, total=self.total)
            self._bar.start()
        assert self._task is not None
        self._bar.update(self._task, completed=done)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
