"""What the pixels of one radiograph tell: what is wrong with it, and by what its copies are known.

The limits were set on 6,079 real films of three hospitals (adults and children) and on their inverses: 99.9 %
of the inverses look inverted, and of the films one, which was published so.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from jaxtyping import Float32, UInt8, UInt16
from numpy.typing import NDArray

from hilum.records.burned import LETTERS, writing

THUMB = 32
"""Side of the small square picture by which copies are compared, pixels."""
LEAST_RANGE = 64
"""Grey levels of 256 between the darkest and the brightest thousandth; real films use 134 or more."""
LEAST_LEVELS = 32
"""Distinct grey levels of 256; real films have 158 or more."""
MOST_WHITE = 0.25
"""Share of pixels at the brightest level; real films have 0.03 or less."""
MOST_BLACK = 0.75
"""Share of pixels at the darkest level; real films have 0.44 or less."""
LONGEST = 2.0
"""Longer side over shorter side."""
SMALLEST = 64
"""Shorter side, pixels."""
INVERTED = -0.05
"""Correlation with the chest pattern below which a film looks inverted."""


@dataclass(frozen=True)
class Look:
    """One radiograph, looked at."""

    height: int
    width: int
    sha256: bytes
    """Of shape and 8-bit grey levels: equal pixels, however they are stored."""
    perceptual: int
    """64 signs of the lowest frequencies; see `perceptual_hash`."""
    thumb: UInt8[np.ndarray, "32 32"]
    constant: bool
    problems: tuple[tuple[str, str, str], ...]
    """Kind, what, cure."""


def look(pixels: UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]) -> Look:
    """Looks at grey levels that use the full range of their type."""
    grey = eight_bit(pixels)
    height, width = grey.shape
    digest = hashlib.sha256(f"{height}x{width}\0".encode())
    digest.update(grey.data)
    thumb = cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    constant = bool(grey.min() == grey.max())
    problems = tuple(_problems(grey, thumb, constant))
    return Look(height, width, digest.digest(), perceptual_hash(thumb), thumb, constant, problems)


def eight_bit(pixels: UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """Grey levels from 0 to 255, in rows one after another."""
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    grey: NDArray[np.uint8] = np.rint(pixels / np.float32(257)).astype(np.uint8)  # 65535 / 255 = 257
    return grey


def perceptual_hash(thumb: UInt8[np.ndarray, "32 32"]) -> int:
    """The signs of the 64 lowest frequencies of the cosine transform, without the mean.

    An inverted copy has every bit the other way, a mirrored copy those of `mirror_mask`.
    """
    rows, columns = _frequencies()
    waves = cv2.dct(thumb.astype(np.float32))[rows, columns]
    return int.from_bytes(np.packbits(waves > 0, bitorder="little").tobytes(), "little")


@cache
def mirror_mask() -> int:
    """The bits of a perceptual hash that mirroring turns over: waves that are odd from left to right."""
    _, columns = _frequencies()
    return int.from_bytes(np.packbits(columns % 2 == 1, bitorder="little").tobytes(), "little")


def chest_likeness(thumb: UInt8[np.ndarray, "32 32"]) -> float:
    """Correlation with a bright mediastinum between two dark lungs; negative if the film looks inverted."""
    centred = thumb - np.float32(thumb.mean())
    size = float(np.linalg.norm(centred))
    return float((centred * _chest()).sum()) / size if size else 0.0


def _problems(
    grey: UInt8[np.ndarray, "H W"], thumb: UInt8[np.ndarray, "32 32"], constant: bool
) -> Iterator[tuple[str, str, str]]:
    height, width = grey.shape
    if min(height, width) < SMALLEST:
        yield "small", f"{width} x {height} pixels", "use the file at its original size"
    elif max(height, width) > LONGEST * min(height, width):
        yield (
            "shape",
            f"{width} x {height} pixels",
            "check that it is one whole film, with its sides in proportion",
        )
    if constant:
        yield "constant", f"every pixel is {int(grey[0, 0])}", "replace the file, or leave the row out"
        return
    counts = np.bincount(grey.ravel(), minlength=256)
    below = np.cumsum(counts) / grey.size
    low, high = int(np.searchsorted(below, 0.001)), int(np.searchsorted(below, 0.999))
    levels = int((counts > 0).sum())
    rescale = "export it again with the whole range of its grey levels"
    if high - low < LEAST_RANGE:
        yield "scale", f"uses grey levels {low} to {high} of 255, as 12 bits do in a 16-bit file", rescale
    elif levels < LEAST_LEVELS:
        yield "scale", f"has only {levels} grey levels, as a mask does", "check that it is a radiograph"
    if counts[255] > MOST_WHITE * grey.size:
        yield "scale", f"{counts[255] / grey.size:.0%} of its pixels are at the brightest level", rescale
    if counts[0] > MOST_BLACK * grey.size:
        yield "scale", f"{counts[0] / grey.size:.0%} of its pixels are at the darkest level", rescale
    if (line := writing(grey)).letters >= LETTERS:
        found = f"a line of {line.letters} letters or so in a corner, up to column {line.x}, row {line.y}"
        yield "writing", found, "look at it; blacken what names a patient or a day, in a copy of the file"
    if (likeness := chest_likeness(thumb)) < INVERTED:
        found = f"lungs brighter than the mediastinum (likeness {likeness:.2f})"
        yield (
            "inverted",
            found,
            "look at it; invert it if bone is dark, or leave it if it is no frontal chest film",
        )


@cache
def _frequencies() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows, columns = np.divmod(np.arange(11 * 11), 11)
    lowest = np.lexsort((columns, rows, rows + columns))[1:65]
    return rows[lowest], columns[lowest]


@cache
def _chest() -> Float32[np.ndarray, "32 32"]:
    """Three Gaussian blobs on the unit square: mediastinum and abdomen, minus right lung, minus left lung."""
    y, x = (np.mgrid[:THUMB, :THUMB] + 0.5) / THUMB

    def blob(cx: float, cy: float, sx: float, sy: float) -> NDArray[np.float64]:
        values: NDArray[np.float64] = np.exp(-(((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2) / 2)
        return values

    pattern = blob(0.5, 0.6, 0.1, 0.25) - 0.5 * blob(0.28, 0.4, 0.1, 0.15) - 0.5 * blob(0.72, 0.4, 0.1, 0.15)
    pattern -= pattern.mean()
    return (pattern / np.linalg.norm(pattern)).astype(np.float32)
