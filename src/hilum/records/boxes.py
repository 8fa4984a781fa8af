"""Where findings are on a radiograph, and which radiographs were looked at for them."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from hilum.errors import RecordsError
from hilum.find import did_you_mean
from hilum.records.defects import Defects, quote
from hilum.records.table import Records


def boxes_of(records: Records, finding: str) -> list[Float[np.ndarray, "_ 4"]]:
    """The boxes of a finding on every film: x1 y1 x2 y2, pixels of its file."""
    named = [[box[1:] for box in boxes if box[0] == finding] for boxes in _cells(records)]
    return [np.array(found, np.float64).reshape(-1, 4) for found in named]


def boxed_findings(records: Records) -> list[str]:
    """What the boxes of a table are of."""
    return sorted({str(box[0]) for boxes in _cells(records) for box in boxes})


def asked(records: Records, findings: Sequence[str]) -> Bool[np.ndarray, " N"]:
    """Whether it is known of each film where every one of the findings is: it has a box of it, or has it not.

    A film without a box of a finding is a negative where its label is 0, or, in a table without such labels,
    where its cell of boxes is a list: an empty cell was never asked about. A film whose label is 1 and that
    has no box is no negative (`unplaced`).
    """
    rows = [_boxed(records, finding) | _without(records, finding) for finding in findings]
    known: NDArray[np.bool_] = np.logical_and.reduce(rows)
    return known


def unplaced(records: Records, findings: Sequence[str]) -> Bool[np.ndarray, " N"]:
    """Whether each film is known to show one of the findings, and no box says where.

    So are most positive films of ChestX-ray14, where 880 of 112,120 films have boxes.
    """
    shown = [
        ~_boxed(records, finding) & (records.table[finding] == 1).to_numpy()
        for finding in findings
        if finding in records.findings
    ]
    somewhere: NDArray[np.bool_] = np.logical_or.reduce([np.zeros(len(records), bool), *shown])
    return somewhere


def require_boxes(records: Records, finding: str, *, where: str) -> None:
    """Refuses records without a box of the finding.

    Raises:
        RecordsError: there is none; the message names what boxes there are.
    """
    if any(map(len, boxes_of(records, finding))):
        return
    others = boxed_findings(records)
    found = "there is no column boxes" if "boxes" not in records.table else "no cell of boxes names it"
    if others:
        found += f" (they name {', '.join(others[:8])}){did_you_mean(finding, others)}"
    raise RecordsError(
        f"{where}: no film has a box of {finding!r}: {found}{'' if found.endswith('?') else '.'} "
        "Boxes are a column boxes with "
        '[["Nodule", 10, 20, 30, 40]], x1, y1, x2, y2 in pixels of the file'
    )


def refuse_contradictions(
    records: Records,
    findings: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    *,
    path: Path,
    gate: Collection[str] = (),
    boxed: Collection[str] = (),
    told: Mapping[str, str] | None = None,
) -> None:
    """Refuses boxes beyond their films, and boxes that a label or the class of the film contradicts.

    Args:
        records: the films.
        findings: whose boxes are looked at.
        sizes: height and width of every film.
        path: of the table, for the message.
        gate: classes that films with boxes are of; none: any may.
        boxed: classes of which every film has a box, and no film of another; none: any may.
        told: the class of each film, by image, where it is known.

    Raises:
        RecordsError: there is any; the message lists them.
    """
    defects = Defects(path)
    for finding in findings:
        labels = records.table[finding] if finding in records.findings else [np.nan] * len(records)
        for image, boxes, label, (height, width) in zip(
            records.table["image"], boxes_of(records, finding), labels, sizes, strict=True
        ):
            where = f"{Path(image).name}: {finding}"
            for x1, y1, x2, y2 in boxes[(boxes[:, 2] > width + 0.5) | (boxes[:, 3] > height + 0.5)].tolist():
                corners = f"{x1:g}, {y1:g}, {x2:g}, {y2:g}"
                problem = f"{where}: {corners} reaches beyond the {width} x {height} pixels of the film"
                defects.add("boxes beyond the film", problem)
            num = f"{len(boxes)} box{'es' * (len(boxes) > 1)}"
            if len(boxes) and label == 0:
                defects.add("boxes against the label", f"{where}: {num}, but its label is 0")
            own = (told or {}).get(image, "")
            if len(boxes) and gate and own and own not in gate:
                problem = f"{where}: {num}, but the film is {quote(own)}, which --gate leaves out"
                defects.add("boxes against the class", problem)
    if boxed:
        has = set(np.concatenate([np.flatnonzero(_boxed(records, finding)) for finding in findings]).tolist())
        for row, image in enumerate(records.table["image"]):
            some = row in has
            own = (told or {}).get(image, "")
            if own and some != (own in boxed):
                problem = "a box, but --boxed-classes leaves it out" if some else "no box"
                where = f"{Path(image).name}: is {quote(own)}"
                defects.add("boxes against the class", f"{where} and has {problem}")
    defects.check()


def scaling(source: tuple[int, int], size: tuple[int, ...]) -> Float[np.ndarray, "4"]:
    """What boxes of the source are multiplied by to be boxes of a picture of that height and width."""
    factors: NDArray[np.float64] = np.tile([size[1] / source[1], size[0] / source[0]], 2)
    return factors


def _cells(records: Records) -> list[list[list[Any]]]:
    cells = records.table["boxes"] if "boxes" in records.table else [""] * len(records)
    return [json.loads(cell) if isinstance(cell, str) and cell.strip() else [] for cell in cells]


def _boxed(records: Records, finding: str) -> NDArray[np.bool_]:
    return np.array([len(boxes) > 0 for boxes in boxes_of(records, finding)], bool)


def _without(records: Records, finding: str) -> NDArray[np.bool_]:
    """Whether each film is known not to show it."""
    if finding in records.findings:
        return (records.table[finding] == 0).to_numpy(bool)
    cells = records.table["boxes"] if "boxes" in records.table else [""] * len(records)
    return np.array([isinstance(cell, str) and bool(cell.strip()) for cell in cells], bool)
