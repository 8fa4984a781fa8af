"""Metrics on all patients and in every replicate of one table of labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Shaped

from hilum.errors import ConfigError, RecordsError
from hilum.metrics.resampled import DECISIONS, prepare, resample

RANKING = ("auroc", "average_precision")
"""Metrics of the order of the radiographs; no threshold matters."""

METRICS = (*RANKING, *DECISIONS, "brier")
"""All metrics that have an interval."""


@dataclass(frozen=True)
class Sampled:
    """A metric on all patients and in every replicate: a column per finding, then the averages asked for.

    Those are "micro" and "weighted". NaN is undefined.
    """

    point: Float[np.ndarray, " C"]
    drawn: Float[np.ndarray, "R C"]


@dataclass
class Sampling:
    """Resamples of the patients of one table of labels; every score gets the same ones."""

    labels: Shaped[np.ndarray, "N F"]
    patients: Shaped[np.ndarray, " N"]
    replicates: int
    seed: int
    threads: int | None
    truth: Float[np.ndarray, "N F"] = field(init=False)

    def __post_init__(self) -> None:
        if self.replicates < 1:
            raise ConfigError(f"{self.replicates} replicates give no interval; ask for 1,000 or more")
        if not len(self.labels):
            raise RecordsError("there is nothing to score: the table of labels has no row")
        self.truth = self.labels.astype(np.float64)
        known = ~np.isnan(self.truth)
        _refuse(known & (self.truth != 0) & (self.truth != 1), self.truth, "label", "1, 0 or NaN (unknown)")

    def values(
        self,
        metrics: Sequence[str],
        score: Shaped[np.ndarray, "N F"],
        thresholds: Shaped[np.ndarray, " F"] | None = None,
        *,
        averages: bool = False,
    ) -> dict[str, Sampled]:
        """The metrics, all from one pass; those of ranking with their averages if asked for."""
        for metric in metrics:
            if metric not in METRICS:
                raise ConfigError(f"no metric is called {metric!r}; there are {', '.join(METRICS)}")
            if metric in DECISIONS and thresholds is None:
                raise ConfigError(f"{metric} needs a threshold for every finding: give `thresholds`")
        _refuse(~np.isnan(self.truth) & ~np.isfinite(score), score, "score", "a finite number")
        names, patient = np.unique(self.patients, return_inverse=True)
        num, findings = len(names), score.shape[1]
        cuts = np.full(findings, np.nan) if thresholds is None else thresholds.astype(np.float64)
        micro = [m for m in metrics if m in RANKING] if averages else []
        each = [*metrics, "positives"] if micro else list(metrics)
        prepared = [
            prepare(each, truth, column, patient=patient, num_patients=num, threshold=float(cut))
            for truth, column, cut in zip(self.truth.T, score.T, cuts, strict=True)
        ]
        if micro:
            pairs, owner = self.truth.ravel(), np.repeat(patient, findings)
            whole = prepare(
                micro, pairs, score.ravel(), patient=owner, num_patients=num, threshold=float("nan")
            )
            prepared.append(whole)
        everybody = np.concatenate([metric(np.ones((num, 1), np.float32)) for metric in prepared], axis=1)
        drawn = resample(prepared, num, replicates=self.replicates, seed=self.seed, threads=self.threads)
        layout = _Layout(each, micro, findings, everybody)
        point, sampled = layout.tables(everybody), layout.tables(drawn)
        return {metric: Sampled(point[metric][0], sampled[metric]) for metric in metrics}


@dataclass(frozen=True)
class _Layout:
    """Where a pass has what: the metrics of each finding, then those of all pairs of film and finding."""

    each: Sequence[str]
    micro: Sequence[str]
    findings: int
    everybody: Float[np.ndarray, "1 _"]

    def tables(self, values: Float[np.ndarray, "R _"]) -> dict[str, Float[np.ndarray, "R C"]]:
        """A table per metric, with the columns of `Sampled`."""
        found = self._each(values)
        for place, metric in enumerate(self.micro):
            defined = ~np.isnan(self._each(self.everybody)[metric])
            average = _weighted(found[metric], np.where(defined, found["positives"], 0.0))
            found[metric] = np.column_stack([found[metric], values[:, place - len(self.micro)], average])
        return found

    def _each(self, values: Float[np.ndarray, "R _"]) -> dict[str, Float[np.ndarray, "R F"]]:
        num = len(self.each)
        shaped = values[:, : self.findings * num].reshape(len(values), self.findings, num)
        return {metric: shaped[:, :, place] for place, metric in enumerate(self.each)}


def _weighted(values: Float[np.ndarray, "R F"], weights: Float[np.ndarray, "R F"]) -> Float[np.ndarray, " R"]:
    """The weighted mean; a weight of 0 takes an undefined value out, any other makes the mean undefined."""
    weighed = np.where(weights > 0, values * weights, 0.0).sum(axis=1)
    whole = weights.sum(axis=1)
    mean: np.ndarray = np.full(len(values), np.nan)
    np.divide(weighed, whole, out=mean, where=whole > 0)
    return mean


def _refuse(
    wrong: Shaped[np.ndarray, "N F"], found: Shaped[np.ndarray, "N F"], what: str, expected: str
) -> None:
    if wrong.any():
        row, column = (int(place) for place in np.argwhere(wrong)[0])
        raise RecordsError(
            f"row {row}, finding {column} (both from 0): the {what} is {float(found[row, column])}, expected "
            f"{expected}; {int(wrong.sum()):,} such in all"
        )
