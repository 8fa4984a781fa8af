"""Metrics of many weightings of the same radiographs at once; sorted once, summed once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from hilum.errors import RecordsError
from hilum.metrics.classification import known_labels
from hilum.metrics.resample import Counts

Scorer = Callable[[Counts], Float[np.ndarray, " R"]]
"""From how often each patient counts to the metric; NaN where it is undefined."""


@dataclass(frozen=True)
class Ranking:
    """One finding's radiographs, sorted into slots that every weighting can be summed over.

    Between two successive distinct scores of positives, and at each of them, negatives matter only by their
    total weight. So there are three slots per distinct score of positives, from the highest: the negatives
    above it (and below the one before), the positives at it, the negatives at it. Slots of a kind stand
    together, and each kind has one more, in which the negatives below all positives are.
    """

    owner: Int[np.ndarray, " K"]
    slots: Int[np.ndarray, " M"]
    starts: Int[np.ndarray, " M"]
    num: int

    @classmethod
    def of(
        cls,
        truth: Float[np.ndarray, " N"],
        score: Real[np.ndarray, " N"],
        *,
        owner: Int[np.ndarray, " N"],
    ) -> "Ranking":
        """Sorts the radiographs whose label is known; `owner` is the patient of each."""
        positive, known = known_labels(truth, score)
        owner = owner[(truth == 1) | (truth == 0)]
        distinct, step = np.unique(known, return_inverse=True)
        falling = len(distinct) - 1 - step
        has = np.zeros(len(distinct), dtype=np.int64)
        has[falling[positive]] = 1
        before = np.cumsum(has) - has
        kind = np.where(positive, 1, 2 * has[falling])
        slot = before[falling] + kind * (has.sum() + 1)
        order = np.argsort(slot, kind="stable")
        slots, starts = np.unique(slot[order], return_index=True)
        return cls(owner[order], slots, starts, int(has.sum()))

    def sums(self, counts: Counts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Per replicate and distinct score of positives, from the highest.

        Negatives at or above it, in one more column all of them; positives at it; negatives at it.
        """
        dense = np.zeros((counts.num, 3, self.num + 1))
        if len(self.slots):
            dense.reshape(counts.num, -1)[:, self.slots] = counts.sums(self.owner, self.starts)
        positives, level = dense[:, 1, :-1], dense[:, 2, :-1]
        reached = dense[:, 0] + dense[:, 2]
        return np.cumsum(reached, axis=1, out=reached), positives, level

    def auroc(self, counts: Counts) -> Float[np.ndarray, " R"]:
        """AUROC with half of every tie; exact, since all sums are of whole numbers."""
        reached, positives, level = self.sums(counts)
        total, negatives = positives.sum(1), reached[:, -1]
        lost = np.einsum("rk,rk->r", positives, reached[:, :-1]) - np.einsum("rk,rk->r", positives, level) / 2
        return ratio(total * negatives - lost, total * negatives)

    def average_precision(self, counts: Counts) -> Float[np.ndarray, " R"]:
        """Precision at every distinct score of a positive, weighted by the recall gained there."""
        reached, positives, _ = self.sums(counts)
        true = np.cumsum(positives, axis=1)
        called = true + reached[:, :-1]
        precision = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
        gained = np.einsum("rk,rk->r", positives, precision)
        return np.where(reached[:, -1] > 0, ratio(gained, positives.sum(1)), np.nan)


def shares(
    metric: str,
    truth: Float[np.ndarray, " N"],
    score: Real[np.ndarray, " N"],
    *,
    owner: Int[np.ndarray, " N"],
    threshold: float,
) -> Scorer:
    """A metric that is a weighted mean over radiographs, summed per patient beforehand."""
    known = ~np.isnan(truth)
    called = score >= threshold
    among: Bool[np.ndarray, " N"] = {
        "accuracy": known,
        "brier": known,
        "sensitivity": truth == 1,
        "specificity": truth == 0,
    }[metric]
    if metric == "brier":
        if known.any() and not (score[known].min() >= 0 and score[known].max() <= 1):
            raise RecordsError("the Brier score is of probabilities; a score is outside [0, 1]")
        worth = (score.astype(float) - np.where(known, truth, 0)) ** 2
    else:
        worth = (called == (truth == 1)).astype(float)
    gained, total = (
        np.bincount(owner[among], part[among], minlength=int(owner.max(initial=-1)) + 1)
        for part in (worth, np.ones(len(worth)))
    )
    undefined = metric != "brier" and np.isnan(threshold)

    def scorer(counts: Counts) -> Float[np.ndarray, " R"]:
        if undefined:
            return np.full(counts.num, np.nan)
        return ratio(counts.each @ gained, counts.each @ total)

    return scorer


def ratio(part: Float[np.ndarray, " R"], whole: Float[np.ndarray, " R"]) -> Float[np.ndarray, " R"]:
    """NaN instead of a division by zero."""
    out: Float[np.ndarray, " R"] = np.full(len(part), np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out
