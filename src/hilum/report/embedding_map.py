"""Embeddings as a map: a panel per column of the table, and beside each what its picture is worth."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from pydantic import JsonValue

from hilum.durable import write_atomically
from hilum.metrics.neighbours import Told
from hilum.records.writing import write_csv
from hilum.report.drawing import enumeration
from hilum.report.map_figure import draw_map
from hilum.report.provenance import tables
from hilum.report.render import render
from hilum.report.words import interval, number, percent

SEVERAL = 10
"""A column of more different numbers than this is a number, and no name of a group."""


@dataclass(frozen=True)
class Colour:
    """A column: its text by film, and its class of `classes` (-1 unknown) or number (NaN unknown)."""

    name: str
    cells: tuple[str, ...]
    values: Shaped[np.ndarray, " N"]
    classes: tuple[str, ...]


def colour_of(name: str, cells: Sequence[str], *, is_finding: bool) -> Colour:
    """What the cells of a column are; the commonest class is the first."""
    if is_finding and set(cells) <= {"0", "1", ""}:
        codes = np.array([{"0": 0, "1": 1}.get(cell, -1) for cell in cells], np.int64)
        return Colour(name, tuple(cells), codes, ("absent", "present"))
    counts = Counter(cell for cell in cells if cell)
    numbers = [_number(cell) for cell in counts]
    if len(counts) > SEVERAL and not np.isnan(numbers).any():
        return Colour(name, tuple(cells), np.array([_number(cell) for cell in cells]), ())
    classes = tuple(sorted(counts, key=lambda cell: (-counts[cell], cell)))
    place = {cell: code for code, cell in enumerate(classes)}
    return Colour(name, tuple(cells), np.array([place.get(cell, -1) for cell in cells], np.int64), classes)


@dataclass(frozen=True)
class Map:
    """Films in two dimensions with what is known of them.

    `explained` are the shares of variance along the axes, None where the axes mean nothing. `told` says for
    each colour how well nearest films tell it in all dimensions.
    """

    title: str
    images: tuple[str, ...]
    patients: tuple[str, ...]
    places: Float[np.ndarray, "N 2"]
    explained: tuple[float, float] | None
    dimensions: int
    colours: tuple[Colour, ...]
    told: Mapping[str, Told]
    notes: tuple[str, ...]
    provenance: Mapping[str, JsonValue]

    def write(self, folder: Path) -> None:
        """Writes map.png, map.html, map.csv and map.json into a folder."""
        drawing, picture = draw_map(self.places, self.colours, self.axes, self.captions)
        page = render(
            "embedding_map.html",
            title=self.title,
            map=self,
            drawing=replace(drawing, alt=f"{drawing.alt}. {self.headline}"),
            provenance=tables(self.provenance),
        )
        write_atomically(folder / "map.png", picture)
        write_csv(self.table(), folder / "map.csv")
        content = {
            "images": len(self.images),
            "patients": len(set(self.patients)),
            "dimensions": self.dimensions,
            "explained": self.explained,
            "told": {name: asdict(one) for name, one in self.told.items()},
            "notes": self.notes,
            "provenance": self.provenance,
        }
        write_atomically(folder / "map.json", (json.dumps(content, indent=1, default=str) + "\n").encode())
        write_atomically(folder / "map.html", page.encode())

    def table(self) -> pd.DataFrame:
        """A row per film: image, patient, x, y, and the colours as the records have them."""
        x, y = (np.round(axis, 6) for axis in self.places.T)
        start = {"image": self.images, "patient": self.patients, "x": x, "y": y}
        return pd.DataFrame(start | {one.name: one.cells for one in self.colours if one.name not in start})

    @property
    def axes(self) -> tuple[str, str]:
        """The axes' names, with the variance that each explains."""
        if self.explained is None:
            return "UMAP 1", "UMAP 2"
        first, second = (
            f"component {i + 1} ({percent(share)} of variance)" for i, share in enumerate(self.explained)
        )
        return first, second

    @property
    def captions(self) -> list[str]:
        """Beside each colour how well nearest films tell it."""
        return [caption(self.told[one.name]) for one in self.colours]

    @property
    def headline(self) -> str:
        """The columns that embeddings tell, the furthest above chance first."""
        clear = sorted(
            (one.value - one.chance, name)
            for name, one in self.told.items()
            if one.is_told and one.value is not None and one.chance is not None
        )[::-1]
        if not clear:
            return "Nearest films tell none of these columns better than chance."
        best = self.told[clear[0][1]]
        beside = f" ({best.metric} {number(best.value)}, chance {number(best.chance)})"
        said = [name + beside * (place == 0) for place, (_, name) in enumerate(clear)]
        return f"Nearest films tell {enumeration(said)} better than chance."

    def rows(self) -> list[tuple[str, Told, str]]:
        """Each column, its numbers, and what they say in words."""
        return [(one.name, self.told[one.name], _words(self.told[one.name])) for one in self.colours]


def _words(told: Told) -> str:
    if told.value is None:
        return f"cannot be asked: {told.note}"
    verdict = "told better than chance" if told.is_told else "not told better than chance"
    return f"{verdict}; {told.note}" if told.note else verdict


def caption(told: Told) -> str:
    """The number of a column with its interval, beside chance.

    >>> caption(Told("AUROC", 90, 40, 0.971, 0.95, 0.99, 0.5, 0.41, 0.58))
    'AUROC 0.971 (0.950 to 0.990), chance 0.500'
    """
    if told.value is None:
        return f"n/a: {told.note}"
    return f"{told.metric} {interval(told.value, told.low, told.high)}, chance {number(told.chance)}"


def _number(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        return float("nan")
    return value if np.isfinite(value) else float("nan")
