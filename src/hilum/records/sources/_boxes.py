"""What the sources of boxes share: one list of all that is wrong with them, and the table."""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from PIL import ExifTags, Image, UnidentifiedImageError

from hilum.errors import ConfigError
from hilum.records.defects import Defects
from hilum.records.table import Records

Box = tuple[str, float, float, float, float]
"""Finding, x1, y1, x2, y2, pixels."""

log = logging.getLogger(__name__)


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
        if min(x, y) >= 0 and w > x and h > y and w <= size[0] + 0.5 and h <= size[1] + 0.5:
            problem += "; as x1, y1, x2, y2 it would fit: expected x, y, width, height"
    if problem:
        defects.add("boxes", f"{where}: {', '.join(f'{side:g}' for side in sides)}: {problem}", line=line)
        return None
    x1, y1, x2, y2 = max(x, 0.0), max(y, 0.0), min(x + w, float(size[0])), min(y + h, float(size[1]))
    if x1 >= x2 or y1 >= y2:
        defects.add("boxes", f"{where}: {x:g}, {y:g}, {w:g}, {h:g}: lies beyond the film", line=line)
        return None
    return finding, x1, y1, x2, y2


def in_files(
    boxes: Mapping[str, Sequence[Box]], films: Mapping[str, Path], side: int, defects: Defects
) -> dict[str, list[Box]]:
    """Boxes of published films, squares of `side` pixels, in pixels of the files that there are of them.

    A DICOM file is taken to be as it was published. A square PNG or JPEG is the same film, made smaller or
    larger, and its boxes with it, which is counted and logged. One that cannot be read, or is no square,
    becomes a defect; a film without a file is left as it is.
    """
    found: dict[str, list[Box]] = {}
    other = 0
    for name, some in boxes.items():
        film = films.get(name)
        size = size_of(film, defects) if some and film and not is_dicom(film) else None
        width, height = size or (side, side)
        if width != height:
            problem = f"{film} is of {width} x {height} pixels; boxes are of films of {side} x {side}"
            defects.add("cut films", problem)
        found[name] = [scaled(box, width / side, height / side) for box in some]
        other += (width, height) != (side, side)
    if other:
        log.info("the boxes of %d films that are not of %d pixels were scaled to them", other, side)
    return found


def on_copy(boxes: Sequence[Box], size: tuple[float, float], film: Path, defects: Defects) -> list[Box]:
    """Boxes of a film of some width and height, in pixels of a file that may be a smaller or larger copy.

    A DICOM file is taken to be the film itself. A file that cannot be read, or of another shape, becomes a
    defect.
    """
    found = size_of(film, defects) if boxes and not is_dicom(film) else None
    if found is None:
        return list(boxes)
    across, down = found[0] / size[0], found[1] / size[1]
    if abs(across - down) * max(size) > 2:  # beyond what rounding the sides of the copy makes
        has = f"{film} is of {found[0]} x {found[1]} pixels"
        defects.add("cut films", f"{has}; its boxes are of {size[0]:g} x {size[1]:g}")
    return [scaled(box, across, down) for box in boxes]


def scaled(box: Box, across: float, down: float) -> Box:
    """A box on a film that was made wider and higher."""
    kind, x1, y1, x2, y2 = box
    return kind, x1 * across, y1 * down, x2 * across, y2 * down


def is_dicom(film: Path) -> bool:
    """Whether a file is DICOM by its ending."""
    return film.suffix.lower() in (".dcm", ".dicom")


def patients_by(pattern: str, images: Sequence[str], defects: Defects) -> list[str]:
    r"""The patient of each image, the group of a pattern in its path; one without a match becomes a defect.

    Raises:
        ConfigError: the pattern is none, or has not one group.

    >>> patients_by(r"(\d+)_\d+[.]png", ["train/013_002.png"], Defects(Path("films")))
    ['013']
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--patient-in-name {pattern}: is no regular expression ({error})") from None
    if compiled.groups != 1:
        example = r"'(\d+)_\d+\.png' finds 013 in train/013_002.png"
        found = f"it has {compiled.groups} groups"
        raise ConfigError(f"--patient-in-name {pattern}: {found}; expected one, as {example}")
    matched = [compiled.search(image) for image in images]
    for image, one in zip(images, matched, strict=True):
        if one is None or not one[1]:
            defects.add("patients", f"{image}: --patient-in-name {pattern} finds no patient in it")
    return [(one[1] or "") if one else "" for one in matched]


def size_of(film: Path, defects: Defects) -> tuple[int, int] | None:
    """Width and height of a PNG or JPEG; None, and a defect, if it cannot be read.

    A JPEG is turned as its EXIF orientation says, as it is when it is decoded.
    """
    try:
        with Image.open(film) as image:
            lying = image.format == "JPEG" and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            width, height = image.size
            return (height, width) if lying else (width, height)
    except (UnidentifiedImageError, OSError) as error:
        defects.add("unreadable films", f"{film}: {error}")
        return None


def by_place(
    corners: Float[np.ndarray, "N 4"], readers: Sequence[str], overlap: float
) -> list[tuple[tuple[float, float, float, float], int]]:
    """Boxes of a finding on one film, one per place: the mean of those there, and how many readers they have.

    A box is of the first place whose mean it overlaps by that intersection over union.

    >>> boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 12], [50, 50, 60, 60]], float)
    >>> by_place(boxes, ["R1", "R2", "R1"], 0.5)
    [((0.0, 0.0, 10.0, 11.0), 2), ((50.0, 50.0, 60.0, 60.0), 1)]
    """
    places: list[list[int]] = []
    for row, corner in enumerate(corners):
        for place in places:
            if _shared(corner, corners[place].mean(axis=0)) >= overlap:
                place.append(row)
                break
        else:
            places.append([row])
    found = []
    for place in places:
        x1, y1, x2, y2 = np.maximum(corners[place].mean(axis=0), 0).tolist()
        found.append(((x1, y1, x2, y2), len({readers[row] for row in place})))
    return found


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


def _shared(one: Float[np.ndarray, "4"], other: Float[np.ndarray, "4"]) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    both = float(np.prod(np.maximum(sides, 0)))
    return both / float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - both)
