"""COCO's annotation JSON: images, categories, and boxes as x, y, width, height in pixels.

Lin et al. 2014, https://cocodataset.org/#format-data. Expected below the root: the JSON file and the images
that it names. COCO says of every image of the file which objects are in it: an image without a box is a
negative. It knows no patients.
"""

import json
from pathlib import Path
from typing import Any

from hilum.config import Config
from hilum.errors import MissingError, RecordsError
from hilum.find import did_you_mean
from hilum.records.defects import Defects, quote
from hilum.records.sources._boxes import Box, from_corner_and_size, records_of
from hilum.records.table import Records


class Settings(Config):
    """Settings of COCO's format."""

    annotations: Path = Path("annotations.json")
    """The JSON file, from the root."""
    images: Path = Path(".")
    """The folder that the names of images start from, from the root."""
    patient: str = ""
    """The key of an image that names its patient; empty: every image counts as a patient of its own."""


def read(root: Path, *, annotations: Path, images: Path, patient: str) -> Records:
    """All images with their boxes, a finding per category.

    Raises:
        MissingError: the file is not there.
        RecordsError: the file has defects; all of them are in the message.
    """
    path, folder = root / annotations, root / images
    if not path.is_file():
        raise MissingError(f"{path}: no such file; --annotations names it from the root")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise RecordsError(f"{path}: is no JSON ({error})") from None
    parts = [
        content.get(name) if isinstance(content, dict) else None
        for name in ("images", "categories", "annotations")
    ]
    if not all(isinstance(part, list) for part in parts):
        raise RecordsError(f"{path}: expected the lists images, categories and annotations, as COCO has them")
    listed, categories, marks = parts
    defects = Defects(path)
    names = {one["id"]: str(one["name"]) for one in categories or [] if {"id", "name"} <= set(one)}
    films: dict[Any, dict[str, Any]] = {}
    for one in listed or []:
        if not {"id", "file_name", "width", "height"} <= set(one):
            defects.add("images", f"{quote(str(one))} lacks id, file_name, width or height")
        elif one["id"] in films:
            defects.add("images", f"id {one['id']!r} is there twice")
        elif patient and patient not in one:
            near = did_you_mean(patient, one)
            defects.add("images", f"{one['file_name']}: --patient: it has no {patient!r}{near}")
        else:
            films[one["id"]] = one
            if not (folder / one["file_name"]).is_file():
                defects.add("missing films", f"{folder / one['file_name']} is not there")
    boxes: dict[Any, list[Box]] = {key: [] for key in films}
    for one in marks or []:
        film, finding = films.get(one.get("image_id")), names.get(one.get("category_id"))
        where = f"annotation {one.get('id')!r}"
        if film is None:
            defects.add(
                "boxes on no film", f"{where} is on image {one.get('image_id')!r}, which the file lacks"
            )
        elif finding is None:
            defects.add(
                "categories", f"{where} is of category {one.get('category_id')!r}, which the file lacks"
            )
        elif not isinstance(one.get("bbox"), list) or len(one["bbox"]) != 4:
            defects.add("boxes", f"{where} has no bbox of four numbers")
        else:
            size = int(film["width"]), int(film["height"])
            box = from_corner_and_size(finding, one["bbox"], size, defects, where=where)
            boxes[film["id"]] += [box] if box else []
    defects.check()
    paths = {key: str((folder / film["file_name"]).absolute()) for key, film in films.items()}
    return records_of(
        list(paths.values()),
        [str(film[patient]) if patient else str(film["file_name"]) for film in films.values()],
        {paths[key]: found for key, found in boxes.items()},
        sorted(set(names.values())),
    )
