"""Runs side by side over budgets of labels, with intervals over patients and seeds."""

from collections.abc import Mapping, Sequence

import numpy as np

from hilum.records.table import Records
from hilum.report.cells import Cell, Groups, aligned, grouped
from hilum.report.comparison import Comparison, Mean, Paired, Standing
from hilum.report.differing import differing
from hilum.report.measure import Metric, left_out, measure
from hilum.report.pairs import Against, Areas, pairs, resolution
from hilum.report.replicates import Group, Measured, Place, band, holm
from hilum.report.report import Floor, as_json
from hilum.report.standings import standings
from hilum.report.words import counted

__all__ = ["Cell", "Comparison", "Mean", "Metric", "Paired", "Standing", "compare", "holm"]


def compare(
    cells: Sequence[Cell],
    records: Records,
    *,
    baseline: str,
    against: Against = "baseline",
    metrics: Sequence[Metric] = ("auroc",),
    replicates: int = 2000,
    seed: int = 0,
    floors: Sequence[Floor] = (),
    provenance: Mapping[str, object] | None = None,
) -> Comparison:
    """Means over seeds with intervals, and runs against each other at equal budgets.

    Every run is compared with the baseline, or any two with each other. Every replicate draws
    patients with replacement, the same for all runs, and seeds with replacement, the same for both sides of a
    difference where both have them. The first metric is the one that conclusions and places are drawn from.

    Raises:
        ConfigError: no cell, a repeated cell, a baseline that no cell began from, a metric that is not known,
            or accuracy of runs that name no thresholds.
        RecordsError: predictions and records do not fit, runs predict different findings, or one run may have
            been trained on patients that another is tested on.
    """
    groups = grouped(cells, baseline)
    scored, notes = aligned(cells, records)
    one, known = scored[0], dict(zip(map(id, cells), scored, strict=True))
    found = measure(metrics, groups, known, replicates=replicates, seed=seed)
    areas = Areas({key: [known[id(cell)] for cell in members] for key, members in groups.items()})
    return concluded(
        found,
        cells,
        groups,
        areas,
        findings=one.findings,
        images=len(one.images),
        patients=len(set(one.patients)),
        baseline=baseline,
        against=against,
        replicates=replicates,
        seed=seed,
        floors=floors,
        notes=notes,
        provenance=provenance,
    )


def concluded(
    found: Mapping[str, Measured],
    cells: Sequence[Cell],
    groups: Groups,
    areas: Areas | None,
    *,
    findings: tuple[str, ...],
    images: int,
    patients: int,
    baseline: str,
    against: Against,
    replicates: int,
    seed: int,
    floors: Sequence[Floor] = (),
    notes: Sequence[str] = (),
    provenance: Mapping[str, object] | None = None,
) -> Comparison:
    """What follows from the replicates of each metric, the first of which is the main one."""
    metrics = tuple(found)
    means, differences, warnings = list[Mean](), list[Paired](), list[str]()
    for metric, measured in found.items():
        means += [_mean(measured, key, place) for key in groups for place in measured.places]
        delong = areas if metric == "auroc" else None
        main, single = pairs(measured, delong, baseline=baseline, against=against)
        differences += [*main, *single]
        warnings += left_out(measured)
        if metric == metrics[0]:
            warnings += resolution(main, replicates, "the main comparisons")
            warnings += resolution(single, replicates, "the comparisons of single findings")
    primaries = {metric: measured.places[0].finding for metric, measured in found.items()}
    return Comparison(
        metric=metrics[0],
        findings=findings,
        primary=primaries[metrics[0]],
        baseline=baseline,
        images=images,
        patients=patients,
        replicates=replicates,
        seed=seed,
        means=tuple(means),
        differences=tuple(differences),
        floors=tuple(floors),
        notes=(*notes, *_alike(found[metrics[0]]), *warnings),
        runs=tuple((c.init, c.fraction, c.seed, c.run) for c in cells),
        provenance=as_json(provenance or {}),
        metrics=metrics,
        primaries=primaries,
        against=against,
        standings=tuple(standings(found[metrics[0]], groups)),
        settings=differing(cells),
        shots=tuple(c.shots for c in cells),
    )


def _alike(measured: Measured) -> list[str]:
    """A note where seeds gave equal predictions, so that they are fewer fits than they seem."""
    said = [
        f"{init} at {budget.words}: {counted(len(seeds), 'seeds')}, {counted(fits, 'fits')}"
        for (init, budget), seeds in measured.seed_numbers.items()
        if (fits := measured.fits[init, budget]) < len(seeds)
    ]
    if not said:
        return []
    return [f"Seeds that make no difference (equal predictions) count as one fit. {'; '.join(said)}."]


def _mean(measured: Measured, group: Group, place: Place) -> Mean:
    points = measured.groups[group].point[:, place.column]
    value, low, high, note = None, None, None, place.why
    if not np.isnan(points).any():
        value = float(points.mean())
        low, high, note = band(measured.drawn(group)[:, place.column], patients=place.patients)
    init, budget = group
    return Mean(
        init=init,
        fraction=budget.fraction,
        metric=measured.metric,
        finding=place.finding,
        value=value,
        low=low if low is None else max(0.0, low),
        high=high if high is None else min(1.0, high),
        seeds=tuple(None if np.isnan(p) else float(p) for p in points),
        seed_numbers=measured.seed_numbers[group],
        images=place.images,
        patients=place.patients,
        positives=place.positives,
        note=note,
        shots=budget.shots,
        fits=measured.fits[group],
    )
