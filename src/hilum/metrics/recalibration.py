"""Probabilities corrected by a curve that was fitted on other films: temperature, Platt, isotonic.

A curve is fitted on the validation split and applied to the test split; no curve ever sees the labels that it
is judged by. Temperature and a rising Platt curve keep the order of the films; isotonic ties some of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import isotonic_regression, minimize_scalar
from scipy.special import expit, log_softmax, logsumexp, softmax

from hilum.metrics.calibration import LIMIT, logistic_line, logits


@dataclass(frozen=True)
class Temperature:
    """Logits divided by one number (Guo et al., ICML 2017, https://arxiv.org/abs/1706.04599)."""

    temperature: float

    @classmethod
    def fit(cls, truth: Float[np.ndarray, " N"], probability: Float[np.ndarray, " N"]) -> "Temperature":
        """The temperature of the largest likelihood; labels are 1 and 0, both there."""
        x = logits(probability)
        return cls(_hottest(lambda t: float(np.sum(np.logaddexp(0, x / t) - truth * x / t))))

    def __call__(self, probability: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """The probabilities at that temperature."""
        cooled: Float[np.ndarray, " N"] = expit(logits(probability) / self.temperature)
        return cooled


@dataclass(frozen=True)
class SoftmaxTemperature:
    """`Temperature` for classes that exclude each other: one for all of them."""

    temperature: float

    @classmethod
    def fit(
        cls, truth: Float[np.ndarray, "N C"], probability: Float[np.ndarray, "N C"]
    ) -> "SoftmaxTemperature":
        """The temperature of the largest likelihood; every row of labels has one 1."""
        x = _log(probability)

        def loss(t: float) -> float:
            return float(np.sum(logsumexp(x / t, axis=1) - (truth * x).sum(axis=1) / t))

        return cls(_hottest(loss))

    def __call__(self, probability: Float[np.ndarray, "N C"]) -> Float[np.ndarray, "N C"]:
        """The probabilities at that temperature; rows sum to 1."""
        cooled: Float[np.ndarray, "N C"] = softmax(_log(probability) / self.temperature, axis=1)
        return cooled


@dataclass(frozen=True)
class Platt:
    """A logistic curve over the logit (Platt, Advances in Large Margin Classifiers, 1999).

    As there, the targets are not 1 and 0 but a little inside, which keeps the slope finite.
    """

    intercept: float
    slope: float

    @classmethod
    def fit(cls, truth: Float[np.ndarray, " N"], probability: Float[np.ndarray, " N"]) -> "Platt":
        """The curve of the largest likelihood; labels are 1 and 0, both there."""
        positives = float(truth.sum())
        negatives = len(truth) - positives
        target = np.where(truth == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
        x = logits(probability)
        if x.min() == x.max():
            # One probability for all: the intercept alone says what there is to say.
            return cls(float(np.log(target.mean() / (1 - target.mean())) - x[0]), 1.0)
        return cls(*logistic_line(x, target))

    def __call__(self, probability: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """The curve at the probabilities."""
        curved: Float[np.ndarray, " N"] = expit(self.intercept + self.slope * logits(probability))
        return curved


@dataclass(frozen=True)
class Isotonic:
    """The rising steps nearest to the labels, straight between them (Zadrozny and Elkan, KDD 2002)."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    @classmethod
    def fit(cls, truth: Float[np.ndarray, " N"], probability: Float[np.ndarray, " N"]) -> "Isotonic":
        """The steps of the least squared distance; labels are 1 and 0."""
        levels, group, films = np.unique(probability, return_inverse=True, return_counts=True)
        share = np.bincount(group, truth) / films
        steps = isotonic_regression(share, weights=films).x
        # Only the ends of a step are needed.
        edge = np.r_[True, steps[1:] != steps[:-1]] | np.r_[steps[1:] != steps[:-1], True]
        return cls(tuple(levels[edge].tolist()), tuple(np.clip(steps[edge], 0, 1).tolist()))

    def __call__(self, probability: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """The steps at the probabilities; beyond the first and the last they go on level."""
        steps: Float[np.ndarray, " N"] = np.interp(probability, self.x, self.y)
        return steps


FITS: dict[
    str, Callable[[Float[np.ndarray, " N"], Float[np.ndarray, " N"]], Temperature | Platt | Isotonic]
] = {"temperature": Temperature.fit, "platt": Platt.fit, "isotonic": Isotonic.fit}
"""Each way of recalibration of one finding."""


def _log(probability: Float[np.ndarray, "N C"]) -> Float[np.ndarray, "N C"]:
    """Logits that softmax takes to the probabilities."""
    inside: Float[np.ndarray, "N C"] = log_softmax(np.log(np.maximum(probability, LIMIT)), axis=1)
    return inside


def _hottest(loss: Callable[[float], float]) -> float:
    """The temperature of the least loss, from 0.01 to 100: there the loss has one valley in 1 / T."""
    found = minimize_scalar(
        lambda cold: loss(1 / cold), bounds=(0.01, 100), method="bounded", options={"xatol": 1e-9}
    )
    return float(1 / found.x)
