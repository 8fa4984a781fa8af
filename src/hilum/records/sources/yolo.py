"""YOLO's folders: images, and beside them a text file each, of lines `class x y width height` from 0 to 1.

The middle of a box and its sides, as shares of the image's width and height; the format of
https://docs.ultralytics.com/datasets/detect/. Expected below the root: images/ and labels/ with the same
sub-folders and names, where train, val and test are splits. An empty text file says that there is nothing;
an image without a text file is a negative or was never looked at, as `missing` says. It knows no patients.
"""

from pathlib import Path
from typing import Literal

from PIL import Image, UnidentifiedImageError

from hilum.config import Config
from hilum.errors import ConfigError, MissingError
from hilum.records.cells import split_of
from hilum.records.defects import Defects, quote
from hilum.records.sources._boxes import Box, from_corner_and_size, records_of
from hilum.records.table import Records


class Settings(Config):
    """Settings of YOLO's format."""

    names: list[str] = []
    """The findings by the number of their class, the first is class 0."""
    missing: Literal["refuse", "negative", "unknown"] = "refuse"
    """What an image without a text file is: an error, a film without boxes, or one that nobody looked at."""


ENDINGS = (".png", ".jpg", ".jpeg")


def read(root: Path, *, names: list[str], missing: str) -> Records:
    """All images with their boxes.

    Raises:
        MissingError: a folder is not there.
        ConfigError: the classes have no names.
        RecordsError: the files have defects; all of them are in the message.
    """
    if not names:
        raise ConfigError("--names is needed: what class 0, 1 and so on are, as in --names Opacity Nodule")
    folder, labels = root / "images", root / "labels"
    for path in (folder, labels):
        if not path.is_dir():
            raise MissingError(f"{path}: no such folder")
    defects = Defects(root)
    boxes: dict[str, list[Box] | None] = {}
    own, splits = [], []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS):
        inner = path.relative_to(folder)
        text = (labels / inner).with_suffix(".txt")
        image = str(path.absolute())
        own.append(str(inner))
        splits.append(split_of(inner.parts[0]) or "" if len(inner.parts) > 1 else "")
        if text.is_file():
            boxes[image] = _boxes(path, text, names, defects)
        else:
            boxes[image] = None if missing == "unknown" else []
            if missing == "refuse":
                cure = "say --missing negative if it has no boxes, --missing unknown if nobody looked"
                defects.add("missing text files", f"{text} is not there; {cure}")
    for text in sorted(labels.rglob("*.txt")):
        stem = str((folder / text.relative_to(labels)).with_suffix("").absolute())
        if not any(stem + ending in boxes for ending in (*ENDINGS, *(e.upper() for e in ENDINGS))):
            defects.add("boxes on no film", f"{text} has no image below {folder}")
    defects.check()
    records = records_of(list(boxes), own, boxes, names)
    return Records(records.table.assign(split=splits), records.findings)


def _boxes(path: Path, text: Path, names: list[str], defects: Defects) -> list[Box]:
    try:
        with Image.open(path) as image:
            width, height = image.size
    except (UnidentifiedImageError, OSError) as error:
        defects.add("unreadable films", f"{path}: {error}")
        return []
    found: list[Box] = []
    for number, line in enumerate(text.read_text(encoding="utf-8").splitlines(), 1):
        cells = line.split()
        if not cells:
            continue
        where = f"{text.name} line {number}"
        try:
            kind, (x, y, w, h) = int(cells[0]), (float(cell) for cell in cells[1:5])
        except ValueError:
            defects.add("lines", f"{where}: found {quote(line)}; expected class x y width height")
            continue
        if not 0 <= kind < len(names):
            defects.add("classes", f"{where}: class {kind}, and --names has {len(names)}")
            continue
        if max(x, y, w, h) > 1.001:
            defects.add("boxes", f"{where}: {quote(line)}: expected shares of the image, from 0 to 1")
            continue
        sides = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
        box = from_corner_and_size(names[kind], sides, (width, height), defects, where=where)
        found += [box] if box else []
    return found
