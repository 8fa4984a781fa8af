"""A finding group by group: dots with intervals, side by side for every metric."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from hilum.metrics.groups import GroupScore, Subgroups
from hilum.report.drawing import INK, MUTED, PAPER, SERIES, Drawing, panels, style, to_svg
from hilum.report.report import LEVEL
from hilum.report.words import interval, number

TITLES = {"auroc": "AUROC", "sensitivity": "sensitivity", "specificity": "specificity"}

Overall = dict[str, float | None]
"""A metric's value over all groups together."""


def by_group(name: str, found: Sequence[Subgroups], finding: str, *, overall: Overall) -> Drawing:
    """A panel per metric with a dot per group, column after column; what has too few patients says so.

    The broken line is the value in everybody.
    """
    rows = {
        metric: [
            (one.column, score)
            for one in found
            for score in one.scores
            if (score.metric, score.finding) == (metric, finding)
        ]
        for metric in TITLES
    }
    labels = [f"{column}: {score.group}" for column, score in rows["auroc"]]
    starts = [i for i, (column, _) in enumerate(rows["auroc"]) if i and column != rows["auroc"][i - 1][0]]
    alt = f"{finding} by group: " + "; ".join(
        f"{TITLES[s.metric]} {column} {s.group} {_cell(s)}"
        for scores in rows.values()
        for column, s in scores
    )
    with style():
        figure, axes = panels(len(rows), columns=len(rows), width=9.4, height=0.85 + 0.27 * len(labels))
        for panel, (metric, scores) in zip(axes, rows.items(), strict=True):
            _panel(panel, [score for _, score in scores], title=TITLES[metric], overall=overall.get(metric))
            for start in starts:
                panel.axhline(start - 0.5, color=MUTED, linewidth=0.5)
            panel.set_yticks(range(len(labels)), labels if panel is axes[0] else [""] * len(labels))
        axes[0].tick_params(axis="y", labelcolor=INK)
        svg = to_svg(figure, name, alt=alt)
    caption = (
        f"{finding} by group: AUROC, and sensitivity and specificity at the one threshold for all groups, "
        "with 95 % intervals from a bootstrap over patients. Broken line: everybody."
    )
    blind = [
        f"{labels[place]}, {TITLES[metric]}: {words}"
        for metric, scores in rows.items()
        for place, (_, one) in enumerate(scores)
        if (words := _bound(one))
    ]
    if any(_is_blind(one) for scores in rows.values() for _, one in scores):
        caption += (
            " * Every film is right, or every one is wrong, and so it is in every resample: such an interval "
            "cannot say how far chance goes. Were the films independent, the exact (Clopper-Pearson) "
            "interval would " + (f"end at: {'; '.join(blind)}." if blind else "be wider.")
        )
    header = ("Group", "Radiographs", "Patients", "Positives", *TITLES.values())
    table = tuple(
        (
            label,
            f"{score.images:,}",
            f"{score.patients:,}",
            f"{score.positives:,}",
            *(_cell(scores[place][1]) for scores in rows.values()),
        )
        for place, (label, (_, score)) in enumerate(zip(labels, rows["auroc"], strict=True))
    )
    return Drawing(name, svg, alt, caption, header, table)


def _panel(axes: Axes, scores: Sequence[GroupScore], *, title: str, overall: float | None) -> None:
    edges = [edge for s in scores for edge in (s.low, s.high, s.value) if edge is not None]
    axes.set_xlim(min([0.5, *edges]) - 0.03, 1.03)
    if overall is not None:
        axes.axvline(overall, color=MUTED, linewidth=1, linestyle="--")
    for place, one in enumerate(scores):
        if one.value is None:
            across = axes.get_yaxis_transform()
            clear = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.5}  # of the broken line
            axes.text(
                0.02, place, _cell(one), va="center", color=MUTED, fontsize=8.5, transform=across, bbox=clear
            )
            continue
        if one.low is not None and one.high is not None:
            ends = [one.low, one.high]
            axes.plot(ends, [place, place], color=SERIES[0], linewidth=2, solid_capstyle="butt")
        axes.plot([one.value], [place], "o", color=SERIES[0], markersize=6.5, markeredgecolor=PAPER)
    axes.set_ylim(len(scores) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_title(title)


def _cell(one: GroupScore) -> str:
    """The value with its interval, or in two words why there is none; report.json has the whole reason."""
    if one.value is None:
        return one.note.partition(" patients:")[0]
    return interval(one.value, one.low, one.high) + "*" * _is_blind(one)


def _is_blind(one: GroupScore) -> bool:
    """Whether all films are right or all wrong, and so all resamples: an interval without width."""
    return one.value in (0, 1) and one.low == one.high == one.value


def _bound(one: GroupScore) -> str:
    """The other end of the exact 95 % interval of a share that is 0 or 1; empty of an AUROC, which is none.

    Of n of n the lower end is 0.025 to the power 1/n (Clopper and Pearson, Biometrika 26, 404, 1934).
    """
    if one.metric == "auroc" or not _is_blind(one):
        return ""
    num = one.positives if one.metric == "sensitivity" else one.negatives
    end = ((1 - LEVEL) / 2) ** (1 / num)
    return f"{number(end if one.value else 1 - end, places=2)} of {num:,}"
