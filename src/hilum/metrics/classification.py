"""Scores of probabilities against labels of 1, 0 and NaN (unknown, left out).

Every function takes one finding; `mean_auroc` takes a table of them. What is undefined, for want of a class
or of any known label, is NaN: it is for the caller to say so and to keep it out of means.
"""

import numpy as np
from jaxtyping import Float, Int, Shaped


def auroc(
    truth: Shaped[np.ndarray, " N"],
    score: Shaped[np.ndarray, " N"],
    *,
    weight: Shaped[np.ndarray, " N"] | None = None,
) -> float:
    """The chance that a positive scores higher than a negative, ties counting half; NaN without both classes.

    >>> auroc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    _, positive, negative = _levels(truth, score, weight)
    pairs = positive.sum() * negative.sum()
    if pairs == 0:
        return float("nan")
    below = np.cumsum(negative) - negative / 2
    return float(positive @ below / pairs)


def mean_auroc(labels: Shaped[np.ndarray, "N F"], scores: Shaped[np.ndarray, "N F"]) -> float:
    """The mean AUROC over the findings that have both classes; NaN if none has."""
    values = [auroc(truth, score) for truth, score in zip(labels.T, scores.T, strict=True)]
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def average_precision(
    truth: Shaped[np.ndarray, " N"],
    score: Shaped[np.ndarray, " N"],
    *,
    weight: Shaped[np.ndarray, " N"] | None = None,
) -> float:
    """The mean over the positives of the precision at their score; NaN without both classes.

    No interpolation. Without negatives it would be 1 for any scores, which says nothing: that is NaN too.

    >>> average_precision(np.array([1, 0, 1]), np.array([0.9, 0.8, 0.7])).__round__(6)
    0.833333
    """
    _, positive, negative = _levels(truth, score, weight)
    if positive.sum() == 0 or negative.sum() == 0:
        return float("nan")
    true, called = np.cumsum(positive[::-1]), np.cumsum((positive + negative)[::-1])
    precision = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
    return float(positive[::-1] @ precision / true[-1])


def accuracy(truth: Shaped[np.ndarray, " N"], score: Shaped[np.ndarray, " N"], *, threshold: float) -> float:
    """The share of known labels that `score >= threshold` gets right; NaN if none is known."""
    counts = confusion_matrix(truth, score, threshold=threshold)
    return _share(counts.diagonal(), counts)


def sensitivity(
    truth: Shaped[np.ndarray, " N"], score: Shaped[np.ndarray, " N"], *, threshold: float
) -> float:
    """The share of the positives with `score >= threshold`; NaN without positives."""
    counts = confusion_matrix(truth, score, threshold=threshold)
    return _share(counts[1, 1:], counts[1])


def specificity(
    truth: Shaped[np.ndarray, " N"], score: Shaped[np.ndarray, " N"], *, threshold: float
) -> float:
    """The share of the negatives with `score < threshold`; NaN without negatives."""
    counts = confusion_matrix(truth, score, threshold=threshold)
    return _share(counts[0, :1], counts[0])


def brier(truth: Shaped[np.ndarray, " N"], score: Shaped[np.ndarray, " N"]) -> float:
    """The mean squared distance of probability and label (0 is best); NaN if no label is known."""
    positive, value, _ = _known(truth, score, None)
    return float(np.mean((value - positive) ** 2)) if len(value) else float("nan")


def confusion_matrix(
    truth: Shaped[np.ndarray, " N"], score: Shaped[np.ndarray, " N"], *, threshold: float
) -> Int[np.ndarray, "2 2"]:
    """Counts of `score >= threshold`: a row per label (0, 1), a column per decision (absent, present)."""
    positive, value, _ = _known(truth, score, None)
    called = value >= threshold
    return np.bincount(2 * positive.astype(np.int64) + called, minlength=4).reshape(2, 2)


def multiclass_accuracy(truth: Int[np.ndarray, " N"], scores: Shaped[np.ndarray, "N C"]) -> float:
    """The share of rows whose highest score (the first of equals) is that of the true class.

    `truth` is the index of the class, negative where it is unknown; NaN if all are.
    """
    known = truth >= 0
    right = scores[known].argmax(axis=1) == truth[known]
    return float(right.mean()) if len(right) else float("nan")


def youden_threshold(truth: Shaped[np.ndarray, " N"], score: Shaped[np.ndarray, " N"]) -> float:
    """The score t for which `score >= t` has the largest sensitivity + specificity; NaN without both classes.

    It is one of the scores; of equally good ones the highest. Youden, Cancer 3, 32 (1950).
    """
    false, true, levels = roc_curve(truth, score)
    if len(levels) < 2 or np.isnan(false[-1]) or np.isnan(true[-1]):
        return float("nan")
    return float(levels[1:][np.argmax((true - false)[1:])])


def roc_curve(
    truth: Shaped[np.ndarray, " N"],
    score: Shaped[np.ndarray, " N"],
    *,
    weight: Shaped[np.ndarray, " N"] | None = None,
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """False positive rate, true positive rate and threshold, from infinity down through every distinct score.

    A rate is NaN where its class is missing.
    """
    levels, positive, negative = _levels(truth, score, weight)
    return _rate(negative[::-1]), _rate(positive[::-1]), np.concatenate([[np.inf], levels[::-1]])


def precision_recall_curve(
    truth: Shaped[np.ndarray, " N"],
    score: Shaped[np.ndarray, " N"],
    *,
    weight: Shaped[np.ndarray, " N"] | None = None,
) -> tuple[Float[np.ndarray, " T1"], Float[np.ndarray, " T1"], Float[np.ndarray, " T"]]:
    """Precision, recall and threshold, thresholds ascending; one more point (1, 0) ends the curve.

    Recall is NaN without positives.
    """
    levels, positive, negative = _levels(truth, score, weight)
    true, called = np.cumsum(positive[::-1]), np.cumsum((positive + negative)[::-1])
    precision = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
    recall = _rate(positive[::-1])
    return np.concatenate([precision[::-1], [1.0]]), recall[::-1], levels


def _known(
    truth: Shaped[np.ndarray, " N"],
    score: Shaped[np.ndarray, " N"],
    weight: Shaped[np.ndarray, " N"] | None,
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    known = ~np.isnan(truth) if truth.dtype.kind == "f" else np.ones(len(truth), bool)
    value = score[known].astype(np.float64)
    # A NaN sorts last and would pass for the highest score of all.
    assert not np.isnan(value).any(), "a score is NaN"
    weights = np.ones(len(value)) if weight is None else weight[known].astype(np.float64)
    return truth[known].astype(np.float64), value, weights


def _levels(
    truth: Shaped[np.ndarray, " N"],
    score: Shaped[np.ndarray, " N"],
    weight: Shaped[np.ndarray, " N"] | None,
) -> tuple[Float[np.ndarray, " G"], Float[np.ndarray, " G"], Float[np.ndarray, " G"]]:
    """The distinct scores, ascending, with the weight of the positives and of the negatives at each."""
    positive, value, weights = _known(truth, score, weight)
    levels, group = np.unique(value, return_inverse=True)
    # Of nothing, bincount returns integers.
    at = [np.bincount(group, part, len(levels)) for part in (weights * positive, weights * (1 - positive))]
    return levels, at[0].astype(np.float64), at[1].astype(np.float64)


def _rate(amounts: Float[np.ndarray, " G"]) -> Float[np.ndarray, " T"]:
    """The share of the total reached after each amount, from 0 to 1."""
    reached = np.concatenate([[0.0], np.cumsum(amounts)])
    return reached / reached[-1] if reached[-1] > 0 else np.full(len(reached), np.nan)


def _share(part: Int[np.ndarray, "*_"], whole: Int[np.ndarray, "*_"]) -> float:
    return float(part.sum() / whole.sum()) if whole.sum() else float("nan")
