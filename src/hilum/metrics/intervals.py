"""From replicates to an interval, a p value, and the words that go with them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

FEW = 10
"""With fewer positives (or negatives, where they matter as much) a note asks for caution."""

MENTIONED = 0.05
"""The share of undefined replicates from which the note says how many were left out."""

TOO_MANY = 0.5
"""The share of undefined replicates from which there is no interval."""

_MATTERS = {  # the classes without which a metric says nothing
    "auroc": ("positive", "negative"),
    "average_precision": ("positive", "negative"),
    "sensitivity": ("positive",),
    "specificity": ("negative",),
}


@dataclass(frozen=True)
class Place:
    """A finding, or the mean of several, with the labels behind it and its columns among the replicates."""

    finding: str
    columns: tuple[int, ...]
    images: int
    patients: int
    positives: int
    note: str

    @property
    def counts(self) -> tuple[int, int, int]:
        """Images, patients and positives with known labels."""
        return self.images, self.patients, self.positives

    def of(
        self, point: Float[np.ndarray, " F"], drawn: Float[np.ndarray, "R F"]
    ) -> tuple[float | None, Float[np.ndarray, " R"]]:
        """The value, and the value in every replicate; None and NaN where undefined.

        A mean is undefined in the replicates in which one of its findings is.
        """
        columns = list(self.columns)
        if not columns or np.isnan(point[columns]).any():
            return None, np.full(len(drawn), np.nan)
        sample: Float[np.ndarray, " R"] = drawn[:, columns].mean(axis=1)
        return float(point[columns].mean()), sample


def places(
    metric: str,
    truth: Float[np.ndarray, "N F"],
    *,
    patients: Shaped[np.ndarray, " N"],
    findings: Sequence[str],
    point: Float[np.ndarray, " F"],
) -> list[Place]:
    """Every finding, then "macro" over the defined ones if there are several findings."""
    made = []
    for column, finding in enumerate(findings):
        labels = truth[:, column]
        known = ~np.isnan(labels)
        positives = int((labels == 1).sum())
        counts = (int(known.sum()), len(np.unique(patients[known])), positives)
        note = _scarcity(metric, *counts, undefined=bool(np.isnan(point[column])))
        made.append(Place(finding, (column,), *counts, note))
    if len(made) == 1:
        return made
    any_known = ~np.isnan(truth).all(axis=1)
    lost = [place.finding for place in made if np.isnan(point[place.columns[0]])]
    macro = Place(
        finding="macro",
        columns=tuple(i for i in range(len(made)) if not np.isnan(point[i])),
        images=int(any_known.sum()),
        patients=len(np.unique(patients[any_known])),
        positives=sum(place.positives for place in made),
        note=f"without {', '.join(lost)} (undefined)" if lost else "",
    )
    return [*made, macro]


def interval(
    sample: Float[np.ndarray, " R"], *, patients: int, level: float
) -> tuple[float | None, float | None, str]:
    """The middle `level` of the defined replicates, and what a reader must be told about it."""
    defined = sample[~np.isnan(sample)]
    lost = 1 - len(defined) / len(sample)
    if patients < 2:
        return None, None, "no interval: one patient"
    if len(defined) < 2 or lost > TOO_MANY:
        return None, None, f"no interval: undefined in {lost:.0%} of the resamples"
    low, high = (float(q) for q in np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]))
    notes = [f"undefined in {lost:.0%} of the resamples, which are left out"] if lost > MENTIONED else []
    if low == high:
        notes.append("equal in nearly all resamples: the interval is no measure of certainty")
    return low, high, "; ".join(notes)


def two_sided(sample: Float[np.ndarray, " R"]) -> float:
    """Twice the share of replicates on the rarer side of 0; never 0, which no number of them shows."""
    defined = sample[~np.isnan(sample)]
    rarer = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(defined) + 1))


def joined(*notes: str) -> str:
    """The notes that say something."""
    return "; ".join(note for note in notes if note)


def _scarcity(metric: str, images: int, patients: int, positives: int, *, undefined: bool) -> str:
    """Why the metric is undefined, or that little stands behind it."""
    have = {"positive": positives, "negative": images - positives}
    matter = _MATTERS.get(metric, ())
    missing = [name for name in matter if not have[name]]
    if missing or not images:
        return f"n/a: {positives} positives of {images} known labels"
    if undefined:
        return "n/a: no threshold"
    scarce = [f"{have[name]} {name}s" for name in matter if have[name] < FEW]
    return f"only {' and '.join(scarce)}" if scarce else ""
