"""Bootstrap replicates of many runs on the same patients: means over seeds, differences, p values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int

from hilum.metrics.summary import two_sided
from hilum.report.budget import Budget
from hilum.report.report import LEVEL

__all__ = ["Group", "Measured", "Place", "Replicates", "band", "holm", "over_seeds", "picks", "two_sided"]

Group: TypeAlias = tuple[str, Budget]
"""The fits that differ in their seed alone: a run and how many labels they saw."""


@dataclass(frozen=True)
class Place:
    """A column of the replicates, what stands behind it, and why it is undefined, if it is."""

    finding: str
    column: int
    images: int
    patients: int
    positives: int
    why: str


@dataclass(frozen=True)
class Replicates:
    """A metric of the runs of a group, and in every replicate; the last column is the mean over findings.

    Undefined values are NaN. A finding that is undefined in any run is in no mean, and a replicate that lacks
    one of the others has none.
    """

    point: Float[np.ndarray, "S C"]
    drawn: Float[np.ndarray, "S R C"]


@dataclass(frozen=True)
class Measured:
    """One metric of every group, on the same patients in every replicate; the main place first."""

    metric: str
    places: tuple[Place, ...]
    groups: Mapping[Group, Replicates]
    seed_numbers: Mapping[Group, tuple[int, ...]]
    seed: int
    fits: Mapping[Group, int]
    """How many of a group's runs differ in their predictions."""
    _means: dict[Group, Float[np.ndarray, "R C"]] = field(default_factory=dict)

    def value(self, group: Group, place: Place) -> float:
        """The mean over seeds."""
        return float(self.groups[group].point[:, place.column].mean())

    def drawn(self, group: Group) -> Float[np.ndarray, "R C"]:
        """The mean over seeds in every replicate; groups of equal seeds draw the same ones."""
        if group not in self._means:
            drawn = self.groups[group].drawn
            distinct = list(dict.fromkeys(self.seed_numbers.values()))
            seed = self.seed + distinct.index(self.seed_numbers[group])
            chosen = picks(len(drawn), replicates=drawn.shape[1], seed=seed)
            self._means[group] = over_seeds(drawn, chosen)
        return self._means[group]

    def difference(self, group: Group, other: Group, place: Place) -> Float[np.ndarray, " R"]:
        """The mean of a group minus that of another in every replicate."""
        column = place.column
        minus: np.ndarray = self.drawn(group)[:, column] - self.drawn(other)[:, column]
        return minus


def over_seeds(
    runs: Float[np.ndarray, "S R ..."], picks: Int[np.ndarray, "R S"]
) -> Float[np.ndarray, "R ..."]:
    """The mean over the seeds that each replicate picked.

    A mean of S values drawn from S has (S - 1) / S of the variance that a mean of S new seeds has; the spread
    around the mean of all seeds is widened to make up for it. Intervals of few seeds stay too narrow where
    seeds, and not patients, make most of the spread.
    """
    num = len(runs)
    centre = runs.mean(axis=0)
    picked = runs[picks.T, np.arange(runs.shape[1])].mean(axis=0)
    widened: np.ndarray = centre + (np.sqrt(num / (num - 1)) * (picked - centre) if num > 1 else 0.0)
    return widened


def picks(num_seeds: int, *, replicates: int, seed: int) -> Int[np.ndarray, "R S"]:
    """The seeds of every replicate, with replacement; a function of its arguments."""
    return np.random.default_rng([seed, num_seeds]).integers(num_seeds, size=(replicates, num_seeds))


def band(drawn: Float[np.ndarray, " R"], *, patients: int) -> tuple[float | None, float | None, str]:
    """The middle 95 % of the defined replicates, and a note where there is none."""
    defined = drawn[~np.isnan(drawn)]
    if patients < 2:
        return None, None, "no interval: one patient"
    if len(defined) < max(2, len(drawn) / 2):
        return None, None, "no interval: undefined in most replicates"
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high), ""


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given.

    The i-th smallest of m is multiplied by m - i + 1; none may fall below a smaller one's, nor exceed 1.
    Holm, Scandinavian Journal of Statistics 6, 65 (1979). https://www.jstor.org/stable/4615733

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected = [0.0] * len(p_values)
    reached = 0.0
    for rank, place in enumerate(order):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = reached
    return corrected
