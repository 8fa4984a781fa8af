"""What the sources of boxes share: one list of all that is wrong with them, and the table."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from hilum.records.defects import Defects
from hilum.records.table import Records

Box = tuple[str, float, float, float, float]
"""Finding, x1, y1, x2, y2, pixels."""


def from_corner_and_size(
    finding: str,
    sides: Sequence[float],
    size: tuple[int, int],
    defects: Defects,
    *,
    where: str,
    line: int = 0,
) -> Box | None:
    """A box given by its upper left corner, width and height; None, and a defect, if it cannot be one.

    `size` is the film's width and height. A box may reach beyond the film by half a pixel, which is rounding,
    and is cut there.
    """
    x, y, w, h = sides
    problem = ""
    if not all(np.isfinite(sides)):
        problem = "a side is no number"
    elif w <= 0 or h <= 0:
        problem = f"width {w:g} and height {h:g}; both must be above 0"
    elif x < -0.5 or y < -0.5 or x + w > size[0] + 0.5 or y + h > size[1] + 0.5:
        problem = f"reaches beyond the {size[0]} x {size[1]} pixels of the film"
        if w > x and h > y and w <= size[0] + 0.5 and h <= size[1] + 0.5:
            problem += "; as x1, y1, x2, y2 it would fit: expected x, y, width, height"
    if problem:
        defects.add("boxes", f"{where}: {', '.join(f'{side:g}' for side in sides)}: {problem}", line=line)
        return None
    low = max(x, 0.0), max(y, 0.0)
    return finding, *low, min(x + w, float(size[0])), min(y + h, float(size[1]))


def records_of(
    images: Sequence[str],
    patients: Sequence[str],
    boxes: Mapping[str, Sequence[Box] | None],
    findings: Sequence[str],
    **columns: Sequence[str],
) -> Records:
    """A row per film. A film's boxes are None where nobody looked at it: its labels are unknown then."""
    cells, labels = [], np.full((len(images), len(findings)), np.nan, np.float32)
    for row, image in enumerate(images):
        found = boxes.get(image)
        cells.append("" if found is None else json.dumps([list(box) for box in found]))
        if found is not None:
            there = {box[0] for box in found}
            labels[row] = [name in there for name in findings]
    table = pd.DataFrame(
        {"image": images, "patient": patients, "split": "", "boxes": cells, **columns}, dtype="str"
    )
    return Records(pd.concat([table, pd.DataFrame(labels, columns=list(findings))], axis=1), tuple(findings))
