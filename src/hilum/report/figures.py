"""The figures of the pages, each with its words and its numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from hilum.report.drawing import (
    INK,
    LINES,
    MARKERS,
    MUTED,
    PAPER,
    SERIES,
    Drawing,
    panels,
    style,
    to_svg,
)
from hilum.report.report import Curve, Floor
from hilum.report.words import interval, number

TABULATED = range(0, 101, 10)
"""Points of a curve that its table shows."""


Line = tuple[str, float | None, float | None, float | None]
"""Label, value, low, high."""


def forest(
    name: str,
    rows: Sequence[Line],
    *,
    label: str,
    caption: str,
    floors: Sequence[Floor] = (),
    centre: float | None = None,
) -> Drawing:
    """A dot with its interval per row, the first on top; a row without a value says n/a.

    Floors and `centre` (of no effect) are vertical lines.
    """
    words = [f"{text} {interval(value, low, high)}" for text, value, low, high in rows]
    alt = f"{label}: " + "; ".join(words)
    with style():
        figure, (axes,) = panels(1, columns=1, width=8.6, height=0.8 + 0.3 * len(rows) + 0.25 * bool(floors))
        for place, (_, value, low, high) in enumerate(rows):
            if value is None:
                axes.text(0.01, place, "n/a", va="center", color=MUTED, transform=axes.get_yaxis_transform())
                continue
            if low is not None and high is not None:
                axes.plot([low, high], [place, place], color=SERIES[0], linewidth=2, solid_capstyle="butt")
            axes.plot([value], [place], "o", color=SERIES[0], markersize=6.5, markeredgecolor=PAPER)
        axes.set_yticks(range(len(rows)), [text for text, *_ in rows])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(label)
        if centre is not None:
            axes.axvline(centre, color=MUTED, linewidth=1)
        for i, floor in enumerate(floors):
            axes.axvline(
                floor.value,
                color=SERIES[(i + 1) % len(SERIES)],
                linestyle=LINES[(i + 1) % len(LINES)],
                linewidth=1.2,
                label=f"{floor.name} {number(floor.value)}",
            )
        if floors:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
        svg = to_svg(figure, name, alt=alt)
    table = tuple((text, number(value), number(low), number(high)) for text, value, low, high in rows)
    return Drawing(name, svg, alt, caption, ("", label, "low", "high"), table)


def curve_panels(
    name: str,
    curves: Sequence[Curve],
    *,
    points: Mapping[str, tuple[float, float]] | None = None,
    areas: Mapping[str, str] | None = None,
) -> Drawing:
    """One panel per finding, all of one kind; `points` marks where the chosen threshold lies."""
    roc = curves[0].kind == "roc"
    x, y = ("1 − specificity", "sensitivity") if roc else ("recall (sensitivity)", "precision")
    areas, points = areas or {}, points or {}
    what = "ROC curves" if roc else "Precision-recall curves"
    alt = f"{what}, {'AUROC' if roc else 'average precision'}: " + "; ".join(
        f"{c.finding} {areas.get(c.finding, '')}".strip() for c in curves
    )
    columns = {1: 1, 2: 2, 4: 2}.get(len(curves), 3)
    side = {1: 4.2, 2: 3.6}.get(columns, 2.95)
    with style():
        figure, axes = panels(len(curves), columns=columns, width=side * columns, height=side + 0.15)
        for i, (panel, curve) in enumerate(zip(axes, curves, strict=True)):
            area = f"{'AUROC' if roc else 'AP'} {areas[curve.finding]}" if curve.finding in areas else ""
            _panel(panel, curve, point=points.get(curve.finding), area=area)
            if i % columns == 0:
                panel.set_ylabel(y)
            if i >= len(curves) - columns:
                panel.set_xlabel(x)
        svg = to_svg(figure, name, alt=alt)
    header = (x, *(c.finding for c in curves))
    rows = tuple(
        (f"{curves[0].x[i]:.1f}", *(interval(c.y[i], c.low[i], c.high[i], places=2) for c in curves))
        for i in TABULATED
    )
    band = "Band: 95 % of bootstrap replicates at each point, resampling patients."
    guess = "Dotted: a guess." if roc else "Dotted: a guess (the prevalence)."
    mark = " Ring: the threshold chosen on the validation split." if points else ""
    return Drawing(name, svg, alt, f"{what}. {band} {guess}{mark}", header, rows)


def _panel(axes: Axes, curve: Curve, *, point: tuple[float, float] | None, area: str) -> None:
    axes.fill_between(curve.x, curve.low, curve.high, color=SERIES[0], alpha=0.18, linewidth=0)
    axes.plot(curve.x, curve.y, color=SERIES[0])
    base = [0, 1] if curve.chance is None else [curve.chance, curve.chance]
    axes.plot([0, 1], base, ":", color=MUTED, linewidth=1.1)
    if point is not None:
        axes.plot(
            *[[p] for p in point],
            "o",
            color=PAPER,
            markeredgecolor=SERIES[1],
            markeredgewidth=1.8,
            markersize=7,
            clip_on=False,
        )
    axes.set_title(curve.finding if len(curve.finding) < 28 else curve.finding[:26] + "…")
    if area:
        low = curve.kind == "roc" or np.mean(curve.y) > 0.5
        axes.text(
            0.96,
            0.05 if low else 0.93,
            area,
            ha="right",
            va="bottom" if low else "top",
            fontsize=8.5,
            transform=axes.transAxes,
        )
    axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))


@dataclass(frozen=True)
class Point:
    """A run with so many labels: mean over seeds, its band, and every seed's value."""

    init: str
    labels: float
    value: float | None
    low: float | None
    high: float | None
    seeds: tuple[float | None, ...] = ()


