"""Metrics with intervals, from a bootstrap over patients.

Patients are drawn with replacement and bring all their images; an interval lies between two percentiles of
the replicates (Efron, Annals of Statistics 7, 1, 1979). Equal seeds and equal patients give equal resamples,
whatever is scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from hilum.metrics.resampled import DECISIONS
from hilum.metrics.sampling import METRICS, RANKING, Sampled, Sampling
from hilum.metrics.summary import Line, calls, interval, lines, two_sided

__all__ = [
    "DECISIONS",
    "METRICS",
    "RANKING",
    "Difference",
    "Estimate",
    "bootstrap",
    "bootstrap_all",
    "bootstrap_values",
    "difference",
]


@dataclass(frozen=True)
class Estimate:
    """A metric of one finding with its interval and what it was computed from.

    `value` is None where the metric is undefined, `low` and `high` where the interval is; `note` says why.
    Images, patients and positives are those with a known label. Three findings are averages, whose positives
    are those of all findings together: "macro", the mean over the findings that are defined; "weighted", that
    mean weighted by the number of positives (in a replicate: by the replicate's); "micro", the metric of all
    pairs of a radiograph and a finding whose label is known, thrown together as if of one finding.
    """

    metric: str
    finding: str
    value: float | None
    low: float | None
    high: float | None
    images: int
    patients: int
    positives: int
    note: str = ""


@dataclass(frozen=True)
class Difference:
    """A metric of one score minus that of another on the same images, replicate by replicate.

    `p` is two-sided: twice the share of replicates on the rarer side of 0. None is undefined, as in
    `Estimate`.
    """

    metric: str
    finding: str
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    images: int
    patients: int
    positives: int
    note: str = ""


def bootstrap(
    metric: str,
    truth: Shaped[np.ndarray, "N F"],
    score: Shaped[np.ndarray, "N F"],
    *,
    patients: Shaped[np.ndarray, " N"],
    findings: Sequence[str],
    replicates: int = 2000,
    seed: int = 0,
    thresholds: Shaped[np.ndarray, " F"] | None = None,
    level: float = 0.95,
    threads: int | None = None,
) -> list[Estimate]:
    """The metric of every finding, and their mean ("macro") where there are several.

    Truth is 1, 0 or NaN (unknown, left out). `metric` is one of `METRICS`; those of `DECISIONS` need
    `thresholds`: a finding is called present from its own on, and has no value where it is NaN. The number of
    threads changes no number.

    Raises:
        ConfigError: the metric is none of `METRICS`, or lacks its thresholds.
        RecordsError: there is no row, a label is neither 1, 0 nor NaN, or a labelled image has a score that
            is not finite.
    """
    return bootstrap_all(
        (metric,),
        truth,
        score,
        patients=patients,
        findings=findings,
        replicates=replicates,
        seed=seed,
        thresholds=thresholds,
        level=level,
        threads=threads,
    )


def bootstrap_all(
    metrics: Sequence[str],
    truth: Shaped[np.ndarray, "N F"],
    score: Shaped[np.ndarray, "N F"],
    *,
    patients: Shaped[np.ndarray, " N"],
    findings: Sequence[str],
    replicates: int,
    seed: int,
    thresholds: Shaped[np.ndarray, " F"] | None = None,
    averages: bool = False,
    level: float = 0.95,
    threads: int | None = None,
) -> list[Estimate]:
    """Several metrics from one pass over the resamples: the estimates of the first, then of the next.

    With `averages`, "micro" and "weighted" follow "macro" where the metric is one of `RANKING`.

    Raises:
        ConfigError: as `bootstrap`.
        RecordsError: as `bootstrap`.
    """
    sampling = Sampling(truth, patients, replicates, seed, threads)
    sampled = sampling.values(metrics, score, thresholds, averages=averages)
    called = None if thresholds is None else calls(sampling.truth, score, thresholds)
    estimates = []
    for metric, values in sampled.items():
        names = ("micro", "weighted") if averages and metric in RANKING else ()
        for line in lines(
            metric,
            sampling.truth,
            patients=patients,
            findings=findings,
            point=values.point,
            called=called,
            averages=names,
        ):
            estimates.append(_estimate(metric, line, values, level))
    return estimates


def _estimate(metric: str, line: Line, sampled: Sampled, level: float) -> Estimate:
    value, sample = line.of(sampled.point, sampled.drawn)
    low, high, remarks = _interval(value, sample, line.patients, level)
    note = "; ".join(line.remarks + remarks)
    return Estimate(metric, line.finding, value, low, high, *line.counts, note)


def difference(
    metric: str,
    truth: Shaped[np.ndarray, "N F"],
    score_a: Shaped[np.ndarray, "N F"],
    score_b: Shaped[np.ndarray, "N F"],
    *,
    patients: Shaped[np.ndarray, " N"],
    findings: Sequence[str],
    replicates: int = 2000,
    seed: int = 0,
    thresholds_a: Shaped[np.ndarray, " F"] | None = None,
    thresholds_b: Shaped[np.ndarray, " F"] | None = None,
    level: float = 0.95,
    threads: int | None = None,
) -> list[Difference]:
    """The metric of `score_a` minus that of `score_b`, both on the same resamples of the patients.

    Raises:
        ConfigError: as `bootstrap`.
        RecordsError: as `bootstrap`.
    """
    sampling = Sampling(truth, patients, replicates, seed, threads)
    a = sampling.values((metric,), score_a, thresholds_a)[metric]
    b = sampling.values((metric,), score_b, thresholds_b)[metric]
    point, drawn = a.point - b.point, a.drawn - b.drawn
    differences = []
    for line in lines(metric, sampling.truth, patients=patients, findings=findings, point=point):
        value, sample = line.of(point, drawn)
        low, high, remarks = _interval(value, sample, line.patients, level)
        p = None if low is None else two_sided(sample)
        note = "; ".join(line.remarks + remarks)
        differences.append(Difference(metric, line.finding, value, low, high, p, *line.counts, note))
    return differences


def bootstrap_values(
    metric: str,
    truth: Shaped[np.ndarray, "N F"],
    score: Shaped[np.ndarray, "N F"],
    *,
    patients: Shaped[np.ndarray, " N"],
    replicates: int = 2000,
    seed: int = 0,
    thresholds: Shaped[np.ndarray, " F"] | None = None,
    threads: int | None = None,
) -> Float[np.ndarray, "R F"]:
    """The metric of every finding in every replicate; NaN where a replicate lacks a class that it needs.

    Raises:
        ConfigError: as `bootstrap`.
        RecordsError: as `bootstrap`.
    """
    sampling = Sampling(truth, patients, replicates, seed, threads)
    return sampling.values((metric,), score, thresholds)[metric].drawn


def _interval(
    value: float | None, sample: Float[np.ndarray, " R"], patients: int, level: float
) -> tuple[float | None, float | None, tuple[str, ...]]:
    return (None, None, ()) if value is None else interval(sample, patients=patients, level=level)
