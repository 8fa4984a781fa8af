"""Places of runs with equal labels, how sure a place is, and who cannot be told from the best.

The best of several is not the winner by itself: by chance another leads. Those whom the best beats are found
with p times the number of others, so that the truly best is among the rest with 95 % confidence: each of the
others may wrongly beat it with 5 % over their number (Gupta, Technometrics 7, 225, 1965, selects so).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from hilum.report.cells import Groups
from hilum.report.comparison import Standing
from hilum.report.pairs import ALPHA
from hilum.report.replicates import Group, Measured, band, two_sided
from hilum.report.report import LEVEL

FLOORS = ("pixels", "random")
"""What --init calls an encoder that knows nothing."""


def standings(measured: Measured, groups: Groups) -> list[Standing]:
    """Every group by the main place of the metric: most labels first, then the highest first."""
    budgets = sorted({budget for _, budget in groups}, key=lambda budget: budget.order, reverse=True)
    return [
        one
        for budget in budgets
        for one in _at(measured, {key: groups[key] for key in groups if key[1] == budget})
    ]


def _at(measured: Measured, groups: Groups) -> list[Standing]:
    """The groups of one budget."""
    place = measured.places[0]
    value = {key: measured.value(key, place) for key in groups}
    defined = sorted((key for key in groups if not np.isnan(value[key])), key=lambda key: -value[key])
    drawn = np.array([measured.drawn(key)[:, place.column] for key in defined]).T
    sure = dict(zip(defined, _ranks(drawn), strict=True)) if defined else {}
    rows = []
    for key in (*defined, *(key for key in groups if key not in defined)):
        rank = 1 + sum(value[other] > value[key] for other in defined) if key in sure else None
        low, high, note = (
            band(measured.drawn(key)[:, place.column], patients=place.patients)
            if key in sure
            else (None, None, place.why)
        )
        ranks = sure.get(key, (None, None)) if low is not None else (None, None)
        rows.append(
            Standing(
                init=key[0],
                fraction=key[1].fraction,
                shots=key[1].shots,
                value=value[key] if key in sure else None,
                low=low if low is None else max(0.0, low),
                high=high if high is None else min(1.0, high),
                rank=rank,
                rank_low=ranks[0],
                rank_high=ranks[1],
                among=len(defined),
                apart=low is not None and _apart(measured, defined, key),
                floor=all(cell.settings.get("init") in FLOORS for cell in groups[key]),
                seeds=len(groups[key]),
                images=place.images,
                patients=place.patients,
                positives=place.positives,
                parameters=groups[key][0].parameters,
                note=note,
                fits=measured.fits[key],
            )
        )
    return rows


def _apart(measured: Measured, defined: Sequence[Group], key: Group) -> bool:
    """Whether the best of the groups is beyond doubt higher than this one."""
    best = defined[0]
    if key == best:
        return False
    p = two_sided(measured.difference(best, key, measured.places[0]))
    return p * (len(defined) - 1) < ALPHA


def _ranks(drawn: Float[np.ndarray, "R G"]) -> list[tuple[int, int]]:
    """The middle 95 % of each group's rank over the replicates; equal ones share a rank."""
    whole = drawn[~np.isnan(drawn).any(axis=1)]
    if not len(whole):
        return [(1, drawn.shape[1])] * drawn.shape[1]
    rank: Int[np.ndarray, "R G"] = 1 + (whole[:, None, :] > whole[:, :, None]).sum(axis=2)
    edges = np.quantile(rank, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0, method="inverted_cdf")
    return [(int(low), int(high)) for low, high in edges.T]
