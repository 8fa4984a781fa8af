"""YOLO's folders: images, and a text file for each, of lines `class x y width height` from 0 to 1.

The middle of a box and its sides, as shares of the image's width and height; the format of
https://docs.ultralytics.com/datasets/detect/. Expected below the root: images and text files of the same
names. As Ultralytics has it, the text file of an image lies where `images` in its path is `labels`
(images/train and labels/train, or train/images and train/labels), or else beside the image. A folder called
train, val, valid or test is a split.

A line of more than five numbers is the outline of a finding, and becomes the box around it, counted; one of
six has a score, so it was found by a detector and is refused. An empty text file says that there is nothing;
an image without a text file is a negative or was never looked at, as `missing` says. The format knows no
patients: each image counts as its own, or `patient_in_name` finds whose it is in its path.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hilum.config import Config, read_yaml
from hilum.errors import ConfigError, MissingError
from hilum.records.cells import split_of
from hilum.records.defects import Defects, listed, quote
from hilum.records.sources._boxes import Box, from_corner_and_size, patients_by, records_of, size_of
from hilum.records.sources._more import left_out, plain_text
from hilum.records.sources._places import files_below
from hilum.records.table import Records


class Settings(Config):
    """Settings of YOLO's format."""

    names: list[str] = []
    """The findings by the number of their class, the first is class 0. Default: those of the one .yaml file
    in the root, or a folder below, that has names, or of classes.txt."""
    missing: Literal["refuse", "negative", "unknown"] = "refuse"
    """What an image without a text file is: an error, a film without boxes, or one that nobody looked at."""
    patient_in_name: str = ""
    """A regular expression whose one group finds the patient in an image's path. Default: each image counts
    as a patient of its own."""


ENDINGS = (".png", ".jpg", ".jpeg")
OTHERS = (".bmp", ".tif", ".tiff", ".webp", ".dcm", ".dicom")
"""Images that YOLO's tools read, and this source does not."""
ROUND = 1.001
"""Shares above this are pixels, not rounding."""

log = logging.getLogger(__name__)


def read(root: Path, *, names: list[str], missing: str, patient_in_name: str = "") -> Records:
    """All images with their boxes.

    Raises:
        MissingError: there are no images.
        ConfigError: the classes have no names, or the pattern of patients is none.
        RecordsError: the files have defects; all of them are in the message.
    """
    images = dict(sorted(files_below(root, ENDINGS).items()))
    texts = files_below(root, (".txt",))
    if not images:
        raise MissingError(f"{root}: no image ({', '.join(ENDINGS)}) below it; expected images/ and labels/")
    names = names or _names(root, texts)
    defects = Defects(root)
    boxes: dict[str, list[Box] | None] = {}
    outlines = repeated = 0
    for inner, path in images.items():
        text, image = text_of(inner), str(path.absolute())
        boxes[image] = None if missing == "unknown" else []
        if text in texts:
            lines = [line.split() for line in plain_text(texts[text], defects).splitlines()]
            once = {tuple(cells): number for number, cells in reversed([*enumerate(lines, 1)]) if cells}
            repeated += sum(map(bool, lines)) - len(once)
            outlines += sum(len(cells) > 6 for cells in once)
            boxes[image] = _boxes(path, text, once, names, defects)
        elif missing == "refuse":
            cure = "say --missing negative if it has no boxes, --missing unknown if nobody looked"
            defects.add("missing text files", f"{text} is not there; {cure}")
    own = patients_by(patient_in_name, list(images), defects) if patient_in_name else list(images)
    strays = set(texts) - {text_of(inner) for inner in images}
    for text in sorted(strays):
        if _is_of_boxes(text, plain_text(texts[text], defects)):
            defects.add("boxes on no film", f"{text} has no image of its name")
            strays.remove(text)
    defects.check()
    left_out(log, strays, "no text files of boxes")
    left_out(log, files_below(root, OTHERS), f"images of other kinds than {', '.join(ENDINGS)}")
    if outlines:
        log.info("%d outlines became the boxes around them", outlines)
    if repeated:
        log.info("%d lines were there twice in their file, and count once", repeated)
    if not patient_in_name:
        cure = "--patient-in-name finds whose in the path"
        log.warning("the format names no patients: each of %d images is its own; %s", len(images), cure)
    records = records_of(list(boxes), own, boxes, names)
    splits = [next(filter(None, map(split_of, inner.split("/")[:-1])), "") for inner in images]
    return Records(records.table.assign(split=splits), records.findings)


