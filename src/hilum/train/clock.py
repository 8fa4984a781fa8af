"""How fast the loop goes, and what it waits for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Time since the last row, how much of it was waiting for data, and when to save next."""

    def __init__(self, save_minutes: float) -> None:
        """Starts all of its watches."""
        self._save_seconds = save_minutes * 60
        self._saved = self._start = time.monotonic()
        self._waited = 0.0
        self._images = 0
        self._facts: dict[str, float] = {}

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The time inside is waiting for data."""
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start

    def count(self, images: int) -> None:
        """Counts images that were trained on."""
        self._images += images

    def facts(self) -> dict[str, float]:
        """Images per second and share of waiting since the last call; starts both anew."""
        now = time.monotonic()
        seconds = max(now - self._start, 1e-9)
        self._facts = {
            "images_per_second": round(self._images / seconds, 1),
            "data_wait": round(self._waited / seconds, 4),
        }
        self._start, self._waited, self._images = now, 0.0, 0
        return self._facts

    def words(self) -> dict[str, str]:
        """The last facts, for the progress line."""
        return {
            "images/s": f"{self._facts.get('images_per_second', 0):.0f}",
            "data wait": f"{self._facts.get('data_wait', 0):.1%}",
        }

    def save_due(self) -> bool:
        """Whether the last checkpoint is older than asked."""
        return time.monotonic() - self._saved >= self._save_seconds

    def saved(self) -> None:
        """A checkpoint was written now."""
        self._saved = time.monotonic()
