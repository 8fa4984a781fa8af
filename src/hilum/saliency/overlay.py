"""A map drawn on the film: its colours, the cells and boxes that are outlined, and a legend beside it."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from hilum.errors import ConfigError
from hilum.images.warp import Fit
from hilum.saliency.placement import best_patches, heat_map

COLOURS = "inferno"
BOX = (64, 255, 160)
"""Red, green and blue of the boxes of the records: in no part of the colours."""

_FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
_LETTERS = 13
_BAR = 14
_MARGIN = 10
_LEGEND = 78
_LEAST_HEIGHT = 160


def overlay(
    film: UInt8[np.ndarray, "H W"],
    scores: Float[np.ndarray, "h w"],
    *,
    k: int = 0,
    fit: Fit,
    alpha: float = 0.4,
    colours: str = COLOURS,
    outline: tuple[int, int, int] = (255, 0, 0),
) -> UInt8[np.ndarray, "H W 3"]:
    """The film under the colours of its scores, the k best cells outlined.

    The lowest score of a film has the first colour, the highest the last. What the encoder did not see stays
    as it is.

    Args:
        film: grey levels.
        scores: of the square view that the encoder saw.
        k: cells to outline.
        fit: how the film filled the square.
        alpha: share of the colour, the rest is the film.
        colours: matplotlib's name of a colour map.
        outline: red, green and blue of the outlines.

    Raises:
        ConfigError: there is no such colour map.
    """
    if colours not in matplotlib.colormaps:
        raise ConfigError(f"colours is {colours!r}; expected a colour map of matplotlib, as inferno or jet")
    heat = heat_map(scores, film.shape, fit=fit)
    low, high = float(scores.min()), float(scores.max())
    level = (heat - low) / (high - low) if high > low else np.zeros_like(heat)
    seen = np.isfinite(heat)[:, :, None]
    colour = 255 * matplotlib.colormaps[colours](np.nan_to_num(level))[:, :, :3]
    grey = np.repeat(film[:, :, None], 3, 2).astype(np.float64)
    mixed = np.where(seen, (1 - alpha) * grey + alpha * colour, grey)
    drawn = np.ascontiguousarray(mixed.round().astype(np.uint8))
    return with_boxes(drawn, best_patches(scores, film.shape, k=k, fit=fit), colour=outline)


def with_boxes(
    drawn: UInt8[np.ndarray, "H W 3"],
    boxes: Float[np.ndarray, "M 4"],
    *,
    colour: tuple[int, int, int] = BOX,
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with boxes (x1 y1 x2 y2, its pixels) outlined; it is drawn into."""
    thickness = max(1, min(drawn.shape[:2]) // 256)
    for x1, y1, x2, y2 in np.rint(boxes).astype(int).tolist():
        if x2 > x1 and y2 > y1:  # a cell of the black border of fit pad is nowhere on the film
            cv2.rectangle(drawn, (x1, y1), (x2 - 1, y2 - 1), colour, thickness=thickness)
    return drawn


def with_legend(
    drawn: UInt8[np.ndarray, "H W 3"],
    scores: Float[np.ndarray, "h w"],
    *,
    words: Sequence[str],
    colours: str = COLOURS,
    box: str = "",
) -> UInt8[np.ndarray, "_ _ 3"]:
    """The picture at its own size, with a bar of colours on its right and lines of words below.

    The bar's ends are the lowest and highest score. The last line says how many cells the map really has.

    Args:
        drawn: an `overlay`.
        scores: what it shows.
        words: lines above the last.
        colours: those of the overlay.
        box: what outlined boxes are; empty: there are none.
    """
    height, width = drawn.shape[:2]
    rows, columns = scores.shape
    enlarged = f"{rows}×{columns} map, enlarged"
    if scores.max() == scores.min():
        enlarged += "; it is flat: nothing stands out"
    font = ImageFont.truetype(str(_FONT), _LETTERS)
    lines = _wrapped([*words, enlarged], font, width + _LEGEND - 2 * _MARGIN)
    tall = max(height, _LEAST_HEIGHT)
    sheet = Image.new(
        "RGB", (width + _LEGEND, tall + _MARGIN + len(lines) * (_LETTERS + 5) + _MARGIN // 2), "white"
    )
    sheet.paste(Image.fromarray(drawn), (0, 0))
    pen = ImageDraw.Draw(sheet)
    left, top = width + _MARGIN, _MARGIN + _LETTERS + 18
    bottom = tall - (_LETTERS + 18) - (2 * _LETTERS if box else 0)
    ramp = matplotlib.colormaps[colours](np.linspace(1, 0, bottom - top))[:, None, :3]
    bar = np.repeat((255 * ramp).round().astype(np.uint8), _BAR, axis=1)
    sheet.paste(Image.fromarray(bar), (left, top))
    for y, name, value in (
        (top - 2 * _LETTERS - 6, "high", scores.max()),
        (bottom + 2, "low", scores.min()),
    ):
        pen.text((left, y), name, "black", font)
        pen.text((left, y + _LETTERS), f"{value:.2g}", "dimgray", font)
    if box:
        y = tall - _LETTERS - 5
        pen.rectangle((left, y + 3, left + _BAR - 3, y + _LETTERS), outline=BOX, width=2)
        pen.text((left + _BAR + 2, y), box, "black", font)
    for place, line in enumerate(lines):
        pen.text((_MARGIN, tall + _MARGIN + place * (_LETTERS + 5)), line, "black", font)
    return np.asarray(sheet)


def colour_bar(width: int, height: int, *, colours: str = COLOURS) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """The colours from low (left) to high."""
    ramp = matplotlib.colormaps[colours](np.linspace(0, 1, width))[None, :, :3]
    return np.repeat((255 * ramp).round().astype(np.uint8), height, axis=0)


def _wrapped(texts: Sequence[str], font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines: list[str] = []
    for text in texts:
        line = ""
        for word in text.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines
