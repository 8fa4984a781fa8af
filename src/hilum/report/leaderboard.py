"""Who leads, and who cannot be told from the leader: one HTML file that needs nothing else."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from hilum.report.budget import Budget
from hilum.report.compare_page import in_words, label_of
from hilum.report.comparison import SCHEMA, Comparison, Standing
from hilum.report.pairs import ALPHA
from hilum.report.render import render
from hilum.report.words import interval, number

WIDTH, HEIGHT = 120, 16
"""Of the strip that shows an interval, pixels."""


@dataclass(frozen=True)
class Row:
    """A place in words, with its interval as a strip."""

    standing: Standing
    mark: str
    rank: str
    strip: Markup
    parameters: str


@dataclass(frozen=True)
class Part:
    """The places of one budget, the highest first."""

    words: str
    leaders: str
    rows: list[Row]


def page(comparison: Comparison, title: str) -> str:
    """The page."""
    ends = _ends(comparison.standings)
    parts = [
        _part(budget, list(rows), ends) for budget, rows in groupby(comparison.standings, lambda s: s.budget)
    ]
    most = max(standing.among for standing in comparison.standings)
    return render(
        "leaderboard.html",
        comparison=comparison,
        title=title,
        schema=SCHEMA,
        label=label_of(comparison, comparison.metric),
        parts=parts,
        ends=[number(end, places=2) for end in ends],
        width=WIDTH,
        parameters=any(standing.parameters is not None for standing in comparison.standings),
        seeds=sorted({standing.fits for standing in comparison.standings}),
        fits=sum(standing.fits for standing in comparison.standings),
        needed=_needed(most, comparison.replicates),
    )


def _part(budget: Budget, standings: Sequence[Standing], ends: tuple[float, float]) -> Part:
    level = [standing.init for standing in standings if standing.rank is not None and not standing.apart]
    if len(level) == 1:
        leaders = f"{level[0]} is higher than every other"
    elif len(level) == len(standings):
        leaders = "none can be told from the best"
    else:
        leaders = f"the best may be {', '.join(level[:-1])} or {level[-1]}"
    return Part(
        in_words([budget]), leaders if level else "nothing is defined", [_row(s, ends) for s in standings]
    )


def _row(standing: Standing, ends: tuple[float, float]) -> Row:
    if standing.rank is None:
        mark, rank = "undefined", "n/a"
    else:
        level = "best" if standing.rank == 1 else "not told from the best"
        mark = "lower than the best" if standing.apart else level
        rank = f"{standing.rank}"
    if standing.rank is not None and standing.rank_low is not None:
        rank += f" ({standing.rank_low} to {standing.rank_high})"
    parameters = "–" if standing.parameters is None else f"{standing.parameters / 1e6:.1f}"
    return Row(standing, mark, rank, _strip(standing, ends), parameters)


def _ends(standings: Sequence[Standing]) -> tuple[float, float]:
    """The scale that all strips share: a little more than the intervals take."""
    edges = [e for s in standings for e in (s.value, s.low, s.high) if e is not None] or [0.0, 1.0]
    room = max(0.02, 0.05 * (max(edges) - min(edges)))
    return max(0.0, min(edges) - room), min(1.0, max(edges) + room)


def _strip(standing: Standing, ends: tuple[float, float]) -> Markup:
    """The interval as a line with a dot: filled where the best cannot be told from it, else a ring."""
    if standing.value is None:
        return Markup("")
    low, high = (standing.value if e is None else e for e in (standing.low, standing.high))
    scale = (WIDTH - 10) / (ends[1] - ends[0])
    x0, x, x1 = (5 + (edge - ends[0]) * scale for edge in (low, standing.value, high))
    said = html.escape(interval(standing.value, standing.low, standing.high))
    colour = "var(--muted)" if standing.apart else "var(--s1)"
    fill = "var(--paper)" if standing.apart else colour
    middle = HEIGHT / 2
    return Markup(
        f'<svg role="img" aria-label="{said}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}">'
        f'<path d="M0 {middle}H{WIDTH}" stroke="var(--grid)"/>'
        f'<path d="M{x0:.1f} {middle}H{x1:.1f}" stroke="{colour}" stroke-width="2"/>'
        f'<circle cx="{x:.1f}" cy="{middle}" r="4" fill="{fill}" stroke="{colour}" stroke-width="1.6"/></svg>'
    )


def _needed(among: int, replicates: int) -> int:
    """How many replicates could tell the best from the others, if there are fewer; else 0."""
    needed = int(2 * (among - 1) / ALPHA) + 1
    return needed if replicates < needed else 0
