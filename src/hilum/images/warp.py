"""Crop, flip, rotation, scale, shear and perspective as one warp per view; boxes move with it.

A matrix maps a point of the view to a point of the film: `film * w, w = matrix @ (view, 1)`, both (x, y) in
pixels counted from the upper left corner of the image, so that pixel 0 lies between 0 and 1. Its last row is
(0, 0, 1), and the warp affine, but where a perspective was drawn.
"""

from dataclasses import dataclass, fields
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray

from hilum.errors import ConfigError

NUM_UNIFORMS = 21
"""Random numbers that one view's geometry takes."""

SHRINK_ABOVE = 1.5
"""Film pixels per view pixel above which bilinear sampling would skip some, so the film is averaged first."""

MAX_DISTORTION = 0.4
"""From 0.43 on, the plane's horizon can cross a corner of the view."""

Fit = Literal["crop", "squash", "pad"]


@dataclass(frozen=True)
class Geometry:
    """Ranges that a view's warp is drawn from; the defaults show the whole film as `fit` lays it."""

    crop_min: float = 1.0
    """Smallest share of the frame's area that a view shows; see `fit` of `matrices` for the frame."""
    crop_max: float = 1.0
    """Largest share of the frame's area that a view shows."""
    ratio: float = 1.0
    """Largest stretch of the crop: its sides' ratio is drawn from 1/ratio to ratio."""
    shift: float = 0.0
    """How far the crop may move within the film: 0 keeps it central, 1 lets it go to any edge."""
    flip: float = 0.0
    """Probability of mirroring left and right. Off by default: the heart has a side."""
    rotate: float = 0.0
    """Largest rotation either way, degrees."""
    shear: float = 0.0
    """Largest horizontal shear either way, degrees."""
    zoom: float = 1.0
    """Largest extra enlargement or reduction, as a factor; a reduction shows black around the film."""
    flip_vertical: float = 0.0
    """Probability of mirroring up and down. Off by default: no one hangs a film upside down."""
    translate: float = 0.0
    """Largest move of the picture in the view, across and down, as a share of the view's side."""
    perspective: float = 0.0
    """Probability of tilting the view."""
    distortion: float = 0.15
    """How far a tilt may pull each corner in, across and down, as a share of half the view's side."""
    stretch: float = 1.0
    """Largest stretch of the picture: its width is multiplied, its height divided by 1/stretch to stretch."""

    def __post_init__(self) -> None:
        inside = {
            "crop_min": 0 < self.crop_min <= self.crop_max,
            "crop_max": self.crop_max <= 1,
            "ratio": self.ratio >= 1,
            "shift": 0 <= self.shift <= 1,
            "flip": 0 <= self.flip <= 1,
            "rotate": 0 <= self.rotate <= 180,
            "shear": 0 <= self.shear < 80,
            "zoom": self.zoom >= 1,
            "flip_vertical": 0 <= self.flip_vertical <= 1,
            "translate": 0 <= self.translate <= 1,
            "perspective": 0 <= self.perspective <= 1,
            "distortion": 0 <= self.distortion <= MAX_DISTORTION,
            "stretch": self.stretch >= 1,
        }
        refuse("geometry", self, inside)

    def matrices(
        self, u: Float[np.ndarray, "B 21"], *, sizes: NDArray[np.integer], side: int, fit: Fit
    ) -> Float[np.ndarray, "B 3 3"]:
        """The warp of each film of a batch.

        Args:
            u: uniform random numbers, `NUM_UNIFORMS` per film.
            sizes: (B, 2), height and width of each film.
            side: height and width of the view, pixels.
            fit: how the frame that crops are cut from lies on an oblong film: its largest square, the film
                itself (squeezed into the square view), or the smallest square around it (padded with black).
        """
        centre_x, centre_y, crop_w, crop_h = self._crops(u, sizes, fit)
        angle = np.deg2rad(self.rotate * (2 * u[:, 4] - 1))
        shear = np.tan(np.deg2rad(self.shear * (2 * u[:, 5] - 1)))
        zoom = self.zoom ** (2 * u[:, 6] - 1)
        mirror_x = np.where(u[:, 7] < self.flip, -1.0, 1.0)
        mirror_y = np.where(u[:, 8] < self.flip_vertical, -1.0, 1.0)
        stretch = self.stretch ** (2 * u[:, 20] - 1)
        scale_x = mirror_x * crop_w / (side * zoom * stretch)
        scale_y = mirror_y * crop_h * stretch / (side * zoom)
        cos, sin = np.cos(angle), np.sin(angle)
        matrix = np.zeros((len(u), 3, 3))
        # rotation @ [[1, shear], [0, 1]] @ diag(scale_x, scale_y), about the crop's centre
        matrix[:, 0, 0], matrix[:, 0, 1] = cos * scale_x, (cos * shear - sin) * scale_y
        matrix[:, 1, 0], matrix[:, 1, 1] = sin * scale_x, (sin * shear + cos) * scale_y
        matrix[:, 0, 2] = centre_x - side / 2 * (matrix[:, 0, 0] + matrix[:, 0, 1])
        matrix[:, 1, 2] = centre_y - side / 2 * (matrix[:, 1, 0] + matrix[:, 1, 1])
        matrix[:, 2, 2] = 1
        if self.translate:
            moves = self.translate * side * (2 * u[:, 9:11] - 1)
            matrix[:, :2, 2] -= np.einsum("bij,bj->bi", matrix[:, :2, :2], moves)
        for tilted in np.flatnonzero(u[:, 11] < self.perspective):
            matrix[tilted] @= _tilt(self.distortion * u[tilted, 12:20], side)
        return matrix

    def _crops(
        self, u: NDArray[np.float64], sizes: NDArray[np.integer], fit: Fit
    ) -> tuple[NDArray[np.float64], ...]:
        """Centre (x, y), width and height of each crop, film pixels."""
        height, width = sizes[:, 0].astype(np.float64), sizes[:, 1].astype(np.float64)
        frame_h, frame_w, room_h, room_w = _frame(height, width, fit)
        area = self.crop_min + (self.crop_max - self.crop_min) * u[:, 0]
        # A stretch that would leave the room is held back, so that the area stays what was drawn.
        stretch = np.clip(
            self.ratio ** (2 * u[:, 1] - 1), area * (frame_h / room_h) ** 2, (room_w / frame_w) ** 2 / area
        )
        crop_w = np.minimum(frame_w * np.sqrt(area * stretch), room_w)
        crop_h = np.minimum(frame_h * np.sqrt(area / stretch), room_h)
        centre_x = width / 2 + self.shift * (u[:, 2] - 0.5) * (room_w - crop_w)
        centre_y = height / 2 + self.shift * (u[:, 3] - 0.5) * (room_h - crop_h)
        return centre_x, centre_y, crop_w, crop_h


