"""From attenuation to a film: exposure, each site's processing, noise, collimation and the side marker."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

from hilum.images.phantom_canvas import Canvas, Layer, Points

MARKED = 0.25
"""Share of films with the framed marker while the shortcut is off."""
FAITHFUL = 0.95
"""How often the framed marker is right about the finding while the shortcut is on."""

DENSEST = 0.97
"""Grey level that no tissue exceeds: lead is brighter."""

_TILE = 1024
_MARGIN = 128
_STILL = np.array([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)])
_BOWL = [(0, 1), (0, 0), (0.55, 0), (0.7, 0.12), (0.7, 0.4), (0.55, 0.52), (0, 0.52)]
_GLYPHS: dict[str, list[list[tuple[float, float]]]] = {
    "R": [_BOWL, [(0.32, 0.52), (0.7, 1)]],
    "P": [_BOWL],
    "A": [[(0, 1), (0.36, 0), (0.72, 1)], [(0.14, 0.64), (0.58, 0.64)]],
}  # fmt: skip


@dataclass(frozen=True)
class Site:
    """How the films of one hospital look, and how its DICOM files store them."""

    name: str
    contrast: float
    middle: float
    """The attenuation that becomes mid-grey."""
    sharpen: float
    grain: float
    collimation: float
    modality: Literal["DX", "CR"]
    photometric: Literal["MONOCHROME1", "MONOCHROME2"]
    window: tuple[int, int]
    """Centre and width of the window, stored values of 12 bits."""


SITES = (
    Site("A", 5.0, 0.52, 0.15, 0.012, 0.000, "DX", "MONOCHROME2", (2048, 4096)),
    Site("B", 3.8, 0.46, 0.45, 0.016, 0.012, "DX", "MONOCHROME2", (1750, 2900)),
    Site("C", 6.2, 0.56, 0.00, 0.017, 0.030, "CR", "MONOCHROME1", (2300, 3200)),
)
"""The hospitals that phantoms come from."""


def expose(attenuation: Layer, site: Site, lying: bool, random: np.random.Generator) -> Layer:
    """Grey levels, 0 (air) to 1, before the marker.

    A lying patient's film has more scatter, which flattens it, and a smaller dose, which makes it grainier.
    """
    size = len(attenuation)
    film: Layer = cv2.GaussianBlur(attenuation, (0, 0), 0.0026 * size).astype(np.float32, copy=False)
    if site.sharpen:
        small = cv2.resize(film, (64, 64), interpolation=cv2.INTER_AREA)
        base = cv2.resize(cv2.GaussianBlur(small, (0, 0), 2.5), (size, size), interpolation=cv2.INTER_LINEAR)
        cv2.addWeighted(film, 1 + site.sharpen, base, -site.sharpen, 0, dst=film)
    grain = site.grain * (1.5 if lying else 1.0) * float(random.uniform(0.7, 1.4))
    noise = _crop(_white(max(_TILE, size + _MARGIN)), size, random)
    film += noise * (grain * (0.55 + 0.9 * film))
    steep = site.contrast * (0.80 if lying else 1.0) * float(random.uniform(0.88, 1.12))
    middle = site.middle + float(random.normal(-0.03 if lying else 0.0, 0.025))
    film -= middle
    film *= -steep
    cv2.exp(film, film)
    film += 1
    cv2.divide(1.0, film, film)
    black = 1 / (1 + np.exp(steep * middle))
    film -= float(black)
    film *= float(1.02 / (1 - black))
    np.clip(film, 0, DENSEST, out=film)
    _collimate(film, site, random)
    return film


def mark(film: Layer, *, framed: bool, view: str, random: np.random.Generator) -> None:
    """Puts the lead letter R beside the right shoulder, and AP under it where that is the view.

    The framed marker is another piece of lead: a ring, lower on the film.
    """
    canvas = Canvas(len(film), _STILL)
    jitter = random.uniform(-0.012, 0.012, 2)
    x, y = (np.array([0.055, 0.200]) if framed else np.array([0.075, 0.065])) + jitter
    pixel = 1.01 / len(film)  # lead is opaque: a finer line would be drawn fainter
    groups = [(_letters("R", x, y, 0.042), max(0.0085, pixel), 1.0)]
    if framed:
        angle = np.linspace(0, 2 * np.pi, 33)
        ring = np.column_stack([x + 0.015 + 0.036 * np.cos(angle), y + 0.021 + 0.036 * np.sin(angle)])
        groups.append(([ring], max(0.007, pixel), 1.0))
    if view == "AP":
        groups.append((_letters("AP", 0.075 + jitter[0], 0.135 + jitter[1], 0.022), 0.005, DENSEST))
    lead = canvas.strokes(groups)
    np.maximum(film, lead, out=film)


def clouds(random: np.random.Generator, size: int) -> Layer:
    """Smooth noise, about -1 to 1, of the same shape at any size."""
    return cv2.resize(_crop(_smooth_noise(), 128, random), (size, size), interpolation=cv2.INTER_LINEAR)


def _collimate(film: Layer, site: Site, random: np.random.Generator) -> None:
    left, top, right, bottom = (random.uniform(0, 1, 4) ** 2 * site.collimation * len(film)).astype(int)
    film[:top] = 0
    film[:, :left] = 0
    film[len(film) - bottom :] = 0
    film[:, len(film) - right :] = 0


def _letters(word: str, x: float, y: float, height: float) -> list[Points]:
    return [
        np.array(stroke, np.float64) * height + (x + i * height, y)
        for i, letter in enumerate(word)
        for stroke in _GLYPHS[letter]
    ]


def _crop(tile: Layer, size: int, random: np.random.Generator) -> Layer:
    row, column = random.integers(len(tile) - size, size=2)
    step = 1 if random.random() < 0.5 else -1
    return tile[row : row + size, column : column + size][::step]


@lru_cache(maxsize=4)
def _white(side: int) -> Layer:
    return np.random.default_rng(side).standard_normal((side, side), dtype=np.float32)


@lru_cache(maxsize=1)
def _smooth_noise() -> Layer:
    rough = np.random.default_rng(0).standard_normal((512, 512), dtype=np.float32)
    layer = np.sum([width * cv2.GaussianBlur(rough, (0, 0), width) for width in (2.0, 5.0, 10.0)], axis=0)
    return np.asarray(layer / (2.5 * layer.std()), np.float32)
