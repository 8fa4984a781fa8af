"""One look for every figure, and SVG that stands inside a page: text is text, colours follow the page."""

import html
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1f2328", "#5b646e", "#d9dee3", "#fffffe"

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000001", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, those that stand out on white first. https://jfly.uni-koeln.de/color/"""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
HATCHES = ("", "//", "..", "\\\\", "xx", "--", "++")

_NAMES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    PAPER: "paper",
    **{c: f"s{i + 1}" for i, c in enumerate(SERIES)},
}

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hilum",
    "text.parse_math": False,  # a finding may be called "$x$"
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # bundled with matplotlib and wide: the page's own font always fits
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 3.0,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "hatch.linewidth": 0.4,
}


@dataclass(frozen=True)
class Drawing:
    """A figure: its SVG, what it shows in words, and its numbers as a table (`header`, then `rows`)."""

    name: str
    svg: str
    alt: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@contextmanager
def style() -> Iterator[None]:
    """Inside, figures are drawn in the look of hilum's reports."""
    with matplotlib.rc_context(_STYLE):
        yield


def panels(count: int, *, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of `count` axes in rows of at most `columns`; sizes in inches, height of one row."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    return figure, axes


def to_svg(figure: Figure, name: str, *, alt: str) -> str:
    """The figure as an SVG element whose ids begin with `name` and whose colours are the page's variables.

    The same figure gives the same bytes.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = buffer.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(
        r' id="(?:figure|axes|patch|text|legend|line2d|[xy]tick|\w+Collection|matplotlib\.axis)_\d+"',
        "",
        body,
    )
    body = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", body).replace("xlink:href", "href")
    body = re.sub(r" ?font-family: [^;\"]*;?", "", body)
    body = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), body)
    body = re.sub(r"\s*\n\s*", " ", body)
    for colour, variable in _NAMES.items():
        body = body.replace(colour, f"var(--{variable},{colour})")
    width, height = (72 * inches for inches in figure.get_size_inches())
    return (
        f'<svg role="img" aria-label="{html.escape(alt)}" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width * 4 / 3:.0f}" height="{height * 4 / 3:.0f}">{body}'
    )


def enumeration(parts: Sequence[str]) -> str:
    """The parts as one enumeration."""
    return ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1] if parts else "nothing"
