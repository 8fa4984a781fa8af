"""Does a map point at the finding? Maps of films against the boxes or masks that readers drew.

A map has a value per pixel of its film and is NaN where the encoder saw nothing; a mask is True inside.
Scores are per film, from 0 to 1. A flat map points nowhere and scores as chance does: its maximum is
everywhere.
Pointing game: Zhang et al. 2016 (https://arxiv.org/abs/1608.00507). Energy in the box: Wang et al. 2020
(https://arxiv.org/abs/1910.01279). Overlap of 0.1 as a hit: Wang et al. 2017 (https://arxiv.org/abs/1705.02315).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy.ndimage import distance_transform_edt

from hilum.metrics.bootstrap import Estimate
from hilum.metrics.resampled import CHUNK, draw
from hilum.metrics.summary import FEW, interval

METRICS = ("pointing", "energy", "iou", "hit_rate")
LEVELS = tuple(float(level) for level in np.round(np.arange(0.05, 1.0, 0.05), 2))
"""Thresholds that are tried, of maps from 0 (their lowest) to 1."""
OVERLAP = 0.1
"""Intersection over union that is a hit: the least of Wang et al. 2017."""

Maps = Sequence[Float[np.ndarray, "_ _"]]
Masks = Sequence[Bool[np.ndarray, "_ _"]]


def box_mask(boxes: Shaped[np.ndarray, "M 4"], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """The pixels whose middles lie in any of the boxes (x1 y1 x2 y2, pixels); each box has one at least."""
    mask = np.zeros(size, bool)
    for x1, y1, x2, y2 in np.asarray(boxes, np.float64):
        columns, rows = (
            _span(low, high, length) for low, high, length in ((x1, x2, size[1]), (y1, y2, size[0]))
        )
        mask[rows, columns] = True
    return mask


def pointing(
    heat: Float[np.ndarray, "H W"], mask: Bool[np.ndarray, "H W"], *, tolerance: float = 0.0
) -> float:
    """1 if the map's maximum lies in the mask, or at most `tolerance` pixels from it, else 0.

    Where several pixels are the maximum it is the share of them that do.
    """
    top = heat == np.nanmax(heat)
    if tolerance and mask.any():
        mask = distance_transform_edt(~mask) <= tolerance
    return float(mask[top].mean())


def energy(heat: Float[np.ndarray, "H W"], mask: Bool[np.ndarray, "H W"]) -> float:
    """The share of the map's positive part that lies in the mask; of a map without one, that of the area."""
    positive = np.nan_to_num(heat).clip(0)
    total = float(positive.sum())
    return float(positive[mask].sum()) / total if total > 0 else area_share(heat, mask)


def iou(heat: Float[np.ndarray, "H W"], mask: Bool[np.ndarray, "H W"], *, threshold: float) -> float:
    """Intersection over union of the mask and where the map, from 0 to 1, reaches the threshold."""
    found = levels(heat) >= threshold  # NaN is not
    union = int((found | mask).sum())
    return int((found & mask).sum()) / union if union else 0.0


def area_share(heat: Float[np.ndarray, "H W"], mask: Bool[np.ndarray, "H W"]) -> float:
    """The share of what was seen that lies in the mask: where a random point falls."""
    return float(mask[np.isfinite(heat)].mean())


def levels(heat: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """The map from 0 (its lowest) to 1; a flat one is 1 everywhere."""
    low, high = float(np.nanmin(heat)), float(np.nanmax(heat))
    return (heat - low) / (high - low) if high > low else heat - low + 1


def best_threshold(maps: Maps, masks: Masks) -> float | None:
    """The one of `LEVELS` with the largest mean IoU, the lowest of equals; None without maps.

    To be chosen on validation films, and used on others.
    """
    if not maps:
        return None
    means = [
        np.mean([iou(heat, mask, threshold=level) for heat, mask in zip(maps, masks, strict=True)])
        for level in LEVELS
    ]
    return LEVELS[int(np.argmax(means))]


def centre_map(heat: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """A floor: a round hill in the middle of the film, a quarter of its sides wide, where `heat` was seen."""
    rows, columns = (((np.arange(length) + 0.5) / length - 0.5) / 0.25 for length in heat.shape)
    hill = np.exp(-(rows[:, None] ** 2 + columns[None] ** 2) / 2)
    return np.where(np.isfinite(heat), hill, np.nan)


def uniform_map(heat: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """A floor: flat where `heat` was seen; its pointing is what a random point expects."""
    return np.where(np.isfinite(heat), 1.0, np.nan)


def localisation(
    maps: Maps,
    masks: Masks,
    *,
    threshold: float | None,
    tolerance: float = 0.0,
) -> dict[str, Float[np.ndarray, " N"]]:
    """The metrics of every film, by their names in `METRICS`; without a threshold, those that need none."""
    pairs = list(zip(maps, masks, strict=True))
    found = {
        "pointing": np.array([pointing(heat, mask, tolerance=tolerance) for heat, mask in pairs], np.float64),
        "energy": np.array([energy(heat, mask) for heat, mask in pairs], np.float64),
    }
    if threshold is not None:
        found["iou"] = np.array([iou(heat, mask, threshold=threshold) for heat, mask in pairs], np.float64)
        found["hit_rate"] = (found["iou"] >= OVERLAP).astype(np.float64)
    return found


def mean_estimates(
    scores: Mapping[str, Float[np.ndarray, " N"]],
    *,
    finding: str,
    patients: Shaped[np.ndarray, " N"],
    replicates: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> list[Estimate]:
    """The mean of each score over films, with an interval from a bootstrap over patients.

    Equal patients and seeds give equal resamples: the difference of two methods' scores is a score too.
    """
    _, patient = np.unique(patients, return_inverse=True)
    num = int(patient.max()) + 1
    chunks = range(-(-replicates // CHUNK))
    drawn = np.concatenate([draw(num, chunk, seed=seed) for chunk in chunks], axis=1)[:, :replicates]
    weights = drawn[patient].astype(np.float64)
    few = (f"only {num} patient{'s' * (num != 1)}",) if num < FEW else ()
    found = []
    for metric, score in scores.items():
        low, high, remarks = interval(score @ weights / weights.sum(0), patients=num, level=level)
        counts = (len(score), num, len(score))
        note = "; ".join((*few, *remarks))
        found.append(Estimate(metric, finding, float(score.mean()), low, high, *counts, note))
    return found


def _span(low: float, high: float, length: int) -> slice:
    """The pixels whose middles lie between two edges, or the one between them."""
    first, after = (int(np.ceil(edge - 0.5)) for edge in (low, high))
    if after <= first:
        first = int((low + high) / 2)
        after = first + 1
    return slice(min(max(first, 0), length - 1), max(min(after, length), 1))
