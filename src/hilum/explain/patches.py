"""The scores of patches as a heat map on the film, with the patches that were taken outlined."""

from collections.abc import Iterator, Sequence

import cv2
import matplotlib
import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray

from hilum.data.views import PLAIN, draw_batch
from hilum.errors import ConfigError
from hilum.images.warp import NUM_UNIFORMS, Fit, Geometry
from hilum.models.encoder import Encoder

BATCH = 32


def patch_overlays(
    encoder: Encoder, films: Sequence[UInt8[np.ndarray, "_ _"]], *, alpha: float = 0.4
) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
    """An `overlay` for each film, at its own size, by an encoder that pools by patch scores.

    The encoder is left in evaluation mode, on the device where it is.

    Raises:
        ConfigError: the encoder scores no patches.
    """
    encoder.eval()
    for first in range(0, len(films), BATCH):
        some = films[first : first + BATCH]
        for film, scores in zip(some, _scores(encoder, some), strict=True):
            yield overlay(film, scores, k=encoder.pooling.top_k, fit=encoder.input.fit, alpha=alpha)


def overlay(
    film: UInt8[np.ndarray, "H W"],
    scores: Float[np.ndarray, "h w"],
    *,
    k: int,
    fit: Fit,
    alpha: float = 0.4,
    colours: str = "inferno",
    outline: tuple[int, int, int] = (255, 0, 0),
) -> UInt8[np.ndarray, "H W 3"]:
    """The film under the colours of its scores, the k best patches outlined.

    The lowest score of a film has the first colour, the highest the last. What the encoder did not see stays
    as it is.

    Args:
        film: grey levels.
        scores: of the square view that the encoder saw.
        k: patches to outline; 0 outlines none.
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
    for x1, y1, x2, y2 in np.rint(best_patches(scores, film.shape, k=k, fit=fit)).astype(int).tolist():
        if x2 > x1 and y2 > y1:  # a patch of the black border of fit pad is nowhere on the film
            cv2.rectangle(
                drawn, (x1, y1), (x2 - 1, y2 - 1), outline, thickness=max(1, min(film.shape) // 256)
            )
    return drawn


def heat_map(
    scores: Float[np.ndarray, "h w"], size: tuple[int, ...], *, fit: Fit
) -> Float[np.ndarray, "H W"]:
    """Scores at each pixel of the film: bilinear between the middles of patches, NaN outside what was seen.

    Args:
        scores: of the square view that the encoder saw.
        size: height and width of the film.
        fit: how the film filled the square.
    """
    scale, shift = _placement(size, fit)
    ends = []
    for length, cells, step, start in zip(size, scores.shape, scale[::-1], shift[::-1], strict=True):
        share = (np.arange(length) + 0.5 - start) / step  # 0 to 1 along the view
        place = np.clip(share * cells - 0.5, 0, cells - 1)
        weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells)))
        ends.append(np.where(((share >= 0) & (share <= 1))[:, None], weights, np.nan))
    rows, columns = ends
    heat: NDArray[np.float64] = rows @ scores.astype(np.float64) @ columns.T
    return heat


def best_patches(
    scores: Float[np.ndarray, "h w"], size: tuple[int, ...], *, k: int, fit: Fit
) -> Float[np.ndarray, "K 4"]:
    """The k patches of the highest scores, best first, as boxes of the film: x1 y1 x2 y2, pixels.

    They are cut at the film's edges: one that lies in the black border of fit pad has no area.
    """
    scale, shift = _placement(size, fit)
    order = np.argsort(-scores, axis=None, kind="stable")[:k]
    rows, columns = np.unravel_index(order, scores.shape)
    across, down = (scale / scores.shape[::-1]).tolist()
    corners = [columns * across, rows * down, (columns + 1) * across, (rows + 1) * down]
    boxes: NDArray[np.float64] = np.stack(corners, axis=1) + np.tile(shift, 2)
    return boxes.clip(0, np.tile(size[1::-1], 2))


def _placement(size: tuple[int, ...], fit: Fit) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The square that the encoder saw, on the film: width and height, then its upper left corner as x, y."""
    no_chance = np.zeros((1, NUM_UNIFORMS))
    matrix = Geometry().matrices(no_chance, sizes=np.array([size[:2]]), side=1, fit=fit)[0]
    return np.diag(matrix[:2, :2]), matrix[:2, 2]


@torch.inference_mode()
def _scores(encoder: Encoder, films: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    spec = encoder.input
    (views,) = draw_batch(PLAIN.at(spec), films, rows=np.arange(len(films)), epochs=0, seed=0)
    device = next(encoder.parameters()).device
    levels = torch.from_numpy(views).to(device)[:, None].float()
    scores: NDArray[np.float32] = encoder.patch_scores((levels / 255 - spec.mean) / spec.std).cpu().numpy()
    return scores
