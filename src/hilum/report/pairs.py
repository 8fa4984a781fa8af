"""Two runs at equal budgets, replicate by replicate: differences, p values and what they allow."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np

from hilum.errors import ConfigError
from hilum.metrics.delong import Placements, contrast, placements
from hilum.report.comparison import Paired, Verdict
from hilum.report.join import Scored
from hilum.report.replicates import Group, Measured, Place, band, holm, two_sided
from hilum.report.report import LEVEL

Against: TypeAlias = Literal["baseline", "all"]
ALPHA = 1 - LEVEL


@dataclass
class Areas:
    """DeLong's test of the mean AUROC over seeds, on the radiographs that all runs scored."""

    scored: Mapping[Group, Sequence[Scored]]
    _known: dict[tuple[Group, int], Placements] = field(default_factory=dict)

    def p(self, group: Group, other: Group, column: int) -> float | None:
        """The p of no difference in the AUROC of a finding; None where the test is undefined."""
        ours, theirs = self._of(group, column), self._of(other, column)
        positive, negative = ours.positive - theirs.positive, ours.negative - theirs.negative
        p = contrast(Placements(positive, negative, ours.positive_patients, ours.negative_patients)).p
        return None if np.isnan(p) else p

    def _of(self, group: Group, column: int) -> Placements:
        if (group, column) not in self._known:
            runs = self.scored[group]
            scores = np.stack([run.score[:, column] for run in runs])
            every = placements(runs[0].truth[:, column], scores, patients=runs[0].patients)
            self._known[group, column] = every.combined(np.full((1, len(runs)), 1 / len(runs)))
        return self._known[group, column]


def pairs(
    measured: Measured, areas: Areas | None, *, baseline: str, against: Against
) -> tuple[list[Paired], list[Paired]]:
    """Differences of the main place, then those of the other places, each a family for Holm's correction.

    `areas` adds DeLong's test of each finding, where the metric is the AUROC.

    Raises:
        ConfigError: `against` is neither of its values.
    """
    both = list(_which(measured.groups, baseline, against))
    main, *single = measured.places
    families = [
        [_pair(measured, *two, place, areas) for place in family for two in both]
        for family in ([main], single)
    ]
    return _corrected(families[0]), _corrected(families[1])


def resolution(pairs: Sequence[Paired], replicates: int, name: str) -> list[str]:
    """A warning if the corrected p values of a family cannot fall below 0.05 with so few replicates."""
    needed = int(np.ceil(2 * len(pairs) / ALPHA))
    if not pairs or replicates >= needed:
        return []
    return [
        f"{replicates:,} replicates are too few for {name} ({len(pairs):,} of them): no corrected p can "
        f"fall below {ALPHA:.2g}. Ask for {needed:,} or more."
    ]


def _which(groups: Mapping[Group, object], baseline: str, against: str) -> Iterator[tuple[Group, Group]]:
    """The pairs of equal budget; the baseline, or what was named earlier, is the second."""
    if against not in ("baseline", "all"):
        raise ConfigError(f"against is {against!r}; expected baseline or all")
    inits = list(dict.fromkeys(init for init, _ in groups))
    ranked = [baseline, *(init for init in inits if init != baseline)]
    for place, other in enumerate(ranked if against == "all" else [baseline]):
        later = ranked[place + 1 :]
        yield from (
            (group, (other, group[1]))
            for group in groups
            if group[0] in later and (other, group[1]) in groups
        )


def _pair(measured: Measured, group: Group, other: Group, place: Place, areas: Areas | None) -> Paired:
    value: float | None = measured.value(group, place) - measured.value(other, place)
    low, high, p, note, p_delong = None, None, None, place.why, None
    if value is None or np.isnan(value):
        value = None
    else:
        drawn = measured.difference(group, other, place)
        low, high, note = band(drawn, patients=place.patients)
        p = None if low is None else two_sided(drawn)
        if areas is not None and place.finding != "macro":
            p_delong = areas.p(group, other, place.column)
    (init, budget), (baseline, _) = group, other
    return Paired(
        init=init,
        baseline=baseline,
        fraction=budget.fraction,
        metric=measured.metric,
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
        shots=budget.shots,
        p_delong=p_delong,
    )


def _corrected(family: Sequence[Paired]) -> list[Paired]:
    """With Holm's p values over the family, and the words that they allow."""
    corrected = iter(holm([pair.p for pair in family if pair.p is not None]))
    delong = iter(holm([pair.p_delong for pair in family if pair.p_delong is not None]))
    done = []
    for pair in family:
        one = pair if pair.p is None else _judged(pair, next(corrected))
        done.append(one if pair.p_delong is None else replace(one, p_delong_holm=next(delong)))
    return done


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
