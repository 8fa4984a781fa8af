"""Shapes in unit coordinates, drawn as soft layers of attenuation."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import cv2
import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

Layer = Float32[np.ndarray, "S S"]
Points = NDArray[np.float64]

SUBPIXEL_BITS = 4
"""cv2 takes integer coordinates; this many of their bits stand behind the point."""

BLUR_PIXELS = 2.0
"""A blurred layer is drawn so small that its blur is about this wide, then enlarged."""


def smooth(points: Points, *, closed: bool = False, steps: int = 6) -> Points:
    """A Catmull-Rom curve through the points; a point given twice stays a corner."""
    padded = np.concatenate(
        [points[-1:], points, points[:2]] if closed else [points[:1], points, points[-1:]]
    )
    t = np.arange(steps)[:, None, None] / steps
    a, b, c, d = (padded[None, i : len(padded) - 3 + i] for i in range(4))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - 3 * c + d - a) * t**3)
    flat = curve.transpose(1, 0, 2).reshape(-1, 2)
    return flat if closed else np.concatenate([flat, points[-1:]])


def band(line: Points, width: NDArray[np.float64] | float) -> Points:
    """The outline of a strip of the given width along a line."""
    along = np.gradient(line, axis=0)
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1])[:, None], 1e-9)
    side = np.stack([-along[:, 1], along[:, 0]], axis=1) * (np.asarray(width) / 2).reshape(-1, 1)
    return np.concatenate([line + side, (line - side)[::-1]])


@dataclass(frozen=True)
class Canvas:
    """Draws one film: moves a body, given in its own unit square, onto a detector of size × size pixels."""

    size: int
    placement: NDArray[np.float64]
    """Affine map from the body's unit square to the film's, 2 × 3."""
    taper: float = 0.0
    """How much wider the body is below than above."""
    bow: float = 0.0
    """How far the spine's middle stands to the patient's left."""

    def place(self, points: Points) -> Points:
        """Body coordinates on the detector, still in units of its side."""
        x, y = points[:, 0] - 0.5, points[:, 1]
        x = 0.5 + x * (1 + self.taper * (y - 0.45)) + self.bow * np.sin(3 * y)
        (xx, xy, x0), (yx, yy, y0) = self.placement.tolist()
        placed = np.empty_like(points)
        placed[:, 0] = xx * x + xy * y + x0
        placed[:, 1] = yx * x + yy * y + y0
        return placed

    def fill(self, *shapes: Points, blur: float = 0.0) -> Layer:
        """1 inside any of the shapes and 0 outside, with a Gaussian edge of standard deviation `blur`."""
        side = self._side(blur)
        image = np.zeros((side, side), np.uint8)
        for pixels in self._pixels(shapes, side):  # together, overlapping shapes would cancel out
            cv2.fillPoly(image, [pixels], 255, cv2.LINE_AA, SUBPIXEL_BITS)
        return self._soften(image, blur)

    def strokes(self, groups: Sequence[tuple[Sequence[Points], float, float]], *, blur: float = 0.0) -> Layer:
        """Lines, as groups of (lines, width, brightness 0 to 1); later groups cover earlier ones.

        A line thinner than a pixel is drawn one pixel wide and proportionally fainter.
        """
        side = self._side(blur)
        image = np.zeros((side, side), np.uint8)
        for lines, width, value in groups:
            thick = max(1, round(width * side))
            shade = 255 * value * min(1.0, width * side / thick)
            cv2.polylines(image, self._pixels(lines, side), False, shade, thick, cv2.LINE_AA, SUBPIXEL_BITS)
        return self._soften(image, blur)

    def _side(self, blur: float) -> int:
        return (
            self.size
            if blur * self.size <= BLUR_PIXELS
            else min(self.size, max(16, round(BLUR_PIXELS / blur)))
        )

    def _pixels(self, shapes: Sequence[Points], side: int) -> list[NDArray[np.int32]]:
        placed = self.place(np.concatenate(shapes) if len(shapes) > 1 else shapes[0])
        placed *= side << SUBPIXEL_BITS
        placed -= (1 << SUBPIXEL_BITS) / 2  # pixel centres stand at halves
        pixels = np.rint(placed, out=placed).astype(np.int32)
        ends = accumulate(map(len, shapes), initial=0)
        return [pixels[start:end] for start, end in pairwise(ends)]

    def _soften(self, image: NDArray[np.uint8], blur: float) -> Layer:
        layer = np.multiply(image, np.float32(1 / 255), dtype=np.float32)
        sigma = blur * len(image)
        if sigma > 0:
            layer = cv2.GaussianBlur(layer, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        if len(layer) != self.size:
            layer = cv2.resize(layer, (self.size, self.size), interpolation=cv2.INTER_LINEAR)
        return layer
