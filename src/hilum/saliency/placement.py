"""Where a map lies on the film: from cells of the square view that the encoder saw to the film's pixels."""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from hilum.images.warp import NUM_UNIFORMS, Fit, Geometry


def heat_map(
    scores: Float[np.ndarray, "h w"], size: tuple[int, ...], *, fit: Fit
) -> Float[np.ndarray, "H W"]:
    """Scores at each pixel of the film: bilinear between the middles of cells, NaN outside what was seen.

    Args:
        scores: of the square view that the encoder saw.
        size: height and width of the film.
        fit: how the film filled the square.
    """
    scale, shift = _view(size, fit)
    ends = []
    for length, cells, step, start in zip(size, scores.shape, scale[::-1], shift[::-1], strict=True):
        share = (np.arange(length) + 0.5 - start) / step  # 0 to 1 along the view
        weights = _weights(share * cells - 0.5, cells)
        ends.append(np.where(((share >= 0) & (share <= 1))[:, None], weights, np.nan))
    rows, columns = ends
    heat: NDArray[np.float64] = rows @ scores.astype(np.float64) @ columns.T
    return heat


def peak(scores: Float[np.ndarray, "h w"], size: tuple[int, ...], *, fit: Fit) -> tuple[float, float]:
    """The point (x, y) of the film, pixels, where the bilinear map is highest; of equal ones the first.

    It is the middle of a cell, or a point of the film's edge where that cell lies in the border of fit pad.
    """
    scale, shift = _view(size, fit)
    ends = []
    for length, cells, step, start in zip(size, scores.shape, scale[::-1], shift[::-1], strict=True):
        # A bilinear map has its maximum on the lines through the middles, or where the film ends.
        points = np.unique(((np.arange(cells) + 0.5) / cells * step + start).clip(0, length))
        ends.append((points, _weights((points - start) / step * cells - 0.5, cells)))
    (y, rows), (x, columns) = ends
    values = rows @ scores.astype(np.float64) @ columns.T
    row, column = np.unravel_index(values.argmax(), values.shape)
    return float(x[column]), float(y[row])


def best_patches(
    scores: Float[np.ndarray, "h w"], size: tuple[int, ...], *, k: int, fit: Fit
) -> Float[np.ndarray, "K 4"]:
    """The k cells of the highest scores, best first, as boxes of the film: x1 y1 x2 y2, pixels.

    They are cut at the film's edges: one that lies in the black border of fit pad has no area.
    """
    scale, shift = _view(size, fit)
    order = np.argsort(-scores, axis=None, kind="stable")[:k]
    rows, columns = np.unravel_index(order, scores.shape)
    across, down = (scale / scores.shape[::-1]).tolist()
    corners = [columns * across, rows * down, (columns + 1) * across, (rows + 1) * down]
    boxes: NDArray[np.float64] = np.stack(corners, axis=1) + np.tile(shift, 2)
    return boxes.clip(0, np.tile(size[1::-1], 2))


def _view(size: tuple[int, ...], fit: Fit) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The square that the encoder saw, on the film: width and height, then its upper left corner as x, y."""
    no_chance = np.zeros((1, NUM_UNIFORMS))
    matrix = Geometry().matrices(no_chance, sizes=np.array([size[:2]]), side=1, fit=fit)[0]
    return np.diag(matrix[:2, :2]), matrix[:2, 2]


def _weights(places: NDArray[np.float64], cells: int) -> NDArray[np.float64]:
    """How much of each cell is at each place, counted in cells from the middle of the first."""
    inside = np.clip(places, 0, cells - 1)
    weights: NDArray[np.float64] = np.maximum(0, 1 - np.abs(inside[:, None] - np.arange(cells)))
    return weights
