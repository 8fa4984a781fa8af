"""The learning-rate range test: what a loss does while the learning rate rises (Smith 2015).

https://arxiv.org/abs/1506.01186
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

WIDTH = 0.04
"""Deviation of the smoothing, as a share of the sweep."""
BEGUN = 0.2
"""A fall counts once the loss has done this share of it: before, noise may be steeper."""
WORSE = 0.5
"""Divergence is a loss above the first by this share of what it had fallen, and more than its noise."""


@dataclass(frozen=True)
class Suggestion:
    """What the curve says."""

    steepest_fall: float
    """The rate at which the smoothed loss falls fastest per factor of the rate."""
    highest_before_divergence: float
    """The rate of the lowest smoothed loss: from here on it rises or breaks down."""
    diverged: bool
    """Whether it did, or the sweep ended first: higher rates may then do as well."""


def sweep(lowest: float, highest: float, steps: int) -> Float[np.ndarray, " N"]:
    """Learning rates that grow by the same factor from step to step.

    >>> sweep(1e-4, 1e-1, 4).round(6).tolist()
    [0.0001, 0.001, 0.01, 0.1]
    """
    return np.geomspace(lowest, highest, steps)


def smooth(losses: Float[np.ndarray, " N"], planned: int) -> Float[np.ndarray, " N"]:
    """The losses under a Gaussian as wide as `WIDTH` of the `planned` steps; it looks both ways: no lag."""
    places = np.arange(len(losses))
    width = max(WIDTH * planned, 0.5)
    weights = np.exp(-0.5 * ((places[:, None] - places) / width) ** 2)
    smoothed: Float[np.ndarray, " N"] = weights @ losses / weights.sum(1)
    return smoothed


def has_diverged(losses: Float[np.ndarray, " N"], planned: int) -> bool:
    """Whether the loss is now well above where it began: worse by half of its fall, and by 4 deviations.

    The deviations are those of the first tenth of the sweep, whose rates are too low to change anything.
    """
    first = _first(planned)
    if len(losses) < 2 * first:
        return False
    begin, noise = losses[:first].mean(), losses[:first].std()
    smoothed = smooth(losses, planned)
    fall = begin - smoothed.min()
    return bool(smoothed[-1] > begin + max(WORSE * fall, 4 * noise, 0.01 * abs(begin)))


def suggest(rates: Float[np.ndarray, " N"], losses: Float[np.ndarray, " N"], *, planned: int) -> Suggestion:
    """Rates to choose from; the sweep had `planned` steps and may have been stopped before."""
    smoothed = smooth(losses, planned)
    lowest = int(smoothed.argmin())
    begin = losses[: _first(planned)].mean()
    not_begun = np.flatnonzero(smoothed[:lowest] > begin - BEGUN * (begin - smoothed[lowest]))
    after = int(not_begun[-1]) if len(not_begun) else 0
    slope = np.gradient(smoothed, np.log(rates))
    steepest = after + int(slope[after : lowest + 1].argmin())
    return Suggestion(float(rates[steepest]), float(rates[lowest]), len(losses) < planned)


def _first(planned: int) -> int:
    return max(3, planned // 10)