def label_efficiency(
    name: str,
    points: Sequence[Point],
    *,
    label: str,
    axis: str,
    words: Callable[[float], str],
    floors: Sequence[Floor] = (),
) -> Drawing:
    """The metric over the number of labels, a line with its band per run; floors are dashed.

    `axis` says what is counted, and `words` how a number of it is written.
    """
    inits = tuple(dict.fromkeys(p.init for p in points))
    amounts = sorted({p.labels for p in points})
    with style():
        figure, (axes,) = panels(1, columns=1, width=8.6, height=4.4)
        for i, init in enumerate(inits):
            shift = 1.025 ** (i - (len(inits) - 1) / 2)  # bands of equal fractions do not hide each other
            _efficiency(axes, [p for p in points if p.init == init], order=i, shift=shift)
        for floor in floors:
            axes.axhline(floor.value, color=MUTED, linestyle="--", linewidth=1.1)
            axes.annotate(
                f"{floor.name} {number(floor.value)}",
                (1, floor.value),
                xytext=(-2, 3),
                ha="right",
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                color=MUTED,
                fontsize=8.5,
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(amounts))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: words(v)))
        axes.set(xlabel=f"{axis} (log scale)", ylabel=label)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2, markerscale=0.8)
        alt = f"{label} over {axis}: " + "; ".join(
            f"{p.init} at {words(p.labels)} {interval(p.value, p.low, p.high)}" for p in points
        )
        svg = to_svg(figure, name, alt=alt)
    at = {(p.init, p.labels): p for p in points}
    rows = tuple((words(n), *(_cell(at.get((init, n))) for init in inits)) for n in amounts)
    caption = (
        f"{label} over {axis}. Line: mean over seeds; band or bar: 95 % over patients and seeds; "
        "small marks: each seed."
    )
    return Drawing(name, svg, alt, caption, (axis, *inits), rows)


def _efficiency(axes: Axes, points: Sequence[Point], *, order: int, shift: float) -> None:
    turn = order + order // len(SERIES)  # of the same colour another marker, and another line
    colour, marker = SERIES[order % len(SERIES)], MARKERS[turn % len(MARKERS)]
    shown = sorted((p for p in points if p.value is not None), key=lambda p: p.labels)
    x = [p.labels * shift for p in shown]
    y = [p.value or 0.0 for p in shown]
    banded = [p for p in shown if p.low is not None and p.high is not None]
    axes.fill_between(
        [p.labels * shift for p in banded],
        [p.low or 0.0 for p in banded],
        [p.high or 0.0 for p in banded],
        color=colour,
        alpha=0.14,
        linewidth=0,
    )
    if len(shown) == 1 and banded:  # a band has no width at a single budget
        axes.vlines(x, banded[0].low or 0.0, banded[0].high or 0.0, color=colour, alpha=0.5, linewidth=1)
    axes.plot(
        x,
        y,
        color=colour,
        marker=marker,
        linestyle=LINES[turn % len(LINES)],
        markeredgecolor=PAPER,
        markersize=7,
        label=points[0].init,
    )
    for place, point in zip(x, shown, strict=True):
        seeds = [s for s in point.seeds if s is not None]
        axes.plot(
            [place] * len(seeds), seeds, marker, color=colour, markersize=2.6, linestyle="none", alpha=0.75
        )


def _cell(point: Point | None) -> str:
    return "not run" if point is None else interval(point.value, point.low, point.high)
