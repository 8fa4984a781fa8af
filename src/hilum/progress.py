"""The one progress line: what is being done, how far, how fast, and when it will be done."""

import sys
import time
from types import TracebackType
from typing import Self, TextIO

PATIENCE = 2.0
"""Seconds of silence: what is done by then needs no progress line."""
PLAIN_EVERY = 30.0
"""Seconds between lines where the output is no terminal."""


class Progress:
    """A line on stderr, rewritten in place on a terminal and repeated every 30 seconds elsewhere.

    >>> with Progress("Decoding", 2, unit="images") as line:
    ...     line.update(1)
    """

    def __init__(
        self, what: str, total: int, *, unit: str = "", done: int = 0, stream: TextIO | None = None
    ) -> None:
        """Begins at `done` of `total`, of which only what comes after counts for the speed."""
        self.what, self.total, self.unit = what, total, unit
        self._first = self._done = done
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._start = time.monotonic()
        self._shown = self._start + PATIENCE - (0.2 if self._terminal else PLAIN_EVERY)
        self._width = 0

    def update(self, done: int, **facts: str) -> None:
        """Shows how far it is, and named facts such as `loss="0.31"`, if it is time to."""
        self._done = done
        now = time.monotonic()
        if now - self._shown < (0.2 if self._terminal else PLAIN_EVERY):
            return
        self._shown = now
        speed = (done - self._first) / (now - self._start)
        parts = [
            f"{self.what} {done:,}/{self.total:,} {self.unit}".rstrip(),
            *(f"{k} {v}" for k, v in facts.items()),
        ]
        if speed > 0:
            left = (self.total - done) / speed
            clock = time.strftime("%H:%M", time.localtime(time.time() + left))
            parts.append(f"{left_words(left)} left, done at {clock}")
        self._show(" · ".join(parts))

    def _show(self, text: str) -> None:
        if self._terminal:
            self._stream.write("\r" + text.ljust(self._width)[:200])
            self._width = len(text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()


def left_words(seconds: float) -> str:
    """A duration as people say it.

    >>> left_words(42), left_words(200), left_words(9000)
    ('42 s', '3 min 20 s', '2 h 30 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
