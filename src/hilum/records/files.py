"""Which image files are not there, and what was probably meant."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

_FEW = 4
"""Files of a folder up to which asking for each is quicker than listing the folder."""
_MANY = 20_000
"""Names in a folder beyond which only the same name in other letters is looked for."""


def missing(images: Sequence[str]) -> list[int]:
    """The places of paths where there is no file, in order; every folder is listed only once."""
    lost: list[int] = []
    for folder, places in _by_folder(images).items():
        if len(places) <= _FEW:
            lost.extend(place for place in places if not os.path.isfile(images[place]))
        else:
            names = _names(folder)
            begin = len(folder) + 1
            lost.extend(place for place in places if images[place][begin:] not in names)
    return sorted(lost)


def meant(image: str) -> str:
    """The end of a message about a missing file: what was probably meant, or what is wrong with the path."""
    folder, _, name = image.rpartition("/")
    if "\\" in name:
        return "; write / between folders, not \\"
    names = _names(folder)
    if not names:
        return "; its folder is empty or not there; where paths start from is set with --root"
    for other in names:
        if other.lower() == name.lower():
            return f"; there is {other!r}, in other letters"
    stem = name.rpartition(".")[0] or name
    ending = [other for other in names if other.rpartition(".")[0] == stem]
    near = ending or (difflib.get_close_matches(name, names, n=1, cutoff=0.8) if len(names) < _MANY else [])
    return f"; did you mean {near[0]!r}?" if near else "; correct the path, or leave the row out"


def cures(images: Sequence[str], *, most: int) -> dict[int, str]:
    """What to do about every path where there is no file, by place; the first `most` are looked for."""
    lost = missing(images)
    usual = dict.fromkeys(lost, "correct the path, or leave the row out")
    return usual | {place: meant(images[place]).removeprefix("; ") for place in lost[:most]}


def probable_root(path: str, root: Path) -> Path | None:
    """Another folder from which a relative path leads to a file: a parent's, or one beside the table."""
    places = [*root.parents[:3], *sorted(_folders(root))]
    return next((place for place in places if (place / path).is_file()), None)


def _by_folder(images: Sequence[str]) -> dict[str, list[int]]:
    folders: dict[str, list[int]] = {}
    for place, image in enumerate(images):
        folders.setdefault(image[: image.rfind("/")], []).append(place)
    return folders


def _names(folder: str) -> set[str]:
    try:
        with os.scandir(folder or "/") as entries:
            return {entry.name for entry in entries}
    except OSError:
        return set()


def _folders(root: Path) -> list[Path]:
    try:
        with os.scandir(root) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir()]
    except OSError:
        return []