def text_of(image: str) -> str:
    """Where the text file of an image lies, as Ultralytics looks for it.

    >>> text_of("images/train/a.png"), text_of("train/images/a.b.png"), text_of("a.png")
    ('labels/train/a.txt', 'train/labels/a.b.txt', 'a.txt')
    """
    *folders, name = image.split("/")
    if "images" in folders:
        folders[len(folders) - 1 - folders[::-1].index("images")] = "labels"
    return "/".join([*folders, f"{name.rpartition('.')[0]}.txt"])


def _names(root: Path, texts: Mapping[str, Path]) -> list[str]:
    """The names of the classes, as the data set's own file has them."""
    told: dict[str, list[str]] = {}
    for path in sorted({*root.glob("*.y*ml"), *root.glob("*/*.y*ml")}):
        names = read_yaml(path).get("names")
        if isinstance(names, dict) and set(names) == set(range(len(names))):
            names = [names[number] for number in range(len(names))]
        if isinstance(names, list) and names:
            told[str(path.relative_to(root))] = [str(name) for name in names]
    for name in ("classes.txt", "labels/classes.txt") if not told else ():
        if name in texts:
            lines = texts[name].read_text(encoding="utf-8-sig", errors="replace").splitlines()
            told[name] = [line.strip() for line in lines if line.strip()]
    if len(told) == 1:
        [(name, names)] = told.items()
        log.info("%s: the classes are %s", name, listed(names))
        return names
    found = f" ({' and '.join(told)} say what they are)" if told else ""
    raise ConfigError(
        f"--names is needed{found}: what class 0, 1 and so on are, as in --names Opacity Nodule; or a "
        ".yaml file in the root with names in it"
    )


def _is_of_boxes(name: str, content: str) -> bool:
    """Whether a text file holds lines of boxes, or nothing, and lies among those that do."""
    lines = [line.split() for line in content.splitlines() if line.strip()]
    if not lines:
        return "labels" in name.split("/")[:-1]
    return all(len(cells) > 4 and _shares(cells) is not None for cells in lines)


def _shares(cells: Sequence[str]) -> NDArray[np.float64] | None:
    """The numbers of a line; None if they are none."""
    try:
        return np.array(cells, np.float64)
    except ValueError:
        return None


def _boxes(
    path: Path, text: str, lines: Mapping[tuple[str, ...], int], names: list[str], defects: Defects
) -> list[Box]:
    """The boxes of an image by its lines and their numbers."""
    size = size_of(path, defects)
    found: list[Box] = []
    for cells, number in sorted(lines.items(), key=lambda one: one[1]):
        where, line = f"{text} line {number}", quote(" ".join(cells))
        shares = _shares(cells)
        if shares is None or len(cells) < 5 or shares[0] != int(shares[0] if np.isfinite(shares[0]) else -1):
            defects.add("lines", f"{where}: found {line}; expected class x y width height")
        elif len(cells) == 6:
            problem = "six numbers are a box with a detector's score, and no truth; expected five"
            defects.add("lines", f"{where}: found {line}; {problem}")
        elif len(cells) > 5 and len(cells) % 2 == 0:
            defects.add("lines", f"{where}: found {line}; expected class x y x y ... as an outline has it")
        elif not 0 <= shares[0] < len(names):
            defects.add("classes", f"{where}: class {int(shares[0])}, and there are {len(names)} names")
        elif (shares[1:] > ROUND).any():
            defects.add("boxes", f"{where}: {line}: expected shares of the image, from 0 to 1")
        elif size is not None:
            corner = _corner(shares[1:], size)
            box = from_corner_and_size(names[int(shares[0])], corner, size, defects, where=where)
            found += [box] if box else []
    return found


def _corner(shares: NDArray[np.float64], size: tuple[int, int]) -> list[float]:
    """Upper left corner, width and height in pixels, of a box or of what surrounds an outline."""
    if len(shares) == 4:
        x, y, w, h = shares.tolist()
        x, y = x - w / 2, y - h / 2
    else:
        points = shares.reshape(-1, 2)
        (x, y), (w, h) = points.min(axis=0).tolist(), np.ptp(points, axis=0).tolist()
    return [x * size[0], y * size[1], w * size[0], h * size[1]]
