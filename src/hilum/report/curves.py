"""ROC and precision-recall curves with pointwise bands from a bootstrap over patients."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

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
    owner = np.unique(patients, return_inverse=True)[1]
    ranking = _Ranking.of(truth == 1, score, owner)
    num = int(owner.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = [
        ranking.heights(np.bincount(rng.integers(num, size=num), minlength=num)) for _ in range(REPLICATES)
    ]
    band = np.nanquantile(np.stack(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    point = ranking.heights(np.ones(num, np.int64))
    return (
        _curve("roc", finding, point[0], band[:, 0]),
        _curve("precision_recall", finding, point[1], band[:, 1], chance=float((truth == 1).mean())),
    )


@dataclass(frozen=True)
class _Ranking:
    """Films from the highest score down: whose the positives and the negatives are.

    A threshold lies below each distinct score, and one above all; `true` and `false` are how many positives
    and negatives each of them calls present.
    """

    positives: Int[np.ndarray, " M"]
    negatives: Int[np.ndarray, " N"]
    true: Int[np.ndarray, " T"]
    false: Int[np.ndarray, " T"]

    @classmethod
    def of(
        cls, positive: Bool[np.ndarray, " K"], score: Float[np.ndarray, " K"], owner: Int[np.ndarray, " K"]
    ) -> "_Ranking":
        order = np.argsort(-score, kind="stable")
        positive, owner = positive[order], owner[order]
        ends = np.r_[-1, np.flatnonzero(np.diff(score[order])), len(score) - 1] + 1
        true = np.r_[0, np.cumsum(positive)][ends]
        return cls(owner[positive], owner[~positive], true, ends - true)

    def heights(self, times: Int[np.ndarray, " P"]) -> Float[np.ndarray, "2 G"]:
        """Sensitivity at each false-positive rate and precision at each recall of the grid.

        `times` is how often each patient was drawn; NaN if that leaves a class without films.
        """
        true, false = (np.r_[0, np.cumsum(times[part])] for part in (self.positives, self.negatives))
        if not true[-1] or not false[-1]:
            return np.full((2, len(GRID)), np.nan)
        return np.stack([self._sensitivity(true, false), self._precision(true, false)])

    def _sensitivity(
        self, true: Int[np.ndarray, " M1"], false: Int[np.ndarray, " N1"]
    ) -> Float[np.ndarray, " G"]:
        """From the running counts of positives and negatives, straight within films of equal score."""
        wanted = GRID * false[-1]
        # Of equal rates the highest point: the last threshold that calls no more negatives than that.
        within = np.searchsorted(false, wanted + 1e-9, side="right") - 1
        at = np.searchsorted(self.false, within, side="right") - 1
        after = np.minimum(at + 1, len(self.false) - 1)
        x, x_after = false[self.false[at]], false[self.false[after]]
        y, y_after = true[self.true[at]], true[self.true[after]]
        share = np.divide(wanted - x, x_after - x, out=np.zeros(len(GRID)), where=x_after > x)
        height: Float[np.ndarray, " G"] = (y + share * (y_after - y)) / true[-1]
        return height

    def _precision(
        self, true: Int[np.ndarray, " M1"], false: Int[np.ndarray, " N1"]
    ) -> Float[np.ndarray, " G"]:
        # Before the first positive that was drawn, precision is 0 by accident.
        enough = np.maximum(
            np.searchsorted(true, GRID * true[-1] - 1e-9), np.searchsorted(true, 0, side="right")
        )
        at = np.searchsorted(self.true, enough)
        hits, alarms = true[self.true[at]], false[self.false[at]]
        height: Float[np.ndarray, " G"] = hits / (hits + alarms)
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
