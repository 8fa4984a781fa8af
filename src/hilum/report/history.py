"""What a run logged while it trained, as a figure."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.ticker import MaxNLocator

from hilum.report.drawing import SERIES, Drawing, panels, style, to_svg
from hilum.report.words import number

PANELS = 24
CLOCK = frozenset({"step", "epoch", "seconds", "time"})
"""Keys that tell when, and are no curve."""


def training(name: str, rows: Sequence[Mapping[str, object]]) -> Drawing | None:
    """The numbers of metrics.jsonl over the steps, a panel each; None if none was logged at two steps.

    The caption names what was logged at one step only.
    """
    every = _series(rows)
    series = dict([one for one in every.items() if len(one[1]) > 1][:PANELS])
    if not series:
        return None
    once = [key for key, points in every.items() if len(points) == 1]
    columns = min(3, len(series))
    alt = "Training curves: " + "; ".join(
        f"{key} from {number(values[0][1])} to {number(values[-1][1])}" for key, values in series.items()
    )
    with style():
        figure, axes = panels(len(series), columns=columns, width=2.9 * columns, height=2.1)
        for panel, (key, points) in zip(axes, series.items(), strict=True):
            steps, values = zip(*points, strict=True)
            marker = "o" if len(steps) < 15 else ""
            panel.plot(steps, values, color=SERIES[0], marker=marker, markersize=3.5, linewidth=1.3)
            panel.set_title(key)
            panel.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        for panel in axes[-columns:]:
            panel.set_xlabel("step")
        svg = to_svg(figure, name, alt=alt)
    table = []
    for key, points in series.items():
        heights = [value for _, value in points]
        shown = (heights[0], min(heights), max(heights), heights[-1])
        table.append((key, *(number(value) for value in shown)))
    header = ("", "first", "lowest", "highest", "last")
    caption = "What was logged while training."
    if once:
        caption += f" Logged at one step only, and so not drawn: {', '.join(once)}."
    return Drawing(name, svg, alt, caption, header, tuple(table))


def _series(rows: Sequence[Mapping[str, object]]) -> dict[str, list[tuple[float, float]]]:
    """(step, value) of every number, the loss first; of a step logged twice the last."""
    series: dict[str, dict[float, float]] = {}
    for row in rows:
        step = _finite(row.get("step"))
        for key, found in row.items():
            value = _finite(found)
            if step is not None and value is not None and key not in CLOCK:
                series.setdefault(key, {})[step] = value
    ordered = sorted(series, key=lambda key: (key != "loss", "auroc" not in key))
    return {key: list(series[key].items()) for key in ordered}


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
