"""Metrics of every run in every replicate, all on the same draws of the patients."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float

from hilum.errors import ConfigError
from hilum.metrics.sampling import Sampled, Sampling
from hilum.report.cells import Cell, Groups
from hilum.report.decisions import one_finding_each
from hilum.report.join import Scored
from hilum.report.replicates import Group, Measured, Place, Replicates

Metric: TypeAlias = Literal["auroc", "average_precision", "accuracy"]
METRICS: tuple[str, ...] = get_args(Metric)

CHOICE = "all"
"""The finding of the accuracy of a choice among exclusive findings, as in report.json."""


def measure(
    metrics: Sequence[str],
    groups: Groups,
    scored: Mapping[int, Scored],
    *,
    replicates: int,
    seed: int,
) -> dict[str, Measured]:
    """The metrics of every group; `scored` holds the radiographs of each cell by its id.

    Accuracy is at the thresholds that each run's report.json chose on validation; where findings exclude each
    other it is that of the choice.

    Raises:
        ConfigError: a metric is not known, or a run has no thresholds for its accuracy.
    """
    _check(metrics)
    cells = [cell for members in groups.values() for cell in members]
    findings = scored[id(cells[0])].findings
    choice = "accuracy" in metrics and _choose(cells)
    asked = [metric for metric in dict.fromkeys(metrics) if not (choice and metric == "accuracy")]
    whys = _thresholds(cells, findings)[1] if "accuracy" in asked else {}
    drawn: dict[str, dict[Group, Sampled]] = {metric: {} for metric in metrics}
    for group, members in groups.items():
        parts = [scored[id(cell)] for cell in members]
        cuts = _thresholds(members, findings)[0] if "accuracy" in asked else None
        found = _sampled(asked, parts, cuts, replicates, seed)
        if choice:
            half = [np.full(1, 0.5)] * len(parts)
            found |= _sampled(["accuracy"], [_right(part) for part in parts], half, replicates, seed)
        for metric, sampled in found.items():
            drawn[metric][group] = sampled
    seeds = {group: tuple(cell.seed for cell in members) for group, members in groups.items()}
    fits = {group: distinct(scored[id(cell)].score for cell in members) for group, members in groups.items()}
    one = scored[id(cells[0])]
    return {
        metric: _measured(
            metric,
            sampled,
            _right(one) if choice and metric == "accuracy" else one,
            whys if metric == "accuracy" else {},
            seeds=seeds,
            seed=seed,
            fits=fits,
        )
        for metric, sampled in drawn.items()
    }


def distinct(predictions: Iterable[np.ndarray]) -> int:
    """How many of these differ, to the last bit.

    >>> distinct([np.ones(2), np.ones(2), np.zeros(2)])
    2
    """
    return len({one.tobytes() for one in predictions})


def _check(metrics: Sequence[str]) -> None:
    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown or not metrics:
        raise ConfigError(
            f"no metric is called {unknown[0]!r}; runs are compared by {', '.join(METRICS)}"
            if unknown
            else f"metric is empty; runs are compared by {', '.join(METRICS)}"
        )


def _sampled(
    metrics: Sequence[str],
    parts: Sequence[Scored],
    cuts: Sequence[Float[np.ndarray, " F"]] | None,
    replicates: int,
    seed: int,
) -> dict[str, Sampled]:
    """The metrics of several runs side by side: the patients of a replicate are drawn once for all."""
    if not metrics:
        return {}
    sampling = Sampling(np.tile(parts[0].truth, len(parts)), parts[0].patients, replicates, seed, None)
    side_by_side = np.hstack([part.score for part in parts])
    return sampling.values(metrics, side_by_side, None if cuts is None else np.concatenate(cuts))


def _measured(
    metric: str,
    sampled: Mapping[Group, Sampled],
    part: Scored,
    whys: Mapping[str, str],
    *,
    seeds: Mapping[Group, tuple[int, ...]],
    seed: int,
    fits: Mapping[Group, int],
) -> Measured:
    num = len(part.findings)
    points = {group: one.point.reshape(-1, num) for group, one in sampled.items()}
    defined = ~np.isnan(np.concatenate(list(points.values()))).any(axis=0)
    groups = {}
    for group, one in sampled.items():
        drawn = one.drawn.reshape(len(one.drawn), -1, num).swapaxes(0, 1)
        groups[group] = Replicates(_with_mean(points[group], defined), _with_mean(drawn, defined))
    return Measured(metric, _places(part, whys, defined), groups, seeds, seed, fits)


def _with_mean(values: Float[np.ndarray, "... F"], defined: np.ndarray) -> Float[np.ndarray, "... C"]:
    mean = values[..., defined].mean(axis=-1) if defined.any() else np.full(values.shape[:-1], np.nan)
    return np.concatenate([values, mean[..., None]], axis=-1)


def _places(part: Scored, whys: Mapping[str, str], defined: np.ndarray) -> tuple[Place, ...]:
    """The mean over findings first, then every finding."""
    places = []
    for column, finding in enumerate(part.findings):
        known = part.labelled(column)
        positives = int((part.truth[known, column] == 1).sum())
        why = whys.get(finding) or f"{positives} positives of {int(known.sum())} known labels"
        places.append(
            Place(finding, column, int(known.sum()), len(set(part.patients[known])), positives, why)
        )
    if len(places) == 1:
        return tuple(places)
    positives = sum(place.positives for place in places)
    images, patients = len(part.images), len(set(part.patients))
    why = "no finding is defined" if not defined.any() else ""
    return (Place("macro", len(places), images, patients, positives, why), *places)


def left_out(measured: Measured) -> list[str]:
    """A note on each metric whose mean is not over all findings."""
    main, *single = measured.places
    lost = [
        place
        for place in single
        if any(np.isnan(group.point[:, place.column]).any() for group in measured.groups.values())
    ]
    if main.finding != "macro" or not lost:
        return []
    named = "; ".join(f"{place.finding} ({place.why})" for place in lost)
    return [f"The mean {measured.metric.replace('_', ' ')} is without what is undefined: {named}."]


def _choose(cells: Sequence[Cell]) -> bool:
    """Whether the runs choose among exclusive findings."""
    exclusive = {bool(cell.report.get("exclusive")): cell for cell in cells}
    if len(exclusive) > 1:
        raise ConfigError(
            f"{exclusive[True].run} chooses among exclusive findings and {exclusive[False].run} does not: "
            "their accuracies are of different things; compare them without accuracy"
        )
    return True in exclusive


def _thresholds(
    cells: Sequence[Cell], findings: Sequence[str]
) -> tuple[list[Float[np.ndarray, " F"]], dict[str, str]]:
    """Every run's thresholds, NaN where it could choose none, and why the first of them could not."""
    cuts, whys = [], dict[str, str]()
    for cell in cells:
        listed = cell.report.get("thresholds")
        if not isinstance(listed, Sequence):
            raise ConfigError(
                f"{cell.run}: its report names no thresholds, and accuracy needs those that were chosen on "
                "validation; evaluate the run again, or leave accuracy out of --metric"
            )
        known = {one["finding"]: one for one in listed}
        chosen = [known.get(finding, {}).get("value") for finding in findings]
        cuts.append(np.array([np.nan if value is None else value for value in chosen], np.float64))
        for finding, value in zip(findings, chosen, strict=True):
            if value is None:
                note = known.get(finding, {}).get("note")
                whys.setdefault(finding, f"no threshold: {note or f'{cell.run} chose none'}")
    return cuts, whys


def _right(part: Scored) -> Scored:
    """Whether the most probable finding is the true one, where all labels are known, as a single score."""
    one_finding_each(part, [])
    known = ~np.isnan(part.truth).any(axis=1)
    chosen = part.truth[np.arange(len(known)), part.score.argmax(axis=1)]
    truth = np.where(known, 1.0, np.nan)[:, None]
    return Scored(part.images, part.patients, (CHOICE,), truth, np.where(known, chosen, 0.0)[:, None])
