"""Single cells that have a meaning: splits, ages and boxes."""

import json
import logging
import math
import re
from collections.abc import Callable

SPLITS = ("train", "val", "test")
_SPLITS = {
    "": "", "train": "train", "training": "train", "val": "val", "valid": "val", "validate": "val",
    "validation": "val", "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip
_YEARS = {"Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}
"""What the units of a DICOM age are divided by."""
_OLDEST = 130


def split_of(cell: str) -> str | None:
    """train, val, test, or empty; None for what is none of them.

    >>> split_of("Validate"), split_of("fold1")
    ('val', None)
    """
    return _SPLITS.get(cell.strip().lower())


def age_of(cell: str) -> str | None:
    """Age in years from a number or a DICOM age, as text; None for what is neither.

    >>> age_of("58"), age_of("058Y"), age_of("006M"), age_of("411")
    ('58', '58', '0.5', None)
    """
    cell = cell.strip()
    if not cell:
        return ""
    dicom = re.fullmatch(r"(\d{3})([DWMY])", cell)
    try:
        years = float(dicom[1]) / _YEARS[dicom[2]] if dicom else float(cell)
    except ValueError:
        return None
    return f"{years:.4g}" if 0 <= years <= _OLDEST else None


def ages(cells: list[str]) -> list[str]:
    """Ages in years; what is none is unknown, counted and said."""
    known: dict[str, str | None] = {cell: age_of(cell) for cell in set(cells)}
    lost = sum(known[cell] is None for cell in cells)
    if lost:
        example = next(cell for cell in cells if known[cell] is None)
        log = logging.getLogger(__name__)
        log.warning(
            "%d ages are not in 0 to %d years, such as %r; they count as unknown", lost, _OLDEST, example
        )
    return [known[cell] or "" for cell in cells]


def box_problem(cell: str) -> str:
    """What is wrong with a cell of boxes; empty if nothing is.

    >>> box_problem('[["Nodule", 10, 20, 30, 40]]')
    ''
    """
    expected = 'expected a JSON list such as [["Nodule", 10, 20, 30, 40]] with x1, y1, x2, y2 in pixels'
    try:
        boxes = json.loads(cell, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return expected
    if not isinstance(boxes, list):
        return expected
    return next((problem for problem in map(_one_box_problem, boxes) if problem), "")


def places_where(cells: list[str], test: Callable[[str], bool]) -> list[int]:
    """The places of the cells that pass a test, which sees each distinct cell once."""
    passing = {cell for cell in set(cells) if test(cell)}
    return [place for place, cell in enumerate(cells) if cell in passing] if passing else []


def _one_box_problem(box: object) -> str:
    if not isinstance(box, list) or len(box) != 5 or not isinstance(box[0], str) or not box[0]:
        return f"{box!r} is no box; a box is [finding, x1, y1, x2, y2]"
    if not all(
        isinstance(side, int | float) and not isinstance(side, bool) and math.isfinite(side)
        for side in box[1:]
    ):
        return f"{box!r} has sides that are no numbers"
    x1, y1, x2, y2 = box[1:]
    if x1 < 0 or y1 < 0:
        return f"{box!r} begins outside the image"
    if x2 <= x1 or y2 <= y1:
        return f"{box!r} has no area; x2 and y2 are the far corner, not width and height"
    return ""


def _refuse(constant: str) -> float:
    raise ValueError(constant)