def warp(
    image: UInt8[np.ndarray, "H W"],
    matrix: Float[np.ndarray, "3 3"],
    side: int,
    *,
    curve: UInt8[np.ndarray, "256"] | None = None,
    out: UInt8[np.ndarray, "S S"] | None = None,
) -> UInt8[np.ndarray, "S S"]:
    """One view of a film, bilinear, black outside the film.

    Where a view pixel covers more than `SHRINK_ABOVE` film pixels along an axis of the film, the part of the
    film that the view shows is first averaged down by the nearest whole factor, so that nothing is skipped.
    Of a tilted view its centre decides.

    Args:
        image: the film.
        matrix: view to film.
        side: height and width of the view.
        curve: new grey level of each grey level, applied before the warp: what is outside stays black.
        out: where to write, a contiguous array; a new one is made without it.
    """
    tilted = matrix[2, 0] != 0 or matrix[2, 1] != 0
    slopes = _slopes(matrix, side) if tilted else matrix
    across, down = np.hypot(slopes[:2, 0], slopes[:2, 1])
    if max(across, down) > SHRINK_ABOVE:
        image, matrix = _shrink(image, matrix, side, across, down)
    if curve is not None:
        image = cv2.LUT(image, curve)
    # cv2 counts from the centre of pixel 0, matrices from its corner.
    centred = matrix.copy()
    centred[:, 2] += (matrix[:, 0] + matrix[:, 1]) / 2
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    if tilted:
        centred[:2] -= centred[2] / 2
        warped = cv2.warpPerspective(image, centred, (side, side), dst=out, flags=flags)
    else:
        centred[:2, 2] -= 0.5
        warped = cv2.warpAffine(image, centred[:2], (side, side), dst=out, flags=flags)
    warped = warped.astype(np.uint8, copy=False)
    if out is not None and warped is not out:
        out[...] = warped
        return out
    return warped


Turned = Literal["corners", "thirds"]
"""Which points of a box the upright box around it, once turned, has to hold: its corners, or, tighter, the
points at a third and two thirds of each side, as the kaggle-rsna system takes them."""


