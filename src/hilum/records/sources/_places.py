"""Where the files of a data set lie, however its archives were unpacked."""

import logging
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from hilum.errors import MissingError
from hilum.records.defects import Defects, listed
from hilum.records.folders import ENDINGS
from hilum.records.sources._tables import files_below

DEEP = 3
"""How many folders below the root are looked into: an archive has its own, and wget those of an address."""
_MANY = 100
"""Sub-folders of a folder beyond which it holds films or exams, and not parts of a data set."""

log = logging.getLogger(__name__)


def home(root: Path, *names: str) -> Path:
    """The folder that holds one of some paths: the root, or the only one of the folders below that does.

    Raises:
        MissingError: none does, or several do; the message says what was found, and which root to give.
    """
    if _holds(root, names):
        return root
    level = [root]
    for _ in range(DEEP):
        level = [inner for folder in level for inner in _folders(folder)]
        there = [folder for folder in level if _holds(folder, names)]
        if len(there) == 1:
            log.info("%s: the data set is in %s", root, there[0].relative_to(root))
            return there[0]
        if there:
            places = listed(str(folder.relative_to(root)) for folder in there)
            raise MissingError(f"{root}: {' or '.join(names)} is in {places}; give one of them as --root")
    expected = f"{root}: expected {' or '.join(names)} in it or in a folder below"
    above = next((folder for folder in root.absolute().parents[:DEEP] if _holds(folder, names)), None)
    if above:
        raise MissingError(f"{expected}; that is in {above}: give --root {above}")
    inside = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    found = f"found {listed(inside)}" if inside else "found nothing"
    raise MissingError(f"{expected}, {found}; the root is the folder as downloaded, its archives unpacked")


def by_name(
    folder: Path, wanted: Collection[str], defects: Defects, *, endings: Iterable[str] = ENDINGS, stem: bool
) -> dict[str, Path]:
    """All films below a folder by their name, without its ending where `stem`.

    A wanted film that is there twice becomes a defect: which of the two is meant, nothing says.
    """
    asked = set(wanted)
    films: dict[str, Path] = {}
    for path in files_below(folder, endings).values():
        name = path.stem if stem else path.name
        if name in films and name in asked:
            both = f"{films[name].relative_to(folder)} and {path.relative_to(folder)}"
            defects.add("films that are there twice", f"{name} is there twice: {both}; move one away")
        films[name] = path
    return films


def _holds(folder: Path, names: Iterable[str]) -> bool:
    return any((folder / name).exists() for name in names)


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder; none where there are so many that they are exams."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        inner = sorted(entry.path for entry in entries if entry.is_dir() and entry.name[0] not in "._")
    return [Path(path) for path in inner] if len(inner) <= _MANY else []
