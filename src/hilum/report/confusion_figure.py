"""The table of labels and decisions as a figure."""

import textwrap

import numpy as np

from hilum.report.drawing import GRID, INK, SERIES, Drawing, panels, style, to_svg
from hilum.report.report import Confusion
from hilum.report.words import counted, percent


def confusion_matrix(name: str, confusion: Confusion) -> Drawing:
    """Counts, shaded by the share of each true label."""
    counts = np.array(confusion.counts, dtype=float)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labels, num = confusion.labels, len(confusion.labels)
    alt = "Confusion matrix: " + "; ".join(
        f"{counted(int(counts[i, j]), 'radiographs')} of {labels[i]} called {labels[j]}"
        for i in range(num)
        for j in range(num)
    )
    with style():
        figure, (axes,) = panels(1, columns=1, width=min(8.6, 2.6 + 0.8 * num), height=1.1 + 0.55 * num)
        for i in range(num):
            for j in range(num):
                axes.fill_between([j, j + 1], i, i + 1, color=SERIES[0], alpha=0.6 * share[i, j], linewidth=0)
                axes.text(j + 0.5, i + 0.40, f"{int(counts[i, j]):,}", ha="center", va="center", fontsize=10)
                axes.text(
                    j + 0.5, i + 0.74, percent(round(share[i, j], 2)), ha="center", va="center", fontsize=7.5
                )
        axes.set(xlim=(0, num), ylim=(num, 0), xlabel="decision", ylabel="label")
        short = ["\n".join(textwrap.wrap(label, 11, max_lines=3, placeholder="…")) for label in labels]
        steep = num > 8
        axes.set_xticks(np.arange(num) + 0.5, short, rotation=90 if steep else 0)
        axes.set_yticks(np.arange(num) + 0.5, short)
        axes.tick_params(labelcolor=INK)
        axes.grid(visible=False)
        for edge in range(num + 1):
            axes.axhline(edge, color=GRID, linewidth=0.8)
            axes.axvline(edge, color=GRID, linewidth=0.8)
        for spine in axes.spines.values():
            spine.set_visible(False)
        svg = to_svg(figure, name, alt=alt)
    rows = tuple((labels[i], *(f"{int(c):,}" for c in counts[i])) for i in range(num))
    caption = "Radiographs by label (row) and decision (column); shade and percentage are of the row."
    return Drawing(name, svg, alt, caption, ("label \\ decision", *labels), rows)
