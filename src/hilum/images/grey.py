"""From stored DICOM values to grey levels: modality, then window, then inversion, as one table of levels.

A film has at most 65,536 stored values however many pixels, so the whole chain (PS3.3 C.11.1, C.11.2 and
C.7.6.3.1.2) is worked out once per stored value in double precision, rounded once, and looked up per pixel.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from hilum.errors import ImageError

Levels = npt.NDArray[np.uint8 | np.uint16]
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Lut:
    """A table that a file carries in place of a formula."""

    first: int
    """The input that maps to the first entry; inputs outside take the nearest entry."""
    entries: npt.NDArray[np.uint16]
    bits: int
    """How many bits an entry uses."""

    def __call__(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The entry of each value."""
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.int64)
        return np.asarray(self.entries[index], np.float64)


@dataclass(frozen=True)
class Window:
    """The range of values that is shown between black and white."""

    centre: float
    width: float
    function: Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"] = "LINEAR"

    def __call__(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """0 (black) to 1 (white), PS3.3 C.11.2.1.2 and C.11.2.1.3."""
        if self.function == "SIGMOID":
            exponent = np.clip(-4 * (values - self.centre) / self.width, -700, 700)
            return np.asarray(1 / (1 + np.exp(exponent)))
        if self.function == "LINEAR_EXACT":
            return np.clip((values - self.centre) / self.width + 0.5, 0, 1)
        if self.width == 1:
            return (values > self.centre - 0.5).astype(np.float64)
        return np.clip((values - (self.centre - 0.5)) / (self.width - 1) + 0.5, 0, 1)

    @property
    def is_usable(self) -> bool:
        """Whether the function is defined for this width."""
        return self.width >= (1 if self.function == "LINEAR" else 1e-6)


@dataclass(frozen=True)
class GreyScale:
    """How a file's stored values are meant to be shown."""

    bits: int
    """Bits stored, at most 16."""
    is_signed: bool = False
    modality: Lut | None = None
    slope: float = 1.0
    intercept: float = 0.0
    voi: Lut | Window | None = None
    invert: bool = False
    """Whether the least value is white (MONOCHROME1)."""
    padding: tuple[int, int] | None = None
    """First and last stored value, of either order, that mark pixels outside the film."""

    def stored(self) -> npt.NDArray[np.float64]:
        """The value behind each pattern of the stored bits."""
        values = np.arange(1 << self.bits, dtype=np.float64)
        if self.is_signed:
            values[len(values) // 2 :] -= len(values)
        return values

    def is_padding(self) -> npt.NDArray[np.bool_]:
        """Which patterns mark pixels outside the film."""
        values = self.stored()
        if self.padding is None:
            return np.zeros(len(values), np.bool_)
        low, high = sorted(self.padding)
        return (values >= low) & (values <= high)


def grey_levels(patterns: Levels, scale: GreyScale) -> Levels:
    """Grey levels over the full range of uint8 (at most 8 stored bits) or uint16; padding is black.

    Where the file says neither table nor window, deeper films show the 0.5th to the 99.5th percentile of the
    film inside its padding; 8-bit films are shown as they are, for they were made to be displayed. A window
    that blanks a film that has contrast is a mistake of its header and counts as none.
    """
    padding = scale.is_padding()
    voi = scale.voi
    if voi is None and scale.bits > 8:
        return look_up(patterns, _table(scale, _percentiles(patterns, scale, padding), padding))
    levels = look_up(patterns, _table(scale, voi, padding))
    if isinstance(voi, Window) and _is_flat(levels, patterns, padding):
        return grey_levels(patterns, replace(scale, voi=None))
    return levels


def look_up(patterns: Levels, table: Levels) -> Levels:
    """The table's level of each pixel, none of which may lie outside the table.

    In blocks, for numpy widens an index to eight bytes, which for a whole film is 100 MB and more; and with
    `mode="clip"`, for with its default numpy buffers `out` (measured: 6 times slower).
    """
    if patterns.dtype == table.dtype and np.array_equal(table, np.arange(len(table))):
        return patterns.copy()
    levels = np.empty(patterns.shape, table.dtype)
    source, target = patterns.reshape(-1), levels.reshape(-1)
    for start in range(0, source.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        np.take(table, source[block], out=target[block], mode="clip")
    return levels


def _values(scale: GreyScale) -> npt.NDArray[np.float64]:
    """What each pattern of bits means after the modality's table or rescaling."""
    stored = scale.stored()
    if scale.modality is not None:
        return scale.modality(stored)
    return stored * scale.slope + scale.intercept


def _table(scale: GreyScale, voi: Lut | Window | None, padding: npt.NDArray[np.bool_]) -> Levels:
    values = _values(scale)
    if voi is None:
        shown = (values - values.min()) / max(float(np.ptp(values)), 1e-300)
    elif isinstance(voi, Lut):
        # entries above the declared bits occur; the range must hold them
        shown = voi(values) / max((1 << voi.bits) - 1, int(voi.entries.max()))
    else:
        shown = voi(values)
    if scale.invert:
        shown = 1 - shown
    shown[padding] = 0
    dtype = np.uint8 if scale.bits <= 8 else np.uint16
    return np.asarray(np.rint(shown * np.iinfo(dtype).max), dtype)


def _percentiles(patterns: Levels, scale: GreyScale, padding: npt.NDArray[np.bool_]) -> Window:
    """A window between the least values that 0.5 % and 99.5 % of the pixels do not exceed."""
    counts = np.zeros(1 << scale.bits, np.int64)
    flat = patterns.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        counts += np.bincount(flat[start : start + _BLOCK], minlength=counts.size)
    counts[padding] = 0
    values = _values(scale)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(counts[order])
    if reached[-1] == 0:
        raise ImageError("every pixel is marked as padding: there is no film in it")
    low, high = (values[order[np.searchsorted(reached, reached[-1] * q)]] for q in (0.005, 0.995))
    return Window(float(low + high) / 2, max(float(high - low), 1e-9), "LINEAR_EXACT")


def _is_flat(levels: Levels, patterns: Levels, padding: npt.NDArray[np.bool_]) -> bool:
    """Whether a film that has contrast lost all of it."""
    if padding.any():
        inside = ~padding[patterns]
        levels, patterns = levels[inside], patterns[inside]
    return bool(levels.size and levels.min() == levels.max() and patterns.min() != patterns.max())
