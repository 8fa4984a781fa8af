"""ROC and precision-recall curves with pointwise bands from a bootstrap over patients."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Int

from hilum.report.report import LEVEL, Curve

GRID = np.linspace(0, 1, 101)
REPLICATES = 500
"""Enough for the edge of a drawn band; the numbers in the tables use the replicates that were asked for."""

CELLS = 4_000_000  # of replicate weights in memory at once: 32 MB


def curves(
    finding: str,
    truth: Float[np.ndarray, " N"],
    *,
    score: Float[np.ndarray, " N"],
    patients: Int[np.ndarray, " N"],
    seed: int,
    replicates: int = REPLICATES,
) -> tuple[Curve, Curve]:
    """The ROC curve (sensitivity over 1 - specificity) and the precision-recall curve of one finding.

    `truth` is 1 or 0 and holds both; `patients` numbers the patients from 0. Equal scores are one step. Every
    replicate draws whole patients with replacement; one without both classes is drawn again.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.r_[np.flatnonzero(np.diff(score[order])), len(score) - 1]
    positive, owner = truth[order] == 1, patients[order]
    point = _points(np.ones(len(truth)), positive, ends)
    drawn = [
        _points(weights, positive, ends)
        for weights in _weights(owner, positive, replicates=min(replicates, REPLICATES), seed=seed)
    ]
    return (
        _curve("roc", finding, _roc, point, drawn),
        _curve("precision_recall", finding, _precision, point, drawn, chance=float(positive.mean())),
    )


_Points = tuple[np.ndarray, np.ndarray]


def _points(weights: np.ndarray, positive: np.ndarray, ends: np.ndarray) -> _Points:
    """Weighted true and false positives, at every distinct threshold from the highest."""
    true = np.cumsum(weights * positive)[ends]
    false = np.cumsum(weights * ~positive)[ends]
    return true, false


def _roc(point: _Points) -> np.ndarray:
    true, false = (np.r_[0.0, part] / part[-1] for part in point)
    at = np.searchsorted(false, GRID + 1e-12, side="right") - 1  # of equal abscissae the highest point
    after = np.minimum(at + 1, len(false) - 1)
    width = false[after] - false[at]
    share = np.divide(GRID - false[at], width, out=np.zeros_like(GRID), where=width > 0)
    height: np.ndarray = true[at] + share * (true[after] - true[at])
    return height


def _precision(point: _Points) -> np.ndarray:
    true, false = point
    recall = true / true[-1]
    first = int(
        np.searchsorted(true, 0, side="right")
    )  # before the first positive, precision is 0 by accident
    at = np.maximum(np.searchsorted(recall, GRID - 1e-12, side="left"), first)
    height: np.ndarray = true[at] / (true[at] + false[at])
    return height


def _curve(
    kind: str,
    finding: str,
    heights: Callable[[_Points], np.ndarray],
    point: _Points,
    drawn: list[_Points],
    *,
    chance: float | None = None,
) -> Curve:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.stack([heights(p) for p in drawn]), [tail, 1 - tail], axis=0)
    numbers = (tuple(np.round(a, 5).tolist()) for a in (GRID, heights(point), low, high))
    x, y, low_, high_ = numbers
    return Curve(kind, finding, x, y, low_, high_, chance)  # type: ignore[arg-type]


def _weights(
    owner: np.ndarray, positive: np.ndarray, *, replicates: int, seed: int
) -> Iterator[Float[np.ndarray, " N"]]:
    """How often each radiograph is in each replicate."""
    rng = np.random.default_rng(seed)
    patients, numbers = np.unique(owner, return_inverse=True)
    num = len(patients)
    made = tries = 0
    while made < replicates and tries < 100 * replicates:
        size = max(1, min(replicates - made, CELLS // max(1, num)))
        for times in rng.multinomial(num, np.full(num, 1 / num), size=size):
            tries += 1
            weights = times[numbers].astype(float)
            if (weights * positive).any() and (weights * ~positive).any():
                made += 1
                yield weights
