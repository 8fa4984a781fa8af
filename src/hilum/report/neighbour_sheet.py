"""A contact sheet: films, and beside each those nearest to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hilum.durable import write_atomically
from hilum.records.writing import write_csv
from hilum.report.drawing import INK, MUTED, SERIES, style
from hilum.report.overlay import png
from hilum.report.words import base_name

WIDTH, CAPTION = 1.5, 0.62
"""Inches of a film, and of the lines under it."""
LETTERS = 24
"""A longer line would run into that of the next film."""
OWN = SERIES[1]


@dataclass(frozen=True)
class Film:
    """A film of the sheet; `distance` is 1 - cosine, from 0 to 2, and None of a film that is asked about."""

    image: str
    patient: str
    pixels: UInt8[np.ndarray, "h w"]
    cells: dict[str, str]
    distance: float | None = None
    is_own: bool = False
    """Whether it shows the patient of the film that is asked about."""


@dataclass(frozen=True)
class Neighbourhood:
    """A film with those nearest to it, the nearest first."""

    query: Film
    nearest: Sequence[Film]


def write_sheet(found: Sequence[Neighbourhood], folder: Path) -> None:
    """Writes neighbours.png and neighbours.csv into a folder."""
    write_atomically(folder / "neighbours.png", _sheet(found))
    write_csv(table(found), folder / "neighbours.csv")


def table(found: Sequence[Neighbourhood]) -> pd.DataFrame:
    """A row per neighbour: the film asked about, rank, image, patient, distance, own patient, cells."""
    rows = [
        {
            "query": one.query.image,
            "rank": rank,
            "image": film.image,
            "patient": film.patient,
            "distance": film.distance,
            "own_patient": int(film.is_own),
        }
        | film.cells
        for one in found
        for rank, film in enumerate(one.nearest, 1)
    ]
    return pd.DataFrame(rows)


def _sheet(found: Sequence[Neighbourhood]) -> bytes:
    columns = 1 + max(len(one.nearest) for one in found)
    lines = max(len(_lines(film)) for one in found for film in (one.query, *one.nearest))
    height = WIDTH + 0.16 * lines + 0.12
    with style():
        figure = Figure(figsize=(WIDTH * columns + 0.3, height * len(found) + 0.1))
        for row, one in enumerate(found):
            for column, film in enumerate((one.query, *one.nearest)):
                left = 0.1 + column * WIDTH + (0.2 if column else 0)
                bottom = 0.05 + (len(found) - 1 - row) * height + 0.16 * lines + 0.07
                size = WIDTH - 0.08
                width, total = figure.get_size_inches()
                panel = figure.add_axes((left / width, bottom / total, size / width, size / total))
                _draw(panel, film, is_query=column == 0)
        return png(figure)


def _draw(panel: Axes, film: Film, *, is_query: bool) -> None:
    panel.imshow(film.pixels, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    panel.set_xticks([])
    panel.set_yticks([])
    panel.set_anchor("S")
    framed = is_query or film.is_own
    for spine in panel.spines.values():
        spine.set_visible(framed)
        spine.set_edgecolor(INK if is_query else OWN)
        spine.set_linewidth(2)
    for place, line in enumerate(_lines(film)):
        panel.annotate(
            line if len(line) <= LETTERS else line[: LETTERS - 1] + "…",
            (0, 0),
            xytext=(0, -10 - 11 * place),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=7,
            color=INK if place == 0 else MUTED,
            weight="bold" if place == 0 else "normal",
        )


def _lines(film: Film) -> list[str]:
    first = "asked about" if film.distance is None else f"{film.distance:.3g}"
    first += ", own patient" if film.is_own else ""
    told = [f"{name} {cell or 'unknown'}" for name, cell in film.cells.items()]
    return [first, base_name(film.image), *told]
