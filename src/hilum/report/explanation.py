"""The page of a method's maps: films under their colours, and what the maps score where there are boxes."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from pydantic import JsonValue

from hilum.durable import write_atomically
from hilum.metrics.bootstrap import Estimate
from hilum.report.provenance import tables
from hilum.report.render import render

SIDE = 320
"""Longer side of a picture, pixels."""
BUDGET = 5_500_000
"""Characters of pictures in a page: it stays below 8 MB."""


@dataclass(frozen=True)
class ShownFilm:
    """A film on the page."""

    name: str
    picture: UInt8[np.ndarray, "_ _ 3"]
    """Red, green and blue."""
    probability: float
    label: str
    """What is known of the finding: present, absent or unknown."""
    overlay: str
    """The file of the whole picture, relative to the page."""


@dataclass(frozen=True)
class ScoreTable:
    """Metrics in rows, what is scored in columns; the first column is the method."""

    names: Sequence[str]
    estimates: Mapping[str, Mapping[str, Estimate]]
    differences: Mapping[str, Mapping[str, Estimate]]
    remarks: Sequence[str]


def write_explanation_page(
    path: Path,
    *,
    finding: str,
    method: str,
    caption: str,
    films: Sequence[ShownFilm],
    bar: UInt8[np.ndarray, "_ _ 3"],
    scores: ScoreTable | None,
    sanity: Sequence[Mapping[str, JsonValue]],
    provenance: Mapping[str, JsonValue],
) -> None:
    """Writes the page.

    `caption` says what was drawn; `bar` shows the colours from low to high; `sanity` has a row for each stage
    of random weights (stage, spearman, ssim, pairs, flat).
    """
    shown, dropped = _pictures(films)
    page = render(
        "explanation.html",
        finding=finding,
        method=method,
        caption=caption,
        films=films,
        pictures=shown,
        dropped=dropped,
        bar=_encoded(bar, ".png"),
        scores=scores,
        sanity=sanity,
        provenance=tables(provenance),
    )
    write_atomically(path, page.encode())


def _pictures(films: Sequence[ShownFilm]) -> tuple[list[str], int]:
    """Base64 of a JPEG per film, empty for those beyond the budget, and how many these are."""
    made: list[str] = []
    left = BUDGET
    for film in films:
        height, width = film.picture.shape[:2]
        scale = min(1.0, SIDE / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(film.picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        text = _encoded(small, ".jpg")
        made.append(text if len(text) <= left else "")
        left -= len(made[-1])
    return made, made.count("")


def _encoded(picture: UInt8[np.ndarray, "_ _ 3"], kind: str) -> str:
    written, content = cv2.imencode(kind, np.ascontiguousarray(picture[:, :, ::-1]))
    assert written
    return base64.b64encode(content.tobytes()).decode("ascii")
