"""COCO's annotation JSON: images, categories, and boxes as x, y, width, height in pixels.

Lin et al. 2014, https://cocodataset.org/#format-data. Expected below the root: a JSON file or several, and
the images that they name. Where none is named those are read that are there of annotations.json,
annotations/instances_*.json and _annotations.coco.json (in the root or a folder each, as Roboflow writes
them). Of several files each is a split, by the words of its name and folder: instances_val2017.json is val.

COCO says of every image of the file which objects are in it: an image without a box is a negative, and a
category that no box is of is 0 everywhere, which is said. It knows no patients. Boxes are in pixels of an
image of the width and height that the file says; those on a smaller or larger copy of the same shape are
scaled, and it is said. A crowd (iscrowd) is no single box, and is refused.
"""

import logging
import re
from pathlib import Path

import pandas as pd

from hilum.config import Config
from hilum.errors import ConfigError, MissingError
from hilum.find import did_you_mean
from hilum.records.cells import split_of
from hilum.records.defects import Defects, listed
from hilum.records.sources._boxes import Box, on_copy, patients_by, records_of
from hilum.records.sources._coco import read_annotations
from hilum.records.sources._places import files_below
from hilum.records.table import Records


class Settings(Config):
    """Settings of COCO's format."""

    annotations: list[Path] = []
    """The JSON files, from the root; none named: those with usual names. Of several each is a split."""
    images: Path = Path(".")
    """The folder that the names of images start from, from the root."""
    patient: str = ""
    """The key of an image that names its patient; empty: every image counts as a patient of its own."""
    patient_in_name: str = ""
    """A regular expression whose one group finds the patient in an image's path, instead of a key."""


USUAL = (
    "annotations.json",
    "annotations/instances_*.json",
    "_annotations.coco.json",
    "*/_annotations.coco.json",
)

log = logging.getLogger(__name__)


def read(
    root: Path, *, annotations: list[Path], images: Path, patient: str, patient_in_name: str = ""
) -> Records:
    """All images with their boxes, a finding per category.

    Raises:
        MissingError: a file is not there.
        ConfigError: a key and a pattern of patients are given, or the pattern is none.
        RecordsError: the files have defects; all of them are in the message.
    """
    if patient and patient_in_name:
        raise ConfigError("--patient and --patient-in-name: which one names the patients? Give one of them")
    paths = _named(root, annotations) if annotations else _usual(root)
    defects = Defects(root if len(paths) > 1 else paths[0])
    below: dict[str, list[Path]] = {}
    for file in files_below(root / images).values():
        below.setdefault(file.name, []).append(file)
    films: list[tuple[str, str, str]] = []
    boxes: dict[str, list[Box]] = {}
    told = [read_annotations(path, defects) for path in paths]
    other = 0
    for path, one in zip(paths, told, strict=True):
        split = _split_of(path.relative_to(root)) if len(paths) > 1 else ""
        for key, film in one.films.items():
            place = _place(root / images, path, str(film["file_name"]), below, defects)
            if patient and patient not in film:
                near = did_you_mean(patient, film)
                defects.add("images", f"{film['file_name']}: --patient: it has no {patient!r}{near}")
            elif place is not None:
                name = str(place.absolute())
                if name in boxes:
                    defects.add("images", f"{path.name}: {film['file_name']} is in an earlier image too")
                size = film["width"], film["height"]
                boxes[name] = on_copy(one.boxes[key], size, place, defects)
                other += boxes[name] != one.boxes[key]
                films.append(
                    (name, str(film[patient] if patient else place.relative_to(root / images)), split)
                )
    columns = [[film[part] for film in films] for part in range(3)]
    if patient_in_name:
        columns[1] = patients_by(patient_in_name, columns[1], defects)
    defects.check()
    if other:
        log.info("the boxes of %d images that are of another size than the file says were scaled", other)
    unused = set.intersection(*(set(one.unused) for one in told))
    if unused:
        log.info("no box is of %s: 0 on all images", listed(sorted(unused)))
    if not patient:
        log.warning(
            "each of %d images is its own patient; --patient names the key that says whose", len(films)
        )
    findings = sorted({name for one in told for name in one.categories})
    records = records_of(columns[0], columns[1], boxes, findings)
    return Records(records.table.assign(split=pd.Series(columns[2], dtype="str")), records.findings)


def _named(root: Path, annotations: list[Path]) -> list[Path]:
    for path in annotations:
        if not (root / path).is_file():
            raise MissingError(f"{root / path}: no such file; --annotations names it from the root")
    return [root / path for path in annotations]


def _usual(root: Path) -> list[Path]:
    """The files with usual names, in order."""
    paths = sorted({path for pattern in USUAL for path in root.glob(pattern)})
    if not paths:
        there = listed(sorted(str(path.relative_to(root)) for path in root.rglob("*.json")))
        names = f"found {there}: name those that are meant with --annotations" if there else "found no .json"
        raise MissingError(f"{root}: expected one of {', '.join(USUAL)}; {names}")
    log.info("%s: read %s", root, listed(str(path.relative_to(root)) for path in paths))
    return paths


def _split_of(path: Path) -> str:
    """train, val or test where a word of the file's name, or else of its folder's, says so.

    >>> _split_of(Path("annotations/instances_val2017.json")), _split_of(Path("test/_annotations.coco.json"))
    ('val', 'test')
    """
    words = [word for part in (path.stem, path.parent.name) for word in re.findall("[a-z]+", part.lower())]
    return next((split for split in map(split_of, words) if split), "")


def _place(
    folder: Path, annotations: Path, name: str, below: dict[str, list[Path]], defects: Defects
) -> Path | None:
    """The file of an image: from the folder, beside the annotations, or the only one of that name below."""
    inner = name.replace("\\", "/")
    for start in (folder, annotations.parent):
        if (start / inner).is_file():
            return start / inner
    alike = below.get(inner.rpartition("/")[2], [])
    if len(alike) == 1:
        return alike[0]
    found = f"; there are {listed(str(path) for path in alike)}" if alike else ""
    cure = "--images is the folder that names start from"
    defects.add("missing films", f"{folder / inner} is not there{found}; {cure}")
    return None
