"""The picture of an embedding map: a panel per column, told apart by colour and by shape."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from hilum.report.drawing import MARKERS, MUTED, SERIES, Drawing, panels, style, to_svg
from hilum.report.overlay import png
from hilum.report.words import counted

COLOURS = tuple(colour for colour in SERIES if colour != "#000001")
"""Without black, which a page in dark mode could not show where points are an image."""
PALE = "#aeb5bc"
"""Of films whose value is unknown, or one of too many."""
RAMP = "cividis"
"""Rises in lightness too, so that it reads in grey and to the colour-blind."""
VECTORS = 1500
"""More points than this are an image in the SVG."""
LAYERS = 12
"""Films are drawn in so many mixed layers, or the last class would cover all others."""


class Coloured(Protocol):
    """A column as `embedding_map.Colour` has it."""

    @property
    def name(self) -> str: ...  # noqa: D102 - as there
    @property
    def values(self) -> Shaped[np.ndarray, " N"]: ...  # noqa: D102
    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102


def draw_map(
    places: Float[np.ndarray, "N 2"],
    colours: Sequence[Coloured],
    axes: tuple[str, str],
    captions: Sequence[str],
) -> tuple[Drawing, bytes]:
    """The figure for the page, and as a PNG."""
    columns = min(2, len(colours))
    with style():
        figure, parts = panels(len(colours), columns=columns, width=5.0 * columns, height=4.6)
        figure.set_dpi(200)  # of points that are an image
        rows = []
        for panel, colour, caption in zip(parts, colours, captions, strict=True):
            groups = [("unknown", _unknown(colour))]
            groups += _groups(colour) if colour.classes else [("known", ~np.isnan(colour.values))]
            rows += [(colour.name, label, f"{mask.sum():,}") for label, mask in groups if mask.any()]
            if colour.classes:
                _draw_classes(panel, places, groups)
            else:
                _draw_number(figure, panel, places, colour)
            _label(panel, colour.name, caption, axes)
        alt = f"Maps of {counted(len(places), 'films')} coloured by {', '.join(one.name for one in colours)}"
        picture = png(figure)
        drawing = Drawing(
            "fig-map",
            to_svg(figure, "fig-map", alt=alt),
            alt,
            f"Every mark is a film, {len(places):,} in all.",
            ("Column", "Value", "Films"),
            tuple(rows),
        )
    return drawing, picture


def _groups(colour: Coloured) -> list[tuple[str, np.ndarray]]:
    """Films by class; of more classes than there are colours the rarest are one group, and grey."""
    shown = len(COLOURS) if len(colour.classes) <= len(COLOURS) else len(COLOURS) - 1
    groups = [(label, colour.values == code) for code, label in enumerate(colour.classes[:shown])]
    if len(colour.classes) > shown:
        groups.append((f"{len(colour.classes) - shown} others", colour.values >= shown))
    return groups


def _unknown(colour: Coloured) -> np.ndarray:
    found: np.ndarray = colour.values < 0 if colour.classes else np.isnan(colour.values)
    return found


def _draw_classes(
    panel: Axes, places: Float[np.ndarray, "N 2"], groups: Sequence[tuple[str, np.ndarray]]
) -> None:
    layer = np.random.default_rng(0).permutation(len(places)) % LAYERS
    for turn in range(LAYERS):
        for place, (label, mask) in enumerate(groups):
            now = mask & (layer == turn)
            grey = label == "unknown" or place > len(COLOURS)
            _scatter(
                panel,
                places[now],
                len(places),
                color=PALE if grey else COLOURS[place - 1],
                marker="x" if label == "unknown" else MARKERS[place - 1],
                zorder=1 if label == "unknown" else 2 + turn / LAYERS,
            )
    for place, (label, mask) in [*list(enumerate(groups))[1:], (0, groups[0])]:
        if mask.any():
            grey = label == "unknown" or place > len(COLOURS)
            shade = PALE if grey else COLOURS[place - 1]
            marker = "x" if label == "unknown" else MARKERS[place - 1]
            shown = label if len(label) <= 24 else label[:23] + "…"
            panel.plot([], [], marker, color=shade, label=f"{shown} ({mask.sum():,})")
    panel.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.07), ncols=2, handlelength=1, columnspacing=1.2)


def _draw_number(figure: Figure, panel: Axes, places: Float[np.ndarray, "N 2"], colour: Coloured) -> None:
    known = ~np.isnan(colour.values)
    _scatter(panel, places[~known], len(places), color=PALE, marker="x", zorder=1)
    mixed = np.random.default_rng(0).permutation(int(known.sum()))
    # One wrong age would leave all others a single colour.
    low, high = np.quantile(colour.values[known], [0.02, 0.98]).tolist()
    drawn = _scatter(
        panel,
        places[known][mixed],
        len(places),
        c=colour.values[known][mixed],
        cmap=RAMP,
        vmin=low,
        vmax=high,
        marker="o",
        zorder=2,
    )
    bar = figure.colorbar(
        drawn, ax=panel, orientation="horizontal", shrink=0.7, aspect=30, pad=0.03, extend="both"
    )
    bar.set_label(f"{colour.name} (unknown: {int((~known).sum()):,}, grey crosses)")
    bar.outline.set_visible(False)


def _scatter(panel: Axes, places: Float[np.ndarray, "M 2"], num: int, **looks: Any) -> PathCollection:
    size = float(np.clip(9000 / num, 5, 30))
    lines = 0.8 if looks["marker"] == "x" else 0
    many = num > VECTORS
    return panel.scatter(
        places[:, 0],
        places[:, 1],
        s=size,
        linewidths=lines,
        alpha=0.75,
        rasterized=many,
        **looks,
    )


def _label(panel: Axes, name: str, caption: str, axes: tuple[str, str]) -> None:
    panel.set_title(name, pad=19)
    panel.text(0, 1.025, caption, transform=panel.transAxes, fontsize=8.2, color=MUTED)
    panel.set_xlabel(axes[0])
    panel.set_ylabel(axes[1])
    panel.set_aspect("equal", adjustable="datalim")
    panel.tick_params(labelleft=False, labelbottom=False)
