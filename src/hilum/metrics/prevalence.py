"""Predictive values where a finding is more or less common than among the films at hand."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Shaped

from hilum.metrics.bootstrap import Estimate
from hilum.metrics.sampling import Sampling
from hilum.metrics.summary import Line, interval, lines

AT_PREVALENCE = ("ppv_at_prevalence", "npv_at_prevalence")
"""Metrics of decisions at a prevalence from elsewhere."""


def predictive_values(
    sensitivity: Float[np.ndarray, " R"],
    specificity: Float[np.ndarray, " R"],
    *,
    prevalence: float,
) -> tuple[Float[np.ndarray, " R"], Float[np.ndarray, " R"]]:
    """Positive and negative predictive value by Bayes' rule; NaN where nothing is called so.

    >>> ppv, npv = predictive_values(np.array([0.9]), np.array([0.8]), prevalence=0.02)
    >>> float(ppv[0]).__round__(4), float(npv[0]).__round__(4)
    (0.0841, 0.9975)
    """
    hit, alarm = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    miss, clear = (1 - sensitivity) * prevalence, specificity * (1 - prevalence)
    with np.errstate(invalid="ignore"):
        return hit / (hit + alarm), clear / (clear + miss)


def at_prevalence(
    truth: Shaped[np.ndarray, "N F"],
    score: Shaped[np.ndarray, "N F"],
    *,
    patients: Shaped[np.ndarray, " N"],
    findings: Sequence[str],
    thresholds: Float[np.ndarray, " F"],
    prevalence: Mapping[str, float],
    replicates: int,
    seed: int,
    level: float = 0.95,
) -> list[Estimate]:
    """Both predictive values of the findings that `prevalence` names, in the order of the findings.

    They follow from the sensitivity and specificity of each replicate, which are taken to be the same there
    as here; whether they are is not in these films.
    """
    columns = [place for place, finding in enumerate(findings) if finding in prevalence]
    part, names = truth[:, columns], [findings[place] for place in columns]
    sampling = Sampling(part, patients, replicates, seed, None)
    rates = sampling.values(("sensitivity", "specificity"), score[:, columns], thresholds[columns])
    # The first entry is of all patients, the others are of the replicates.
    sensitivity, specificity = (np.vstack([rate.point, rate.drawn]) for rate in rates.values())
    found = []
    for column, name in enumerate(names):
        values = predictive_values(
            sensitivity[:, column], specificity[:, column], prevalence=float(prevalence[name])
        )
        for metric, value in zip(AT_PREVALENCE, values, strict=True):
            # What the two rates lack, the predictive value lacks: a class, or a threshold.
            (line,) = lines("auroc", part[:, [column]], patients=patients, findings=[name], point=value[:1])
            found.append(_estimate(metric, line, value, level))
    return found


def _estimate(metric: str, line: Line, values: Float[np.ndarray, " R1"], level: float) -> Estimate:
    if np.isnan(values[0]):
        return Estimate(metric, line.finding, None, None, None, *line.counts, "; ".join(line.remarks))
    low, high, remarks = interval(values[1:], patients=line.patients, level=level)
    note = "; ".join(line.remarks + remarks)
    return Estimate(metric, line.finding, float(values[0]), low, high, *line.counts, note)
