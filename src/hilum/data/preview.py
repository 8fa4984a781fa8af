"""A contact sheet of exactly what training sees."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hilum.data.loader import order
from hilum.data.views import ViewRecipe, draw_batch, matrices
from hilum.errors import OutputError
from hilum.images.spec import InputSpec
from hilum.images.store import Store
from hilum.images.warp import warp_boxes
from hilum.records.table import Records

_GAP = 6
_CAPTION = 18
_PAPER = 255
_Colour = NDArray[np.uint8]


def contact_sheet(
    store: Store,
    records: Records,
    recipe: ViewRecipe,
    path: Path,
    *,
    count: int = 8,
    seed: int = 0,
    spec: InputSpec | None = None,
    epochs: int = 2,
) -> None:
    """Writes one PNG: a row per radiograph, the stored film and then its views in the first epochs.

    The radiographs are the first `count` that a run of this seed meets, and the views those that it gets, to
    the bit. Boxes of the records are drawn where they are carried.

    Args:
        store: the films.
        records: which of them.
        recipe: the views.
        path: where the PNG goes.
        count: radiographs.
        seed: of the run.
        spec: size and fit of the views, in place of the recipe's.
        epochs: how many epochs of views.

    Raises:
        OutputError: the file cannot be written.
        RecordsError: a radiograph is not in the store.
    """
    recipe = recipe.at(spec) if spec else recipe
    rows = order(seed, 0, len(records))[:count]
    images = [records.table["image"].iloc[row] for row in rows.tolist()]
    films = store.rows(images)
    pixels = [store[film] for film in films.tolist()]
    sizes = np.array([film.shape for film in pixels]).reshape(-1, 2)
    boxes = [
        _stored_boxes(records, row, sizes[place], store.source_size(int(films[place])))
        for place, row in enumerate(rows.tolist())
    ]
    columns = [[_cell(film, recipe.side, found) for film, found in zip(pixels, boxes, strict=True)]]
    titles = [[f"{Path(image).stem} {h}x{w}" for image, (h, w) in zip(images, sizes.tolist(), strict=True)]]
    for epoch in range(epochs):
        drawn = draw_batch(recipe, pixels, rows=rows, epochs=epoch, seed=seed)
        warps = matrices(recipe, sizes, rows=rows, epochs=epoch, seed=seed)
        for view, (batch, warp) in enumerate(zip(drawn, warps, strict=True)):
            side = recipe.sides[view]
            moved = [warp_boxes(found, one, side) for found, one in zip(boxes, warp, strict=True)]
            columns.append([_cell(one, side, found) for one, found in zip(batch, moved, strict=True)])
            titles.append([f"epoch {epoch} view {view}"] * len(rows))
    _write(path, _sheet(columns, titles))


def _stored_boxes(
    records: Records, row: int, size: NDArray[np.int64], source: tuple[int, int]
) -> NDArray[np.float64]:
    """The boxes of a radiograph in pixels of its stored film."""
    text = records.table["boxes"].iloc[row] if "boxes" in records.table else ""
    found = [box[1:] for box in json.loads(text)] if isinstance(text, str) and text else []
    scale = size[[1, 0, 1, 0]] / np.array(source)[[1, 0, 1, 0]]
    boxes: NDArray[np.float64] = np.array(found, np.float64).reshape(-1, 4) * scale
    return boxes


def _cell(film: NDArray[np.uint8], side: int, boxes: NDArray[np.float64]) -> _Colour:
    """A film in a square of the view's size, its boxes drawn."""
    height, width = film.shape
    scale = side / max(height, width)
    if scale != 1:
        target = max(1, round(width * scale)), max(1, round(height * scale))
        film = cv2.resize(film, target, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    cell = np.full((side, side, 3), _PAPER, np.uint8)
    cell[: film.shape[0], : film.shape[1]] = film[..., None]
    for x1, y1, x2, y2 in np.rint(boxes * scale).astype(int).tolist():
        if x2 > x1 and y2 > y1:
            cv2.rectangle(cell, (x1, y1), (x2 - 1, y2 - 1), (64, 200, 255), 1)
    return cell


def _sheet(columns: Sequence[Sequence[_Colour]], titles: Sequence[Sequence[str]]) -> _Colour:
    """Columns as wide as their views are, rows as high as the largest."""
    sides = [len(cells[0]) for cells in columns]
    step_y = max(sides) + _CAPTION + _GAP
    shape = len(columns[0]) * step_y + _GAP, sum(sides) + (len(sides) + 1) * _GAP, 3
    sheet = np.full(shape, _PAPER, np.uint8)
    x = _GAP
    for side, cells, names in zip(sides, columns, titles, strict=True):
        scale = min(0.4, side / 420)
        for row, (cell, name) in enumerate(zip(cells, names, strict=True)):
            y = _GAP + row * step_y
            sheet[y : y + side, x : x + side] = cell
            fits = name[: max(1, int(side / (20 * scale)))]
            place = (x, y + side + _CAPTION - 5)
            cv2.putText(sheet, fits, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (60, 60, 60), 1, cv2.LINE_AA)
        x += side + _GAP
    return sheet


def _write(path: Path, sheet: _Colour) -> None:
    good, encoded = cv2.imencode(".png", sheet)
    assert good
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise OutputError(f"{path}: the contact sheet cannot be written ({error.strerror})") from None
