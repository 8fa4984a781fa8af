"""Metrics within groups of radiographs, and whether the groups differ.

Groups share the resamples of the patients, so a patient with films in two of them counts in both at once.
A difference is judged by its variance over the replicates. A small group whose ten positives were all found
has none at all, though; so the variance is drawn, the more the smaller the group is, towards what a group of
its size would have if it were like everybody: binomial for shares, DeLong's for the AUROC, both scaled so
that for everybody they equal the bootstrap's, which knows that films of a patient are alike. Shares of which
fewer than five are expected on one side get Yates' correction for continuity (JRSS Supplement 1, 217, 1934).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import erfc, sqrt
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float, Shaped

from hilum.metrics.bootstrap import bootstrap_values
from hilum.metrics.classification import auroc, sensitivity, specificity
from hilum.metrics.delong import placements
from hilum.metrics.groups import Gap, GroupDifference, GroupScore
from hilum.metrics.summary import interval

METRICS = ("auroc", "sensitivity", "specificity")

MINIMUM = 10
"""Patients with a positive, and patients with a negative film, below which a group is not scored."""

NO_THRESHOLD = "no threshold"
"""The note of a group whose decisions are unknown."""

RANGES = 20_000
"""Simulated ranges behind the p value of a gap."""


@dataclass(frozen=True)
class Grouped:
    """One finding's known labels with the group of each film."""

    metric: str
    finding: str
    truth: Float[np.ndarray, " N"]
    score: Float[np.ndarray, " N"]
    patients: Shaped[np.ndarray, " N"]
    group: Shaped[np.ndarray, " N"]


def score_groups(
    cells: Grouped, groups: Sequence[str], *, replicates: int, seed: int, level: float = 0.95
) -> tuple[list[GroupScore], list[GroupDifference], list[Gap]]:
    """One finding in every group, each group against the rest, and the widest gap.

    Of two groups only the first is compared with the other. The score of a share is the decision, 1 or 0; if
    all are NaN, for want of a threshold, no group is scored.
    """
    members = [(name, cells.group == name) for name in groups]
    scored = [(name, rows) for name, rows in members if not _too_few(cells, rows)]
    compared = [name for name, _ in scored] if len(groups) > 2 else [name for name, _ in scored[:1]]
    rest = {name: ("the rest", np.isin(cells.group, groups) & (cells.group != name)) for name in compared}
    if len(scored) == len(groups) == 2:
        rest = {compared[0]: scored[1]}
    rest = {name: pair for name, pair in rest.items() if not _too_few(cells, pair[1])}
    everybody = np.isin(cells.group, groups)
    parts = [everybody, *(rows for _, rows in scored), *(rows for _, rows in rest.values())]
    spread = _Spread.of(cells, parts, replicates=replicates, seed=seed) if scored else None
    estimates = []
    for name, rows in members:
        counts = _counts(cells, rows)
        if reason := _too_few(cells, rows):
            estimates.append(GroupScore(cells.metric, cells.finding, name, None, None, None, *counts, reason))
            continue
        assert spread is not None
        place = 1 + [known for known, _ in scored].index(name)
        low, high, remarks = interval(spread.drawn[:, place], patients=counts[1], level=level)
        value = float(spread.point[place])
        estimates.append(
            GroupScore(cells.metric, cells.finding, name, value, low, high, *counts, "; ".join(remarks))
        )
    if spread is None or len(scored) < 2:
        return estimates, [], []
    names = [name for name, _ in scored]
    offset = 1 + len(scored)
    differences = [
        spread.difference(cells, name, against, (1 + names.index(name), offset + i), level)
        for i, (name, (against, _)) in enumerate(rest.items())
    ]
    return estimates, differences, [spread.gap(cells, names, level, seed)]


