"""Metrics with intervals, from a bootstrap over patients.

Patients are drawn with replacement and bring all their images; an interval lies between two percentiles of
the replicates (Efron, Annals of Statistics 7, 1, 1979). Equal seeds and equal patients give equal resamples,
whatever is scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Shaped

from hilum.errors import ConfigError, RecordsError
from hilum.metrics.resampled import prepare, resample
from hilum.metrics.summary import interval, lines, two_sided

AT_THRESHOLD = ("accuracy", "sensitivity", "specificity")
"""Metrics of decisions."""

METRICS = ("auroc", "average_precision", *AT_THRESHOLD, "brier")
"""All metrics that have an interval."""


@dataclass(frozen=True)
class Estimate:
    """A metric of one finding with its interval and what it was computed from.

    `value` is None where the metric is undefined, `low` and `high` where the interval is; `note` says why.
    Images, patients and positives are those with a known label. The finding "macro" is the mean over the
    findings that are defined; its positives are those of all findings together.
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

    Truth is 1, 0 or NaN (unknown, left out). `metric` is one of `METRICS`; accuracy, sensitivity and
    specificity need `thresholds`: a finding is called present from its own on, and has no value where it is
    NaN. The number of threads changes no number.

    Raises:
        ConfigError: the metric is none of `METRICS`, or lacks its thresholds.
        RecordsError: there is no row, a label is neither 1, 0 nor NaN, or a labelled image has a score that
            is not finite.
    """
    sampling = _Sampling(metric, truth, patients, replicates, seed, threads)
    point, drawn = sampling.values(score, thresholds)
    estimates = []
    for line in lines(metric, sampling.truth, patients=patients, findings=findings, point=point):
        value, sample = line.of(point, drawn)
        low, high, remarks = _interval(value, sample, line.patients, level)
        note = "; ".join(line.remarks + remarks)
        estimates.append(Estimate(metric, line.finding, value, low, high, *line.counts, note))
    return estimates


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
    sampling = _Sampling(metric, truth, patients, replicates, seed, threads)
    point_a, drawn_a = sampling.values(score_a, thresholds_a)
    point_b, drawn_b = sampling.values(score_b, thresholds_b)
    point, drawn = point_a - point_b, drawn_a - drawn_b
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
    return _Sampling(metric, truth, patients, replicates, seed, threads).values(score, thresholds)[1]


@dataclass
class _Sampling:
    """Resamples of the patients of one table of labels; every score gets the same ones."""

    metric: str
    labels: Shaped[np.ndarray, "N F"]
    patients: Shaped[np.ndarray, " N"]
    replicates: int
    seed: int
    threads: int | None
    truth: Float[np.ndarray, "N F"] = field(init=False)

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ConfigError(f"no metric is called {self.metric!r}; there are {', '.join(METRICS)}")
        if self.replicates < 1:
            raise ConfigError(f"{self.replicates} replicates give no interval; ask for 1,000 or more")
        if not len(self.labels):
            raise RecordsError("there is nothing to score: the table of labels has no row")
        self.truth = self.labels.astype(np.float64)
        known = ~np.isnan(self.truth)
        _refuse(known & (self.truth != 0) & (self.truth != 1), self.truth, "label", "1, 0 or NaN (unknown)")

    def values(
        self, score: Shaped[np.ndarray, "N F"], thresholds: Shaped[np.ndarray, " F"] | None
    ) -> tuple[Float[np.ndarray, " F"], Float[np.ndarray, "R F"]]:
        """The metric of every finding on all patients, and in every replicate."""
        if self.metric in AT_THRESHOLD and thresholds is None:
            raise ConfigError(f"{self.metric} needs a threshold for every finding: give `thresholds`")
        _refuse(~np.isnan(self.truth) & ~np.isfinite(score), score, "score", "a finite number")
        names, patient = np.unique(self.patients, return_inverse=True)
        num = len(names)
        cuts = np.full(score.shape[1], 0.5) if thresholds is None else thresholds.astype(np.float64)
        metrics = [
            prepare(self.metric, truth, column, patient=patient, num_patients=num, threshold=float(cut))
            for truth, column, cut in zip(self.truth.T, score.T, cuts, strict=True)
        ]
        everybody = np.ones((num, 1), np.float32)
        point = np.array([metric(everybody)[0] for metric in metrics])
        drawn = resample(metrics, num, replicates=self.replicates, seed=self.seed, threads=self.threads)
        return point, drawn


def _interval(
    value: float | None, sample: Float[np.ndarray, " R"], patients: int, level: float
) -> tuple[float | None, float | None, tuple[str, ...]]:
    return (None, None, ()) if value is None else interval(sample, patients=patients, level=level)


def _refuse(
    wrong: Shaped[np.ndarray, "N F"], found: Shaped[np.ndarray, "N F"], what: str, expected: str
) -> None:
    if wrong.any():
        row, column = (int(place) for place in np.argwhere(wrong)[0])
        raise RecordsError(
            f"row {row}, finding {column} (both from 0): the {what} is {float(found[row, column])}, expected "
            f"{expected}; {int(wrong.sum()):,} such in all"
        )
