"""The boxes of VinDr's sheets: those that enough readers drew, in pixels of the film's file."""

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from hilum.records.defects import Defects, quote
from hilum.records.sources._boxes import Box, by_place, size_of
from hilum.records.sources._tables import sheet

NONE = "No finding"
SIDES = ["x_min", "y_min", "x_max", "y_max"]

log = logging.getLogger(__name__)


def agreed_boxes(
    marks: pd.DataFrame,
    positive: pd.DataFrame,
    needed: pd.Series,
    overlap: float,
    defects: Defects,
) -> dict[str, list[Box]]:
    """The boxes of every film that has any: one per place, of findings whose label is 1."""
    marks = marks[marks["class_name"] != NONE]  # a reader's row of a film without any, and no box
    corners = np.column_stack(
        [pd.to_numeric(marks[side], errors="coerce").to_numpy(np.float64) for side in SIDES]
    )
    empty = (marks[SIDES].apply(lambda cells: cells.str.strip()) == "").all(axis=1).to_numpy()
    known = (marks["image_id"].isin(positive.index) & marks["class_name"].isin(positive.columns)).to_numpy()
    sound = (
        (corners[:, 2] > corners[:, 0])
        & (corners[:, 3] > corners[:, 1])
        & (corners[:, :2] >= -0.5).all(axis=1)
    )
    for kind, bad, expected in (
        ("boxes on no film", ~known, "the labels have no such film or finding"),
        ("boxes", known & ~empty & ~sound, "expected x_min < x_max and y_min < y_max, from 0 on"),
    ):
        at = np.flatnonzero(bad)
        shown = [(int(marks["line"].iloc[row]), _told(marks.iloc[row], expected)) for row in at[:20].tolist()]
        defects.add_many(kind, shown, len(at))
    use = np.flatnonzero(known & ~empty & sound)
    groups: dict[tuple[str, str], list[int]] = {}
    names, kinds = marks["image_id"].to_numpy(object), marks["class_name"].to_numpy(object)
    for row in use.tolist():
        groups.setdefault((names[row], kinds[row]), []).append(row)
    readers = marks["rad_id"].to_numpy(object)
    boxes: dict[str, list[Box]] = {}
    dropped = unsure = 0
    said = {(name, kind) for kind in positive for name in positive.index[positive[kind]]}
    for (name, kind), rows in groups.items():
        if (name, kind) not in said:
            dropped += len(rows)
            continue
        places = by_place(corners[rows], [readers[row] for row in rows], overlap)
        agreed = [box for box, count in places if count >= needed[name]]
        unsure += not agreed
        for x1, y1, x2, y2 in agreed or [box for box, _ in places]:
            boxes.setdefault(name, []).append((kind, x1, y1, x2, y2))
    if dropped:
        log.info("%d of %d boxes are left out: too few readers see the finding", dropped, len(use))
    if unsure:
        log.info("on %d films readers agree on a finding and not where it is: all boxes of it stay", unsure)
    return boxes


def _told(mark: pd.Series, expected: str) -> str:
    sides = ", ".join(mark[side] for side in SIDES)
    return f"{mark['file']}: {mark['image_id']}: {quote(mark['class_name'])} at {sides}: {expected}"


def in_files(table: pd.DataFrame, sizes: Path | None, defects: Defects) -> list[str]:
    """Boxes in pixels of the file: of a DICOM as they are, of other files by the size of the original."""
    originals: dict[str, tuple[float, float]] = {}
    if sizes is not None:
        rows = sheet(sizes, ["image_id", "dim0", "dim1"], defects)
        sides = rows[["dim1", "dim0"]].apply(pd.to_numeric, errors="coerce")
        for line in rows["line"][~(sides > 0).all(axis=1)]:
            defects.add("sizes", f"{sizes.name}: dim0 or dim1 is no number above 0", line=int(line))
        rows, sides = rows[(sides > 0).all(axis=1)], sides[(sides > 0).all(axis=1)]
        originals = dict(zip(rows["image_id"], zip(sides["dim1"], sides["dim0"], strict=True), strict=True))
    cells: list[str] = []
    for image, name, cell, line in zip(
        table["image"], table["patient"], table["boxes"], table["line"], strict=True
    ):
        if cell == "[]" or not image or image.endswith((".dicom", ".dcm")):
            cells.append(cell)
            continue
        size = size_of(Path(image), defects)
        if sizes is not None and name not in originals:
            problem = f"{name} is not in --sizes, so its boxes cannot be scaled"
            defects.add("films without a size", problem, line=int(line))
        if size is None or (sizes is not None and name not in originals):
            cells.append("")
            continue
        original = originals.get(name, size)
        across, down = size[0] / original[0], size[1] / original[1]
        boxes = [
            [kind, x1 * across, y1 * down, x2 * across, y2 * down]
            for kind, x1, y1, x2, y2 in json.loads(cell)
        ]
        if any(x2 > size[0] + 1 or y2 > size[1] + 1 for *_, x2, y2 in boxes):
            cure = "boxes are of the original DICOM; --sizes names the table of the originals' sizes"
            problem = f"{name}: a box reaches beyond the {size[0]} x {size[1]} pixels of the film; {cure}"
            defects.add("boxes beyond the film", problem, line=int(line))
        cells.append(json.dumps(boxes))
    return cells
