"""From a metric and its replicates to a line of a table: the interval, the p value, and what must be said."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

FEW = 10
"""Below so many positives, negatives or patients a note says how few there are."""

MENTIONED = 0.05
"""Above this share of undefined replicates a note says how many were left out."""

TOO_MANY = 0.5
"""Above this share of undefined replicates there is no interval."""

_NEEDED = {
    "auroc": ("positives", "negatives"),
    "average_precision": ("positives", "negatives"),
    "sensitivity": ("positives",),
    "specificity": ("negatives",),
    "f1": ("positives",),
    "ppv": ("positive calls",),
    "npv": ("negative calls",),
}


@dataclass(frozen=True)
class Line:
    """A finding, or the mean of the findings in `columns`, and the known labels behind it."""

    finding: str
    columns: tuple[int, ...]
    images: int
    patients: int
    positives: int
    remarks: tuple[str, ...]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Images, patients and positives."""
        return self.images, self.patients, self.positives

    def of(
        self, point: Float[np.ndarray, " F"], drawn: Float[np.ndarray, "R F"]
    ) -> tuple[float | None, Float[np.ndarray, " R"]]:
        """The value (None: undefined), and the value in every replicate.

        A mean is undefined in a replicate in which one of its findings is.
        """
        columns = list(self.columns)
        if not columns or np.isnan(point[columns]).any():
            return None, np.full(len(drawn), np.nan)
        return float(point[columns].mean()), drawn[:, columns].mean(axis=1)


def lines(
    metric: str,
    truth: Float[np.ndarray, "N F"],
    *,
    patients: Shaped[np.ndarray, " N"],
    findings: Sequence[str],
    point: Float[np.ndarray, " C"],
    called: Sequence[int | None] | None = None,
    averages: Sequence[str] = (),
) -> list[Line]:
    """Every finding, then, where there are several, "macro", the mean of the defined ones, and `averages`.

    Those have their own columns behind the findings'. `called` is how many known labels of a finding were
    called present, None without a threshold.
    """
    made = []
    for column, finding in enumerate(findings):
        labels = truth[:, column]
        known = ~np.isnan(labels)
        counts = (int(known.sum()), _distinct(patients[known]), int((labels == 1).sum()))
        calls = called[column] if called is not None else None
        remarks = _remarks(metric, *counts, calls=calls, undefined=bool(np.isnan(point[column])))
        made.append(Line(finding, (column,), *counts, remarks))
    if len(made) == 1:
        return made
    lost = [line.finding for line in made if np.isnan(point[list(line.columns)]).any()]
    without = f"without {', '.join(lost)} (undefined)" if len(lost) < len(made) else "no finding is defined"
    labelled = ~np.isnan(truth).all(axis=1)
    counts = (int(labelled.sum()), _distinct(patients[labelled]), sum(line.positives for line in made))
    defined = tuple(int(column) for column in np.flatnonzero(~np.isnan(point[: len(made)])))
    remarks = (without,) if lost else ()
    macro = Line("macro", defined, *counts, remarks)
    more = [
        # All labels of all findings are in "micro", those of a finding without positives too.
        Line(name, (len(made) + place,), *counts, () if name == "micro" and defined else remarks)
        for place, name in enumerate(averages)
    ]
    return [*made, macro, *more]


def calls(
    truth: Float[np.ndarray, "N F"], score: Shaped[np.ndarray, "N F"], thresholds: Shaped[np.ndarray, " F"]
) -> list[int | None]:
    """How many of the known labels of each finding are called present; None without a threshold."""
    called = ((score >= thresholds) & ~np.isnan(truth)).sum(axis=0)
    return [None if np.isnan(cut) else int(count) for cut, count in zip(thresholds, called, strict=True)]


def interval(
    drawn: Float[np.ndarray, " R"], *, patients: int, level: float
) -> tuple[float | None, float | None, tuple[str, ...]]:
    """The middle `level` of the defined replicates, and the remarks that it calls for."""
    defined = drawn[~np.isnan(drawn)]
    lost = 1 - len(defined) / len(drawn)
    if patients < 2:
        return None, None, ("no interval from a single patient",)
    if lost > TOO_MANY:
        return None, None, (f"no interval: {lost:.0%} of the replicates lack a class",)
    low, high = (float(edge) for edge in np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]))
    remarks = [f"{lost:.0%} of the replicates lack a class and are left out"] if lost > MENTIONED else []
    if low == high:
        remarks.append("the replicates agree: the interval is no measure of certainty")
    return low, high, tuple(remarks)


def two_sided(drawn: Float[np.ndarray, " R"]) -> float:
    """Twice the share of the replicates on the rarer side of 0.

    One more is counted there than was seen: no number of replicates shows a p of 0.
    """
    defined = drawn[~np.isnan(drawn)]
    rarer = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(defined) + 1))


def _remarks(
    metric: str, images: int, patients: int, positives: int, *, calls: int | None, undefined: bool
) -> tuple[str, ...]:
    """Why the metric is undefined, or what it has too few of to be leant on."""
    if not images:
        return ("undefined: no label is known",)
    have = {"positives": positives, "negatives": images - positives}
    have |= {"positive calls": calls, "negative calls": images - calls} if calls is not None else {}
    needed = [name for name in _NEEDED.get(metric, ()) if name in have]
    missing = [f"no {name}" for name in needed if not have[name]]
    if missing:
        return (f"undefined: {' and '.join(missing)} among {_count(images, 'known labels')}",)
    if undefined:
        return ("undefined: no threshold",)
    few = [_count(have[name], name) for name in needed if have[name] < FEW]
    few += [_count(patients, "patients")] if patients < FEW else []
    return (f"only {', '.join(few)}",) if few else ()


def _count(num: int, plural: str) -> str:
    return f"{num:,} {plural[:-1] if num == 1 else plural}"


def _distinct(patients: Shaped[np.ndarray, " N"]) -> int:
    return len(np.unique(patients))
