"""Bootstrap replicates of many runs on the same patients: means over seeds, differences, p values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from hilum.metrics.bootstrap import bootstrap_values
from hilum.metrics.classification import auroc, average_precision
from hilum.report.join import Scored
from hilum.report.report import LEVEL


@dataclass(frozen=True)
class Replicates:
    """A metric of one run, and in every replicate; the last column is the mean of the defined findings.

    Undefined values are NaN, and so is a replicate's mean without one of the findings.
    """

    point: Float[np.ndarray, " C"]
    drawn: Float[np.ndarray, "R C"]


def replicate(metric: str, scored: Scored, *, replicates: int, seed: int) -> Replicates:
    """The metric of a run per finding and on average; equal seeds draw equal patients."""
    score = {"auroc": auroc, "average_precision": average_precision}[metric]
    point = np.full(len(scored.findings), np.nan)
    for column in range(len(point)):
        known = scored.labelled(column)
        if known.any():
            point[column] = score(scored.truth[known, column], scored.score[known, column])
    drawn = bootstrap_values(
        metric, scored.truth, scored.score, patients=scored.patients, replicates=replicates, seed=seed
    )
    defined = ~np.isnan(point)
    if not defined.any():
        return Replicates(np.r_[point, np.nan], np.c_[drawn, np.full(len(drawn), np.nan)])
    return Replicates(np.r_[point, point[defined].mean()], np.c_[drawn, drawn[:, defined].mean(axis=1)])


def over_seeds(runs: Float[np.ndarray, "S R"], picks: Int[np.ndarray, "R S"]) -> Float[np.ndarray, " R"]:
    """The mean over the seeds that each replicate picked.

    A mean of S values drawn from S has (S - 1) / S of the variance that a mean of S new seeds has; the spread
    around the mean of all seeds is widened to make up for it. Intervals of few seeds stay too narrow where
    seeds, and not patients, make most of the spread.
    """
    num = len(runs)
    centre = runs.mean(axis=0)
    picked = np.take_along_axis(runs.T, picks, axis=1).mean(axis=1)
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


def two_sided(drawn: Float[np.ndarray, " R"]) -> float:
    """Twice the share of replicates on the rarer side of 0; never 0, which no number of them shows."""
    defined = drawn[~np.isnan(drawn)]
    rarer = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(defined) + 1))


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
