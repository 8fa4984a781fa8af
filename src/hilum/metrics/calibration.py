"""Whether probabilities can be taken at their word: of the films given 0.3, have 3 in 10 the finding?

Labels are 1, 0 and NaN (unknown, left out); every function takes one finding. NaN is undefined.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.special import expit, logit

BINS = 10
"""Bins of a reliability diagram and of the calibration error."""

LIMIT = 1e-7
"""Probabilities are kept so far from 0 and 1 where their logit is taken: float32 has none nearer to 1."""


def bins(
    probability: Shaped[np.ndarray, " N"], *, num: int = BINS, equal: Literal["mass", "width"] = "mass"
) -> Int[np.ndarray, " N"]:
    """The bin of every film: of equally many films each, or of equal parts of the way from 0 to 1.

    Equal probabilities share a bin, so bins of equal mass are equal only as far as ties allow, and some may
    be empty. A probability on the border of two widths belongs to the lower.
    """
    if equal == "width":
        return np.searchsorted(np.linspace(0, 1, num + 1)[1:-1], probability)
    ordered = np.sort(probability)
    first, after = (np.searchsorted(ordered, probability, side=side) for side in ("left", "right"))
    # The middle of its ties says where a film stands.
    place: Int[np.ndarray, " N"] = (first + after - 1) * num // (2 * max(1, len(ordered)))
    return place


def calibration_error(
    truth: Shaped[np.ndarray, " N"],
    probability: Shaped[np.ndarray, " N"],
    *,
    num: int = BINS,
    equal: Literal["mass", "width"] = "mass",
) -> float:
    """The expected calibration error: |mean probability - share of positives|, averaged over all films' bins.

    Naeini, Cooper and Hauskrecht, AAAI 2015 (equal widths); Nguyen and O'Connor, EMNLP 2015 (equal mass). It
    is above 0 for a perfectly calibrated model too: see `hilum.metrics.calibration_null`.
    """
    known = ~np.isnan(truth.astype(np.float64))
    if not known.any():
        return float("nan")
    label, value = truth[known].astype(np.float64), probability[known].astype(np.float64)
    excess = np.bincount(bins(value, num=num, equal=equal), value - label, minlength=num)
    return float(np.abs(excess).sum() / len(label))


def calibration_line(
    truth: Shaped[np.ndarray, " N"], probability: Shaped[np.ndarray, " N"]
) -> tuple[float, float]:
    """Intercept and slope of the logistic regression of the label on the probability's logit.

    (0, 1) is perfect; a slope below 1 says too sure, above 1 not sure enough (Cox, Biometrika 45, 562, 1958).
    NaN without both classes, or where one probability parts them and no slope is steep enough.
    """
    label, x = _known(truth, probability)
    low, high = x[label == 0], x[label == 1]
    if not len(low) or not len(high) or low.max() <= high.min() or high.max() <= low.min():
        return float("nan"), float("nan")
    return logistic_line(x, label)


def calibration_in_the_large(truth: Shaped[np.ndarray, " N"], probability: Shaped[np.ndarray, " N"]) -> float:
    """What must be added to every logit for the mean probability to be the prevalence; 0 is perfect.

    That is the intercept of `calibration_line` if its slope is held at 1 (Van Calster et al., BMC Medicine
    17, 230, 2019). Above 0 the model says too little. NaN without both classes.
    """
    label, x = _known(truth, probability)
    if not len(label) or label.min() == label.max():
        return float("nan")
    # The mean of probabilities rises with the shift; Newton's steps from below could leave the range.
    low, high = -50.0, 50.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(x + middle).mean() < label.mean() else (low, middle)
    return (low + high) / 2


def logistic_line(x: Float[np.ndarray, " N"], target: Float[np.ndarray, " N"]) -> tuple[float, float]:
    """Intercept and slope of a logistic regression without a penalty; targets are in [0, 1].

    Newton's method, every step halved until it lowers the loss. NaN where it does not end.
    """
    design = np.stack([np.ones_like(x), x])
    line = np.zeros(2)

    def loss(line: Float[np.ndarray, " 2"]) -> float:
        z = line @ design
        return float(np.sum(np.logaddexp(0, z) - target * z))

    now = loss(line)
    for _ in range(100):
        mean = expit(line @ design)
        gradient = design @ (target - mean)
        curvature = (design * (mean * (1 - mean))) @ design.T
        if np.linalg.det(curvature) <= 0:
            break
        step = np.linalg.solve(curvature, gradient)
        # Half the decrement is how far the loss is from its least.
        if gradient @ step < 1e-12 * max(1.0, now):
            return float(line[0] + step[0]), float(line[1] + step[1])
        while loss(line + step) > now and np.abs(step).max() > 1e-12:
            step = step / 2
        line = line + step
        now = loss(line)
    return float("nan"), float("nan")


def logits(probability: Shaped[np.ndarray, "*_"]) -> Float[np.ndarray, "*_"]:
    """The logits of probabilities, 0 and 1 moved inside by `LIMIT`."""
    inside: Float[np.ndarray, "*_"] = logit(np.clip(probability.astype(np.float64), LIMIT, 1 - LIMIT))
    return inside


def _known(
    truth: Shaped[np.ndarray, " N"], probability: Shaped[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    known = ~np.isnan(truth.astype(np.float64))
    return truth[known].astype(np.float64), logits(probability[known])
