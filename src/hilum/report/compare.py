"""Runs side by side: initialisations over fractions of labels, with intervals over patients and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from hilum.errors import ConfigError, RecordsError
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.report.comparison import Comparison, Mean, Paired, Verdict
from hilum.report.join import Scored, join
from hilum.report.replicates import Replicates, band, holm, over_seeds, picks, replicate, two_sided
from hilum.report.report import LEVEL, Floor, as_json

__all__ = ["Cell", "Comparison", "Mean", "Paired", "compare", "holm"]

ALPHA = 1 - LEVEL
Metric: TypeAlias = Literal["auroc", "average_precision"]


@dataclass(frozen=True)
class Cell:
    """One finished run of a sweep: where it began, what share of the labels it saw, and what it predicted.

    `report` is the content of its report.json; the radiographs it excludes need no prediction.
    """

    init: str
    fraction: float
    seed: int
    run: str
    predictions: Predictions
    report: Mapping[str, object]


def compare(
    cells: Sequence[Cell],
    records: Records,
    *,
    baseline: str,
    metric: Metric = "auroc",
    replicates: int = 2000,
    seed: int = 0,
    floors: Sequence[Floor] = (),
    provenance: Mapping[str, object] | None = None,
) -> Comparison:
    """Means over seeds with intervals, and every initialisation against the baseline at equal fractions.

    Every replicate draws patients with replacement, the same for all runs, and seeds with replacement, the
    same for both sides of a difference where both have them.

    Raises:
        ConfigError: no cell, a repeated cell, or a baseline that no cell began from.
        RecordsError: predictions and records do not fit, or runs predict different findings.
    """
    groups = _groups(cells, baseline)
    scored, notes = _aligned(cells, records)
    one = scored[0]
    known = dict(zip(map(id, cells), scored, strict=True))
    drawn = {
        key: [replicate(metric, known[id(cell)], replicates=replicates, seed=seed) for cell in members]
        for key, members in groups.items()
    }
    places = _places(one)
    means = [_mean(groups[key], drawn[key], place, metric, seed) for key in groups for place in places]
    pairs = [
        _pair(groups[key], groups[other], drawn[key], drawn[other], place, metric, seed)
        for place in places
        for key in groups
        if key[0] != baseline and (other := (baseline, key[1])) in groups
    ]
    primary = places[0].finding
    differences = _corrected(pairs, primary)
    return Comparison(
        metric=metric,
        findings=one.findings,
        primary=primary,
        baseline=baseline,
        images=len(one.images),
        patients=len(set(one.patients)),
        replicates=replicates,
        seed=seed,
        means=tuple(means),
        differences=tuple(differences),
        floors=tuple(floors),
        notes=(*notes, *_resolution(differences, primary, replicates)),
        runs=tuple((c.init, c.fraction, c.seed, c.run) for c in cells),
        provenance=as_json(provenance or {}),
    )


@dataclass(frozen=True)
class _Place:
    """A column of the replicates and what stands behind it."""

    finding: str
    column: int
    images: int
    patients: int
    positives: int


def _places(scored: Scored) -> list[_Place]:
    """The mean over findings first, then every finding."""
    places = []
    for column, finding in enumerate(scored.findings):
        known = scored.labelled(column)
        positives = int((scored.truth[known, column] == 1).sum())
        places.append(_Place(finding, column, int(known.sum()), len(set(scored.patients[known])), positives))
    if len(places) == 1:
        return places
    positives = sum(place.positives for place in places)
    everything = _Place("macro", len(places), len(scored.images), len(set(scored.patients)), positives)
    return [everything, *places]


Groups: TypeAlias = dict[tuple[str, float], list[Cell]]


def _groups(cells: Sequence[Cell], baseline: str) -> Groups:
    """The cells of every initialisation and fraction, by seed."""
    inits = sorted({cell.init for cell in cells})
    if baseline not in inits:
        raise ConfigError(
            f"baseline: no run began from {baseline!r}; there is {', '.join(inits) or 'no run'}"
        )
    groups: Groups = {}
    for cell in sorted(cells, key=lambda c: c.seed):
        members = groups.setdefault((cell.init, cell.fraction), [])
        if members and members[-1].seed == cell.seed:
            raise ConfigError(
                f"runs {members[-1].run} and {cell.run} are both {cell.init} with {cell.fraction:g} of the "
                f"labels and seed {cell.seed}; keep one"
            )
        members.append(cell)
    order = list(dict.fromkeys(cell.init for cell in cells))
    return {key: groups[key] for key in sorted(groups, key=lambda k: (order.index(k[0]), k[1]))}


def _aligned(cells: Sequence[Cell], records: Records) -> tuple[list[Scored], tuple[str, ...]]:
    """Every run on the radiographs that all of them scored, in one order."""
    notes: dict[str, None] = {}
    scored = []
    for cell in cells:
        excluded = cell.report.get("excluded")
        try:
            joined = join(
                cell.predictions, records, excluded=excluded if isinstance(excluded, Mapping) else {}
            )
        except RecordsError as error:
            raise RecordsError(f"{cell.run}: {error}") from None
        notes.update(dict.fromkeys(joined.notes))
        scored.append(joined.test)
        if scored[0].findings != scored[-1].findings:
            raise RecordsError(
                f"{cell.run} predicts {', '.join(scored[-1].findings)}, {cells[0].run} predicts "
                f"{', '.join(scored[0].findings)}; runs are compared on equal findings"
            )
    common = set(scored[0].images).intersection(*(s.images for s in scored))
    lost = len(set().union(*(s.images for s in scored))) - len(common)
    if lost:
        notes[f"{lost:,} radiographs that not every run scored are left out of all."] = None
    if not common:
        raise RecordsError("no radiograph was scored by every run; compare runs on one test split")
    return [s.rows(np.array([image in common for image in s.images])) for s in scored], tuple(notes)


def _mean(cells: Sequence[Cell], drawn: Sequence[Replicates], place: _Place, metric: str, seed: int) -> Mean:
    points = np.array([run.point[place.column] for run in drawn])
    value, low, high, note = None, None, None, _why(place)
    if not np.isnan(points).any():
        value = float(points.mean())
        sample = _over_seeds(drawn, place.column, seed)
        low, high, note = band(sample, patients=place.patients)
    return Mean(
        init=cells[0].init,
        fraction=cells[0].fraction,
        metric=metric,
        finding=place.finding,
        value=value,
        low=low if low is None else max(0.0, low),
        high=high if high is None else min(1.0, high),
        seeds=tuple(None if np.isnan(p) else float(p) for p in points),
        seed_numbers=tuple(cell.seed for cell in cells),
        images=place.images,
        patients=place.patients,
        positives=place.positives,
        note=note,
    )


def _pair(
    cells: Sequence[Cell],
    base_cells: Sequence[Cell],
    drawn: Sequence[Replicates],
    base: Sequence[Replicates],
    place: _Place,
    metric: str,
    seed: int,
) -> Paired:
    column = place.column
    same_seeds = [c.seed for c in cells] == [c.seed for c in base_cells]
    points = np.array([run.point[column] for run in (*drawn, *base)])
    value, low, high, p, note = None, None, None, None, _why(place)
    if not np.isnan(points).any():
        value = float(points[: len(drawn)].mean() - points[len(drawn) :].mean())
        ours = _over_seeds(drawn, column, seed)
        theirs = _over_seeds(base, column, seed if same_seeds else seed + 1)
        low, high, note = band(ours - theirs, patients=place.patients)
        p = None if low is None else two_sided(ours - theirs)
    return Paired(
        init=cells[0].init,
        baseline=base_cells[0].init,
        fraction=cells[0].fraction,
        metric=metric,
        finding=place.finding,
        value=value,
        low=low,
        high=high,
        p=p,
        p_holm=None,
        images=place.images,
        patients=place.patients,
        positives=place.positives,
        verdict="undefined",
        note=note,
    )


def _over_seeds(drawn: Sequence[Replicates], column: int, seed: int) -> np.ndarray:
    runs = np.stack([run.drawn[:, column] for run in drawn])
    return over_seeds(runs, picks(len(runs), replicates=runs.shape[1], seed=seed))


def _why(place: _Place) -> str:
    return f"{place.positives} positives of {place.images} known labels"


def _corrected(pairs: Sequence[Paired], primary: str) -> list[Paired]:
    """With Holm's p values and the words they allow; the primary finding is a family of its own."""
    done = []
    for family in (True, False):
        members = [pair for pair in pairs if (pair.finding == primary) is family]
        corrected = iter(holm([pair.p for pair in members if pair.p is not None]))
        done += [pair if pair.p is None else _judged(pair, next(corrected)) for pair in members]
    return done


def _resolution(pairs: Sequence[Paired], primary: str, replicates: int) -> list[str]:
    """A warning for each family whose corrected p values cannot fall below 0.05 with so few replicates."""
    warnings = []
    for family, name in ((True, "the main comparisons"), (False, "the comparisons of single findings")):
        num = sum((pair.finding == primary) is family for pair in pairs)
        needed = int(np.ceil(2 * num / ALPHA))
        if num and replicates < needed:
            warnings.append(
                f"{replicates:,} replicates are too few for {name} ({num:,} of them): no corrected p can "
                f"fall below {ALPHA:.2g}. Ask for {needed:,} or more."
            )
    return warnings


def _judged(pair: Paired, p_holm: float) -> Paired:
    assert pair.value is not None
    assert pair.low is not None
    assert pair.high is not None
    verdict: Verdict = "no evidence of a difference"
    note = pair.note
    if not pair.low <= 0 <= pair.high:
        if p_holm < ALPHA:
            verdict = "higher" if pair.value > 0 else "lower"
        else:
            note = "the interval excludes 0, but not after correction"
    return replace(pair, p_holm=p_holm, verdict=verdict, note=note)
