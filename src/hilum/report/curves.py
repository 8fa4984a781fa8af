"""ROC and precision-recall curves with pointwise bands from a bootstrap over patients."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

from hilum.report.report import LEVEL, Curve

GRID = np.linspace(0, 1, 101)
REPLICATES = 500
"""Enough for the edge of a drawn band; the numbers of the tables have more."""


def curves(
    finding: str,
    truth: Float[np.ndarray, " N"],
    *,
    score: Float[np.ndarray, " N"],
    patients: Shaped[np.ndarray, " N"],
    seed: int,
) -> tuple[Curve, Curve]:
    """The ROC curve (sensitivity over 1 - specificity) and the precision-recall curve of one finding.

    `truth` is 1 or 0 and holds both. Equal scores are one step. Every replicate draws whole patients; one
    without both classes is left out.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.r_[np.flatnonzero(np.diff(score[order])), len(score) - 1]
    positive = truth[order] == 1
    owner = np.unique(patients[order], return_inverse=True)[1]

    def heights(times: Shaped[np.ndarray, " P"]) -> Float[np.ndarray, "2 G"]:
        weights = times[owner]
        true, false = np.where(positive, weights, 0), np.where(positive, 0, weights)
        return _heights(np.cumsum(true)[ends], np.cumsum(false)[ends])

    num = int(owner.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = [heights(np.bincount(rng.integers(num, size=num), minlength=num)) for _ in range(REPLICATES)]
    band = np.nanquantile(np.stack(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    point = heights(np.ones(num))
    return (
        _curve("roc", finding, point[0], band[:, 0]),
        _curve("precision_recall", finding, point[1], band[:, 1], chance=float(positive.mean())),
    )


def _heights(true: Float[np.ndarray, " T"], false: Float[np.ndarray, " T"]) -> Float[np.ndarray, "2 G"]:
    """Sensitivity at each false-positive rate and precision at each recall of the grid.

    From the true and false positives at every distinct threshold from the highest.
    """
    if not true[-1] or not false[-1]:
        return np.full((2, len(GRID)), np.nan)
    return np.stack([_sensitivity(true, false), _precision(true, false)])


def _sensitivity(true: Float[np.ndarray, " T"], false: Float[np.ndarray, " T"]) -> Float[np.ndarray, " G"]:
    y, x = (np.r_[0.0, part] / part[-1] for part in (true, false))
    at = np.searchsorted(x, GRID + 1e-12, side="right") - 1  # of equal abscissae the highest point
    after = np.minimum(at + 1, len(x) - 1)
    width = x[after] - x[at]
    share = np.divide(GRID - x[at], width, out=np.zeros_like(GRID), where=width > 0)
    height: Float[np.ndarray, " G"] = y[at] + share * (y[after] - y[at])
    return height


def _precision(true: Float[np.ndarray, " T"], false: Float[np.ndarray, " T"]) -> Float[np.ndarray, " G"]:
    first = int(
        np.searchsorted(true, 0, side="right")
    )  # before the first positive, precision is 0 by accident
    at = np.maximum(np.searchsorted(true / true[-1], GRID - 1e-12, side="left"), first)
    height: Float[np.ndarray, " G"] = true[at] / (true[at] + false[at])
    return height


def _curve(
    kind: Literal["roc", "precision_recall"],
    finding: str,
    height: Float[np.ndarray, " G"],
    band: Float[np.ndarray, "2 G"],
    *,
    chance: float | None = None,
) -> Curve:
    x, y, low, high = (tuple(np.round(part, 5).tolist()) for part in (GRID, height, *band))
    return Curve(kind, finding, x, y, low, high, chance)
