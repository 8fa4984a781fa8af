"""COCO's annotation JSON, https://cocodataset.org/#format-data: what several sources read of it."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hilum.errors import RecordsError
from hilum.records.defects import Defects, listed, quote
from hilum.records.sources._boxes import Box, from_corner_and_size

_KEYS = {"images": ("id", "file_name", "width", "height"), "categories": ("id", "name"), "annotations": ()}


@dataclass(frozen=True)
class Annotations:
    """The images of a file by their ids, its categories, and the boxes of each image."""

    films: dict[Any, dict[str, Any]]
    categories: list[str]
    boxes: dict[Any, list[Box]]

    @property
    def unused(self) -> list[str]:
        """Categories that no box is of."""
        there = {box[0] for some in self.boxes.values() for box in some}
        return sorted(set(self.categories) - there)


def read_annotations(path: Path, defects: Defects) -> Annotations:
    """Images, categories and boxes; COCO's x, y, width and height become corners, in the image's pixels.

    Raises:
        RecordsError: it is no JSON, or has not the three lists.
    """
    content = _content(path)
    categories = {one["id"]: str(one["name"]) for one in _sound(path, content, "categories", defects)}
    films: dict[Any, dict[str, Any]] = {}
    for one in _sound(path, content, "images", defects):
        if one["id"] in films:
            defects.add("images", f"{path.name}: id {one['id']!r} is there twice")
        elif not (_is_side(one["width"]) and _is_side(one["height"])):
            sides = f"width {one['width']!r} and height {one['height']!r}"
            defects.add("images", f"{path.name}: {one['file_name']}: {sides}; expected pixels")
        else:
            films[one["id"]] = one
    boxes: dict[Any, list[Box]] = {key: [] for key in films}
    for one in _sound(path, content, "annotations", defects):
        where = f"{path.name}: annotation {one.get('id')!r}"
        key, kind, corner = (one.get(name) for name in ("image_id", "category_id", "bbox"))
        if not isinstance(key, int | str) or key not in films:
            defects.add("boxes on no film", f"{where} is on image {key!r}, which the file lacks")
        elif not isinstance(kind, int | str) or kind not in categories:
            defects.add("categories", f"{where} is of category {kind!r}, which the file lacks")
        elif not isinstance(corner, list) or len(corner) != 4 or not all(map(_is_number, corner)):
            defects.add("boxes", f"{where} has no bbox of four numbers")
        elif one.get("iscrowd") not in (None, 0):
            problem = "is a crowd, which is no single box: give each object its own, or remove it"
            defects.add("crowds", f"{where} {problem}")
        else:
            size = int(films[key]["width"]), int(films[key]["height"])
            box = from_corner_and_size(categories[kind], corner, size, defects, where=where)
            boxes[key] += [box] if box else []
    return Annotations(films, sorted(set(categories.values())), boxes)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise RecordsError(f"{path}: is no JSON ({error})") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in _KEYS):
        raise RecordsError(f"{path}: expected the lists images, categories and annotations, as COCO has them")
    return content


def _sound(path: Path, content: dict[str, Any], part: str, defects: Defects) -> list[dict[str, Any]]:
    """The items of a list that have its keys; others become defects."""
    keys: Sequence[str] = _KEYS[part]
    sound = []
    for one in content[part]:
        if not isinstance(one, dict) or not set(keys) <= set(one):
            problem = (
                f"{quote(str(one))} of {part} lacks one of {listed(keys)}" if keys else f"{quote(str(one))}"
            )
            defects.add(part, f"{path.name}: {problem}")
        elif keys and not isinstance(one["id"], int | str):
            defects.add(part, f"{path.name}: {quote(str(one))} of {part}: an id is a number or text")
        else:
            sound.append(one)
    return sound


def _is_number(side: object) -> bool:
    return isinstance(side, int | float) and not isinstance(side, bool)


def _is_side(side: object) -> bool:
    return isinstance(side, int | float) and not isinstance(side, bool) and math.isfinite(side) and side >= 1
