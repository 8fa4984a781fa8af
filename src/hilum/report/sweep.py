"""What a sweep found: the best by validation, and its figures and page. The test split chooses nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from hilum.durable import write_atomically
from hilum.report.drawing import GRID, INK, MUTED, PAPER, SERIES, Drawing, panels, style, to_svg
from hilum.report.render import render
from hilum.report.words import interval, number, without_folders

SEEDS = ("seeds", "seed")
FRACTION = "label_fraction"
WIDE = 50
"""From this ratio of the largest to the smallest on, an axis is drawn by ratios."""
COLUMNS = ("status", "validation", "test (95 % interval)", "seconds")


@dataclass(frozen=True)
class SweepRow:
    """A run of a sweep: the values of the axes, its scores (None: unknown), and what is to be said of it."""

    labels: Mapping[str, str]
    status: str
    validation: float | None
    test: float | None
    low: float | None
    high: float | None
    seconds: float | None
    reason: str
    run: str


@dataclass(frozen=True)
class Choice:
    """The setting with the best mean validation over its seeds, at one fraction of the labels (or at any)."""

    fraction: str
    labels: Mapping[str, str]
    validation: float
    runs: int
    among: int

    def sentence(self, objective: str) -> str:
        """The choice in words."""
        where = f" at {FRACTION} {self.fraction}" if self.fraction else ""
        over = f", the mean of {self.runs} runs" if self.runs > 1 else ""
        setting = ", ".join(f"{axis} {label}" for axis, label in self.labels.items()) or "the only setting"
        return (
            f"Best by validation{where}: {setting} ({objective} {number(self.validation)}{over}; "
            f"the best of {self.among})"
        )


def choices(rows: Sequence[SweepRow], *, lowest: bool) -> list[Choice]:
    """The best setting by validation at every fraction of the labels; seeds of a setting are averaged."""
    groups: dict[str, dict[tuple[tuple[str, str], ...], list[float]]] = {}
    for row in rows:
        if row.validation is not None:
            setting = tuple((a, label) for a, label in row.labels.items() if a not in (*SEEDS, FRACTION))
            at = groups.setdefault(row.labels.get(FRACTION, ""), {})
            at.setdefault(setting, []).append(row.validation)
    found = []
    for fraction, settings in groups.items():
        means = {setting: float(np.mean(values)) for setting, values in settings.items()}
        best = (min if lowest else max)(means, key=lambda setting: means[setting])
        found.append(Choice(fraction, dict(best), means[best], len(settings[best]), len(means)))
    return found


def lines(rows: Sequence[SweepRow]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of the table that people read, in the order of the sweep."""
    axes = list(rows[0].labels) if rows else []
    said = [
        (
            *(row.labels[axis] for axis in axes),
            row.status,
            number(row.validation),
            interval(row.test, row.low, row.high),
            "–" if row.seconds is None else f"{row.seconds:.0f}",
            without_folders(row.reason),
        )
        for row in rows
    ]
    return (*axes, *COLUMNS, ""), said


def write_sweep_page(
    path: Path, rows: Sequence[SweepRow], *, title: str, objective: str, lowest: bool, compared: bool
) -> None:
    """Writes sweep.html. `compared` says that compare.html and leaderboard.html lie beside it."""
    header, said = lines(rows)
    page = render(
        "sweep.html",
        title=title,
        objective=objective,
        choices=[choice.sentence(objective) for choice in choices(rows, lowest=lowest)],
        counts={status: sum(row.status == status for row in rows) for status in {row.status for row in rows}},
        drawings=figures(rows, objective),
        header=(*header[:-1], "remark"),
        rows=said,
        compared=compared,
    )
    write_atomically(path, page.encode())


def figures(rows: Sequence[SweepRow], objective: str) -> list[Drawing]:
    """Validation over every axis, and a heat map where two axes vary."""
    scored = [row for row in rows if row.validation is not None]
    axes = [axis for axis in (rows[0].labels if rows else ()) if axis not in SEEDS]
    varied = [axis for axis in axes if len({row.labels[axis] for row in scored}) > 1]
    drawn = [_scan("fig-scan", rows, varied, objective)] if varied else []
    if len(varied) == 2:
        cells = {(row.labels[varied[0]], row.labels[varied[1]]) for row in scored}
        sizes = [len({row.labels[axis] for row in scored}) for axis in varied]
        if len(cells) > 0.5 * sizes[0] * sizes[1]:  # a grid, not draws of which no two share a value
            drawn.append(_heat_map("fig-heat-map", rows, varied, objective))
    return drawn


