"""Where a data set lies: the folder that a user named, one above or below it, and the files in it."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from hilum.errors import MissingError
from hilum.progress import Progress
from hilum.records.defects import Defects, listed
from hilum.records.folders import ENDINGS

_DEPTH = 4
"""Levels of folders below a root that a data set is looked for in, as wget makes them of an address."""
_MOST_FOLDERS = 1000
"""Folders that are looked into for that at most; among more, which a data set itself has, none is sought."""


def found(root: Path, *names: str, flag: str = "--root") -> Path:
    """The first of some paths below the root that is there.

    Raises:
        MissingError: none is; the message names all of them, and where they are instead.
    """
    for name in names:
        if (root / name).exists():
            return root / name
    raise MissingError(f"{root}: expected {_either(names)} in it; {_elsewhere(root, names, (), flag)}")


def start_of(root: Path, *names: str, beside: Sequence[str] = (), flag: str = "--root") -> Path:
    """The folder that has one of some files or folders in it: the root, or the only one near below it.

    So that a folder which an archive or a download made around the data set is no hindrance; it is logged.

    Args:
        root: the folder that the user named.
        names: what a folder has one of.
        beside: what it has all of, where names alone are those of other data sets too.
        flag: the setting that named the root.

    Raises:
        MissingError: none has, or several have; the message names them.
    """
    if _has(root, names, beside):
        return root
    near, wanted = _below(root, names, beside), " and ".join([_either(names), *beside])
    if len(near) != 1:
        raise MissingError(f"{root}: expected {wanted} in it; {_elsewhere(root, names, beside, flag)}")
    logging.getLogger(__name__).info("%s is read, since %s has no %s", near[0], root, wanted)
    return near[0]


def files_below(folder: Path, endings: Iterable[str] = ENDINGS) -> dict[str, Path]:
    """The files below a folder, by their path from it; walked once, which is faster than asking for each.

    Folders that are links are followed where they lead out of it, once each. What is hidden, or in the folder
    __MACOSX that archives made on a Mac have, is no file of a data set.

    Raises:
        MissingError: a folder cannot be listed.
    """
    kept, found = tuple(endings), {}
    folders = [("", str(folder))] if folder.is_dir() else []
    real, linked = os.path.realpath(folder), set[str]()
    with Progress("Listing folders", len(folders), unit="folders") as line:
        for done, (start, place) in enumerate(folders, 1):  # which grows: level by level, so that it is known
            try:
                entries = list(os.scandir(place))
            except OSError as error:
                raise MissingError(f"{place}: cannot be listed ({error.strerror})") from None
            for entry in entries:
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    continue
                name = f"{start}{entry.name}"
                if entry.is_dir(follow_symlinks=False) or _leads_out(entry, real, linked):
                    folders.append((f"{name}/", entry.path))
                elif entry.name.lower().endswith(kept):
                    found[name] = Path(entry.path)
            line.total = len(folders)
            line.update(done)
    return found


def by_name(
    files: Mapping[str, Path],
    name_of: Callable[[str], str],
    defects: Defects,
    wanted: Iterable[str] | None = None,
) -> dict[str, Path]:
    """Files by what they are called in a sheet; two of one name become a defect, where it is wanted."""
    asked = None if wanted is None else set(wanted)
    there: dict[str, Path] = {}
    for path, file in files.items():
        name = name_of(path)
        if there.setdefault(name, file) != file and (asked is None or name in asked):
            problem = f"{name} is there twice, as {there[name]} and as {file}; move one away"
            defects.add("films there twice", problem)
    return there


def basename(path: str) -> str:
    """The name of a file without its folders."""
    return path.rpartition("/")[2]


def stem(path: str) -> str:
    """The name of a file without its folders and its ending.

    >>> stem("images/1.2.840.dcm")
    '1.2.840'
    """
    name = basename(path)
    return name.rpartition(".")[0] or name


def _leads_out(entry: os.DirEntry[str], root: str, linked: set[str]) -> bool:
    """Whether an entry is a link to a folder that is neither walked anyway nor was followed before."""
    if not (entry.is_symlink() and entry.is_dir()):
        return False
    real = os.path.realpath(entry.path)
    inside = f"{real}/".startswith(f"{root}/") or f"{root}/".startswith(f"{real}/")
    if inside or real in linked:
        return False
    linked.add(real)
    return True


def _has(folder: Path, names: Sequence[str], beside: Sequence[str]) -> bool:
    return any((folder / name).exists() for name in names) and all(
        (folder / name).exists() for name in beside
    )


def _either(names: Sequence[str]) -> str:
    """Names in a message, of ten or more the first and the last.

    >>> _either(["p10", "p11"]), _either([f"p{number}" for number in range(10, 20)])
    ('p10 or p11', 'one of p10 to p19')
    """
    return " or ".join(names) if len(names) < 10 else f"one of {names[0]} to {names[-1]}"


def _below(root: Path, names: Sequence[str], beside: Sequence[str]) -> list[Path]:
    """The nearest folders below that have one of some files or folders in them, all of the same depth."""
    level, looked_into = [root], 0
    for _ in range(_DEPTH):
        below: list[Path] = []
        for folder in level:
            try:
                with os.scandir(folder) as entries:
                    some = [entry.path for entry in entries if entry.is_dir() and entry.name[0] not in "._"]
            except OSError:
                continue  # it only looks for a better message
            below += map(Path, sorted(some))
            if looked_into + len(below) > _MOST_FOLDERS:
                return []
        looked_into += len(below)
        near = [folder for folder in below if _has(folder, names, beside)]
        if near:
            return near
        level = below
    return []


def _elsewhere(root: Path, names: Sequence[str], beside: Sequence[str], flag: str) -> str:
    """The end of a message about a root without what was expected: where that is, or what to do."""
    near = _below(root, names, beside)
    if len(near) > 1:
        return f"say with {flag} which is meant: {listed(map(str, near))}"
    above = [folder for folder in root.absolute().parents[:3] if _has(folder, names, beside)]
    if near or above:
        return f"it is in {(near or above)[0]}: give that as {flag}"
    packed = sorted(path.name for path in root.glob("*.zip"))
    if packed:
        return f"unpack {listed(packed)} first"
    return f"{flag} is the folder as downloaded"