def warp_boxes(
    boxes: Float[np.ndarray, "M 4"],
    matrix: Float[np.ndarray, "3 3"],
    side: int,
    *,
    turned: Turned = "corners",
) -> Float[np.ndarray, "M 4"]:
    """Boxes of the film (x1, y1, x2, y2, pixels) as boxes of the view.

    A turned box becomes the upright box around its points, cut at the view's edges. A box that is wholly
    outside comes back with no area, so that boxes keep their places.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    x, y = boxes[:, [0, 2, 2, 0]], boxes[:, [1, 1, 3, 3]]
    corners = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(matrix).T
    # A tilted plane has a horizon: of an edge that crosses it, the part before it counts.
    neighbours = [np.roll(corners, turn, 1) for turn in (1, -1)]
    if turned == "thirds":
        ends = np.concatenate([(2 * corners + near) / 3 for near in neighbours], 1)
    else:
        ends = np.concatenate([_before_horizon(corners, near) for near in neighbours], 1)
    seen = ends[..., 2:] > 0
    places = ends[..., :2] / np.where(seen, ends[..., 2:], 1)
    high = np.clip(np.where(seen, places, -np.inf).max(1), 0, side)
    low = np.clip(np.where(seen, places, np.inf).min(1), 0, high)
    return np.concatenate([low, high], 1)


def refuse(what: str, ranges: object, inside: dict[str, bool]) -> None:
    """Names every range that is not `inside` its bounds.

    Raises:
        ConfigError: there is any.
    """
    wrong = [f"{name} {getattr(ranges, name)!r}" for name, good in inside.items() if not good]
    assert set(inside) <= {field.name for field in fields(ranges)}  # type: ignore[arg-type]
    if wrong:
        raise ConfigError(f"{what} of views: {', '.join(wrong)} is out of range; see {type(ranges).__name__}")


_Sides = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def _frame(height: NDArray[np.float64], width: NDArray[np.float64], fit: Fit) -> _Sides:
    """Height and width of the frame, and of the room in which a crop may move."""
    if fit == "squash":
        return height, width, height, width
    if fit == "pad":
        longer = np.maximum(height, width)
        return longer, longer, longer, longer
    shorter = np.minimum(height, width)
    return shorter, shorter, height, width


def _tilt(pull: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """The view before to the view after a tilt, inverted: as torchvision's RandomPerspective, not rounded.

    Args:
        pull: how far each corner is pulled in (x, y), from the upper left clockwise, in halves of the side.
        side: height and width of the view.
    """
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    pulled = corners + (0.5 - corners) * pull.reshape(4, 2)
    square, shown = (side * points.astype(np.float32) for points in (corners, pulled))
    return cv2.getPerspectiveTransform(shown, square).astype(np.float64, copy=False)


def _slopes(matrix: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Film pixels per view pixel (the Jacobian) at the view's centre."""
    x, y, w = matrix @ (side / 2, side / 2, 1)
    slopes: NDArray[np.float64] = (matrix[:2, :2] - np.outer((x / w, y / w), matrix[2, :2])) / w
    return slopes


def _before_horizon(ends: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ends of edges, homogeneous; one behind the horizon moves along its edge to just before it."""
    just = 1e-9
    behind = (ends[..., 2] < just) & (others[..., 2] > just)
    share = np.where(behind, (just - ends[..., 2]) / np.where(behind, others[..., 2] - ends[..., 2], 1), 0)
    moved: NDArray[np.float64] = ends + share[..., None] * (others - ends)
    return moved


def _shrink(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], side: int, across: float, down: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The part of the film that the view shows, averaged down, and the matrix into it."""
    kx, ky = (max(1, round(step)) if step > SHRINK_ABOVE else 1 for step in (float(across), float(down)))
    height, width = image.shape
    corners = matrix @ np.array([[0, side, 0, side], [0, 0, side, side], [1, 1, 1, 1]])
    corners = corners[:2] / corners[2]
    # Two averaged pixels more on each side, for the interpolation; starts on a whole block.
    left, top = (max(0, int(c.min() // k - 2) * k) for c, k in zip(corners, (kx, ky), strict=True))
    right, bottom = (int(c.max() // k + 3) * k for c, k in zip(corners, (kx, ky), strict=True))
    part = image[top : min(bottom, height), left : min(right, width)]
    if part.size == 0:  # the view shows nothing of the film
        return np.zeros((1, 1), np.uint8), matrix - np.outer((1e9, 1e9, 0), matrix[2])
    size = max(1, round(part.shape[1] / kx)), max(1, round(part.shape[0] / ky))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    moved = matrix - np.outer((left, top, 0), matrix[2])
    moved[:2] *= np.array([[size[0] / part.shape[1]], [size[1] / part.shape[0]]])
    return small, moved