def _scan(name: str, rows: Sequence[SweepRow], axes: Sequence[str], objective: str) -> Drawing:
    tables, words = [], []
    columns = min(2, len(axes))
    with style():
        figure, places = panels(len(axes), columns=columns, width=8.6 if columns > 1 else 6.4, height=3.3)
        for panel, axis in zip(places, axes, strict=True):
            means = _panel(panel, rows, axis)
            tables += [(axis, label, number(value), str(count)) for label, value, count in means]
            words.append(f"{axis}: " + ", ".join(f"{label} {number(value)}" for label, value, _ in means))
            panel.set_xlabel(axis)
        for panel in places[::columns]:
            panel.set_ylabel(f"{objective}")
        svg = to_svg(figure, name, alt=f"{objective} over " + "; ".join(words))
    caption = (
        f"{objective} on the validation split. A dot is a run; the squares are the means at equal values."
    )
    return Drawing(
        name, svg, "; ".join(words), caption, ("axis", "value", f"mean {objective}", "runs"), tuple(tables)
    )


def _panel(panel: Axes, rows: Sequence[SweepRow], axis: str) -> list[tuple[str, float, int]]:
    """Draws one axis; the mean and the number of runs at each of its values, in order."""
    labels = _ordered(rows, axis)
    numbers = _numbers(labels)
    at = numbers or {label: float(i) for i, label in enumerate(labels)}
    scores = {
        label: [r.validation for r in rows if r.labels[axis] == label and r.validation is not None]
        for label in labels
    }
    labels = [label for label in labels if scores[label]]
    means = [(label, float(np.mean(scores[label])), len(scores[label])) for label in labels]
    x = [at[label] for label in labels]
    for label in labels:
        panel.plot(
            [at[label]] * len(scores[label]), scores[label], "o", color=SERIES[0], alpha=0.45, markersize=4
        )
    if numbers is None or len(labels) <= max(12, len(rows) // 2):
        panel.plot(
            x,
            [mean for _, mean, _ in means],
            color=SERIES[0],
            marker="s",
            linestyle="-" if numbers else "none",
        )
    if numbers is None:
        panel.set_xticks(x, [label if len(label) < 18 else f"…{label[-16:]}" for label in labels])
        panel.tick_params(axis="x", rotation=30 if max(map(len, labels)) > 7 else 0)
        panel.margins(x=0.15)
    elif min(x) > 0 and max(x) / min(x) >= WIDE:
        panel.set_xscale("log")
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        if len(x) <= 8:
            panel.xaxis.set_major_locator(FixedLocator(x))
            panel.tick_params(axis="x", rotation=30 if len(x) > 4 else 0)
    return means


def _heat_map(name: str, rows: Sequence[SweepRow], axes: Sequence[str], objective: str) -> Drawing:
    down, across = (_ordered(rows, axis) for axis in axes)
    cells: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.validation is not None:
            cells.setdefault((row.labels[axes[0]], row.labels[axes[1]]), []).append(row.validation)
    means = {key: float(np.mean(values)) for key, values in cells.items()}
    low, high = min(means.values()), max(means.values())
    with style():
        figure, (panel,) = panels(
            1, columns=1, width=min(8.6, 2.4 + 0.85 * len(across)), height=1.2 + 0.42 * len(down)
        )
        for i, first in enumerate(down):
            for j, second in enumerate(across):
                mean = means.get((first, second))
                if mean is not None:
                    shade = 0.08 + 0.62 * ((mean - low) / (high - low) if high > low else 0)
                    panel.fill_between([j, j + 1], i, i + 1, color=SERIES[0], alpha=shade, linewidth=0)
                panel.text(
                    j + 0.5,
                    i + 0.5,
                    number(mean),
                    ha="center",
                    va="center",
                    color=MUTED if mean is None else INK,
                )
        panel.set(xlim=(0, len(across)), ylim=(len(down), 0), xlabel=axes[1], ylabel=axes[0])
        panel.set_xticks(
            np.arange(len(across)) + 0.5, across, rotation=30 if max(map(len, across)) > 8 else 0
        )
        panel.set_yticks(np.arange(len(down)) + 0.5, down)
        panel.tick_params(labelcolor=INK)
        panel.grid(visible=False)
        panel.set_facecolor(PAPER)
        for spine in panel.spines.values():
            spine.set_color(GRID)
        alt = f"{objective}: " + "; ".join(f"{a}, {b} {number(value)}" for (a, b), value in means.items())
        svg = to_svg(figure, name, alt=alt)
    table = tuple((first, *(number(means.get((first, second))) for second in across)) for first in down)
    caption = (
        f"Mean {objective} on the validation split over {axes[0]} (rows) and {axes[1]} (columns); darker is "
        "higher."
    )
    return Drawing(name, svg, alt, caption, (f"{axes[0]} \\ {axes[1]}", *across), table)


def _ordered(rows: Sequence[SweepRow], axis: str) -> list[str]:
    labels = list(dict.fromkeys(row.labels[axis] for row in rows))
    numbers = _numbers(labels)
    return labels if numbers is None else sorted(labels, key=lambda label: numbers[label])


def _numbers(labels: Sequence[str]) -> dict[str, float] | None:
    """The number that each label is; None if one is none."""
    try:
        found = {label: float(label) for label in labels}
    except ValueError:
        return None
    return found if all(map(math.isfinite, found.values())) else None
