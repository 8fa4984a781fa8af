"""What several runs logged under one name, in one panel."""

from collections.abc import Mapping, Sequence
from io import BytesIO

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hilum.report.drawing import LINES, MARKERS, MUTED, SERIES, panels, style

NAMED = 20
"""More runs than this are drawn without a legend, which would be larger than the curves."""
FEW = 15
"""Curves of so many points have a marker on each."""

Points = Sequence[tuple[float, float]]


def overlay(curves: Mapping[str, Mapping[str, Points]]) -> bytes:
    """A PNG with a panel per name, and in it a curve of (step, value) per run."""
    runs = list(dict.fromkeys(run for one in curves.values() for run in one))
    with style():
        columns = min(2, len(curves))
        figure, axes = panels(len(curves), columns=columns, width=5.2 * columns, height=3.2)
        for panel, (name, one) in zip(axes, curves.items(), strict=True):
            for run, points in one.items():
                _draw(panel, points, runs.index(run), run)
            panel.set_title(name)
            panel.set_xlabel("step")
            panel.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        _legend(figure, axes, len(runs))
        return png(figure)


def png(figure: Figure, *, dpi: int = 150) -> bytes:
    """The figure as a PNG; the same figure gives the same bytes."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None}, facecolor="white")
    return buffer.getvalue()


def _draw(panel: Axes, points: Points, place: int, run: str) -> None:
    steps, values = zip(*points, strict=True)
    marker = MARKERS[place % len(MARKERS)] if len(points) <= FEW else ""
    line = LINES[place // len(SERIES) % len(LINES)] if len(points) > 1 else "none"
    panel.plot(
        steps,
        values,
        color=SERIES[place % len(SERIES)],
        linestyle=line,
        marker=marker,
        markersize=3.5,
        linewidth=1.3,
        label=run,
    )


def _legend(figure: Figure, axes: Sequence[Axes], num: int) -> None:
    if num > NAMED:
        figure.suptitle(
            f"{num:,} runs; which is which is in the table", color=MUTED, fontsize=8.5, x=0.99, ha="right"
        )
        return
    known: dict[str, Artist] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            known.setdefault(str(label), handle)
    columns = 2 * min(2, len(axes))
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.2 * -(-len(known) // columns))
    figure.legend(handles=list(known.values()), labels=list(known), loc="outside lower center", ncols=columns)