@dataclass(frozen=True)
class _Spread:
    """The metric of everybody (first) and of parts, in all replicates, with the variances they allow."""

    point: Float[np.ndarray, " K"]
    drawn: Float[np.ndarray, "R K"]
    usual: Float[np.ndarray, " K"]
    """Variance of each part if it were like everybody."""
    own: Float[np.ndarray, " K"]
    """How much its own variance counts beside the usual one."""
    step: Float[np.ndarray, " K"]
    """Correction for continuity."""
    owners: tuple[frozenset[object], ...]
    """The patients of each part."""

    @classmethod
    def of(
        cls, cells: Grouped, parts: Sequence[Bool[np.ndarray, " N"]], *, replicates: int, seed: int
    ) -> "_Spread":
        truth = np.stack([np.where(rows, cells.truth, np.nan) for rows in parts], axis=1)
        drawn = bootstrap_values(
            cells.metric,
            truth,
            np.repeat(cells.score[:, None], len(parts), axis=1),
            patients=cells.patients,
            replicates=replicates,
            seed=seed,
            thresholds=np.full(len(parts), 0.5),
        )
        point = np.array([_metric(cells, rows) for rows in parts])
        formula = _independent(cells, parts)
        scale = np.nanvar(drawn[:, 0]) / formula[0] if formula[0] > 0 else 1.0
        few = [min(_patients_with(cells, rows).values()) for rows in parts]
        own = np.array([num / (num + MINIMUM) for num in few])
        owners = tuple(frozenset(cells.patients[rows].tolist()) for rows in parts)
        return cls(point, drawn, formula * scale, own, _steps(cells, parts, float(point[0])), owners)

    def difference(
        self, cells: Grouped, group: str, against: str, places: tuple[int, int], level: float
    ) -> GroupDifference:
        one, other = places
        value = float(self.point[one] - self.point[other])
        seen = float(np.nanvar(self.drawn[:, one] - self.drawn[:, other]))
        apart = float(np.nanvar(self.drawn[:, [one, other]], axis=0).sum())
        shared = seen / apart if apart > 0 and self.owners[one] & self.owners[other] else 1.0
        weight = min(self.own[one], self.own[other])
        usual = shared * float(self.usual[one] + self.usual[other])
        error = sqrt(weight * seen + (1 - weight) * usual)
        step = float(self.step[one] + self.step[other])
        reach = NormalDist().inv_cdf((1 + level) / 2) * error + step
        distance = max(0.0, abs(value) - step)
        p = erfc(distance / error / sqrt(2)) if error > 0 else float(value == 0)
        low, high = max(-1.0, value - reach), min(1.0, value + reach)
        return GroupDifference(cells.metric, cells.finding, group, against, value, low, high, p)

    def gap(self, cells: Grouped, names: Sequence[str], level: float, seed: int) -> Gap:
        """Against the range of as many independent normal errors: |range a - range b| <= range (a - b)."""
        places = slice(1, 1 + len(names))
        point, own = self.point[places], self.own[places]
        seen = np.nanvar(self.drawn[:, places], axis=0)
        errors = np.sqrt(own * seen + (1 - own) * self.usual[places])
        value = float(point.max() - point.min())
        rng = np.random.default_rng([seed, len(names)])
        ranges = np.ptp(rng.normal(size=(RANGES, len(names))) * errors, axis=1)
        ends = int(point.argmax()), int(point.argmin())
        step = float(sum(self.step[1 + end] for end in ends))
        reach = float(np.quantile(ranges, level)) + step
        return Gap(
            metric=cells.metric,
            finding=cells.finding,
            highest=names[ends[0]],
            lowest=names[ends[1]],
            value=value,
            low=max(0.0, value - reach),
            high=min(1.0, value + reach),
            p=float(1 + (ranges >= value - step).sum()) / (1 + RANGES),
        )


def each_finding(
    metric: str,
    truth: Float[np.ndarray, "N F"],
    score: Float[np.ndarray, "N F"],
    *,
    patients: Shaped[np.ndarray, " N"],
    group: Shaped[np.ndarray, " N"],
    findings: Sequence[str],
) -> Iterator[Grouped]:
    """The findings one by one; the decisions of one that has no threshold are NaN."""
    for column, finding in enumerate(findings):
        labels, values = truth[:, column].astype(np.float64), score[:, column].astype(np.float64)
        yield Grouped(metric, finding, labels, values, patients, group)


def _metric(cells: Grouped, rows: Bool[np.ndarray, " N"]) -> float:
    truth, score = cells.truth[rows], cells.score[rows]
    if cells.metric == "auroc":
        return auroc(truth, score)
    share = {"sensitivity": sensitivity, "specificity": specificity}[cells.metric]
    return share(truth, score, threshold=0.5)


def _independent(cells: Grouped, parts: Sequence[Bool[np.ndarray, " N"]]) -> Float[np.ndarray, " K"]:
    """Variance of the metric in each part, were its films independent and like everybody's (the first's)."""
    if cells.metric != "auroc":
        value = _metric(cells, parts[0])
        return np.array([value * (1 - value) / max(1, _size(cells, rows)) for rows in parts])
    truth = np.where(parts[0], cells.truth, np.nan)
    placed = placements(truth, cells.score[None], patients=cells.patients)
    spread = {1: float(placed.positive.var(ddof=1)), 0: float(placed.negative.var(ddof=1))}
    sizes = [{label: int((cells.truth[rows] == label).sum()) for label in spread} for rows in parts]
    return np.array([sum(spread[label] / num for label, num in size.items()) for size in sizes])


def _steps(cells: Grouped, parts: Sequence[Bool[np.ndarray, " N"]], value: float) -> Float[np.ndarray, " K"]:
    """Half of what one film changes in a part where fewer than five are expected on one side; else 0."""
    if cells.metric == "auroc":
        return np.zeros(len(parts))
    sizes = [_size(cells, rows) for rows in parts]
    return np.array([0.5 / num if num * min(value, 1 - value) < 5 else 0.0 for num in sizes])


def _size(cells: Grouped, rows: Bool[np.ndarray, " N"]) -> int:
    return int((cells.truth[rows] == (cells.metric == "sensitivity")).sum())


def _counts(cells: Grouped, rows: Bool[np.ndarray, " N"]) -> tuple[int, int, int, int]:
    """Images, patients, positives and negatives with a known label."""
    truth = cells.truth[rows]
    known = ~np.isnan(truth)
    patients = len(np.unique(cells.patients[rows][known]))
    return int(known.sum()), patients, int((truth == 1).sum()), int((truth == 0).sum())


def _patients_with(cells: Grouped, rows: Bool[np.ndarray, " N"]) -> dict[int, int]:
    """Patients of the part with a positive (1) and with a negative film (0), where the metric needs them."""
    needed = {"auroc": (1, 0), "sensitivity": (1,), "specificity": (0,)}[cells.metric]
    return {label: len(np.unique(cells.patients[rows & (cells.truth == label)])) for label in needed}


def _too_few(cells: Grouped, rows: Bool[np.ndarray, " N"]) -> str:
    """Why the part is not scored; empty if it is."""
    if np.isnan(cells.score).all():
        return NO_THRESHOLD
    words = {1: "positive", 0: "negative"}
    lacking = [
        f"{num} with a {words[label]} film"
        for label, num in _patients_with(cells, rows).items()
        if num < MINIMUM
    ]
    return f"too few patients: {' and '.join(lacking)}" if lacking else ""
