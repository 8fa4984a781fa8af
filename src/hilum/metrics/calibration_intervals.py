"""Intervals of what is said about calibration, from a bootstrap over patients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Float32, Int, Shaped
from scipy.sparse import csr_array
from scipy.special import expit

from hilum.metrics.bootstrap import Estimate
from hilum.metrics.calibration import (
    BINS,
    bins,
    calibration_in_the_large,
    calibration_line,
    logits,
)
from hilum.metrics.resampled import resample
from hilum.metrics.summary import interval

CALIBRATION = ("brier", "calibration_slope", "calibration_intercept")
"""What has an estimate: squared distance, slope, and intercept with the slope held at 1."""


@dataclass(frozen=True)
class Bin:
    """Films of similar probability: their mean probability, and the share that has the finding."""

    images: int
    patients: int
    probability: float
    share: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Reliability:
    """One finding: estimates in the order of `CALIBRATION`, and its bins of equal mass that hold a film."""

    estimates: tuple[Estimate, ...]
    bins: tuple[Bin, ...]


def reliability(
    truth: Float[np.ndarray, "N F"],
    probability: Float[np.ndarray, "N F"],
    *,
    patients: Shaped[np.ndarray, " N"],
    findings: Sequence[str],
    replicates: int,
    seed: int,
    level: float = 0.95,
    num: int = BINS,
) -> list[Reliability]:
    """Brier score, slope, intercept and bins of every finding, with intervals.

    Patients are drawn as in `hilum.metrics.bootstrap`. In a replicate, slope and intercept are one step of
    Newton's from their values on all patients. In a bin whose films agree every replicate does, too: its
    interval is Wilson's (Journal of the American Statistical Association 22, 209, 1927), counting patients.
    """
    owner = np.unique(patients, return_inverse=True)[1]
    num_patients = int(owner.max()) + 1
    parts = [
        _Part.of(label, value, owner, num=num) for label, value in zip(truth.T, probability.T, strict=True)
    ]
    metrics = [part.metric(num_patients) for part in parts]

    def values(drawn: Float32[np.ndarray, "P R"]) -> Float[np.ndarray, "R C"]:
        exact = drawn.astype(np.float64)
        return np.concatenate([metric(exact) for metric in metrics], axis=0).T

    drawn = resample([values], num_patients, replicates=replicates, seed=seed)
    width = len(CALIBRATION) + num
    return [
        Reliability(
            part.estimates(finding, drawn[:, width * place : width * place + 3], level),
            part.bins(drawn[:, width * place + 3 : width * (place + 1)], level),
        )
        for place, (finding, part) in enumerate(zip(findings, parts, strict=True))
    ]


@dataclass(frozen=True)
class _Part:
    """The films of one finding whose label is known."""

    label: Float[np.ndarray, " M"]
    value: Float[np.ndarray, " M"]
    owner: Int[np.ndarray, " M"]
    place: Int[np.ndarray, " M"]
    num: int
    line: tuple[float, float]
    shift: float

    @classmethod
    def of(
        cls,
        label: Float[np.ndarray, " N"],
        value: Float[np.ndarray, " N"],
        owner: Int[np.ndarray, " N"],
        *,
        num: int,
    ) -> "_Part":
        known = ~np.isnan(label)
        label, value, owner = label[known], value[known], owner[known]
        line, shift = calibration_line(label, value), calibration_in_the_large(label, value)
        return cls(label, value, owner, bins(value, num=num), num, line, shift)

    def metric(self, num_patients: int) -> Callable[[Float[np.ndarray, "P R"]], Float[np.ndarray, "C R"]]:
        """Brier score, slope, intercept and the share of every bin, from how often patients were drawn."""
        x = logits(self.value)
        mean, moved = expit(self.line[0] + self.line[1] * x), expit(self.shift + x)
        weight, residual = mean * (1 - mean), self.label - mean
        rows = [
            (self.value - self.label) ** 2,
            np.ones(len(x)),
            *(residual, residual * x, weight, weight * x, weight * x**2),
            *(self.label - moved, moved * (1 - moved)),
        ]
        sums = np.stack([np.bincount(self.owner, row, minlength=num_patients) for row in rows])
        positives, films = (
            csr_array((part, (self.place, self.owner)), shape=(self.num, num_patients))
            for part in (self.label, np.ones(len(x)))
        )

        def values(drawn: Float[np.ndarray, "P R"]) -> Float[np.ndarray, "C R"]:
            loss, count, ga, gb, aa, ab, bb, g, h = sums @ drawn
            with np.errstate(divide="ignore", invalid="ignore"):
                slope = self.line[1] + (aa * gb - ab * ga) / (aa * bb - ab**2)
                found = np.stack([loss / count, slope, self.shift + g / h])
                shares = (positives @ drawn) / (films @ drawn)
            return np.concatenate([np.where(np.isfinite(found), found, np.nan), shares])

        return values

    def estimates(self, finding: str, drawn: Float[np.ndarray, "R 3"], level: float) -> tuple[Estimate, ...]:
        counts = (len(self.label), len(np.unique(self.owner)), int(self.label.sum()))
        brier = float(np.mean((self.value - self.label) ** 2)) if len(self.label) else float("nan")
        made = []
        points = (brier, self.line[1], self.shift)
        for metric, point, sample in zip(CALIBRATION, points, drawn.T, strict=True):
            if np.isnan(point):
                made.append(Estimate(metric, finding, None, None, None, *counts, self._why()))
                continue
            low, high, remarks = interval(sample, patients=counts[1], level=level)
            made.append(Estimate(metric, finding, point, low, high, *counts, "; ".join(remarks)))
        return tuple(made)

    def _why(self) -> str:
        if not len(self.label):
            return "undefined: no label is known"
        positives = int(self.label.sum())
        if positives in (0, len(self.label)):
            lacking = "negatives" if positives else "positives"
            return f"undefined: no {lacking} among {len(self.label):,} known labels"
        return "undefined: one probability parts positives and negatives, no slope is steep enough"

    def bins(self, drawn: Float[np.ndarray, "R K"], level: float) -> tuple[Bin, ...]:
        made = []
        for place in range(self.num):
            inside = self.place == place
            if not inside.any():
                continue
            share, people = float(self.label[inside].mean()), len(np.unique(self.owner[inside]))
            if share in (0.0, 1.0):
                edges: tuple[float | None, float | None] = wilson(share, people, level=level)
            else:
                edges = interval(drawn[:, place], patients=people, level=level)[:2]
            probability = float(self.value[inside].mean())
            made.append(Bin(int(inside.sum()), people, probability, share, *edges))
        return tuple(made)


def wilson(share: float, num: int, *, level: float) -> tuple[float, float]:
    """Wilson's interval of a share of `num` independent trials.

    >>> [round(edge, 4) for edge in wilson(0.0, 10, level=0.95)]
    [0.0, 0.2775]
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (share + z**2 / (2 * num)) / (1 + z**2 / num)
    half = z / (1 + z**2 / num) * float(np.sqrt(share * (1 - share) / num + z**2 / (4 * num**2)))
    return max(0.0, centre - half), min(1.0, centre + half)
