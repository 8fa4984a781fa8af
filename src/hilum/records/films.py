"""Radiographs without a table: one file, or a flat folder, where neither patients nor labels are needed."""

import logging
import os
from pathlib import Path

import pandas as pd

from hilum.records.folders import ENDINGS

_PNG, _JPEG, _DICOM = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"DICM"


def is_film(path: Path) -> bool:
    """Whether a file is an image by its content (a DICOM file often has no ending), or is named like one."""
    if not path.is_file():
        return False
    if path.name.lower().endswith(ENDINGS):
        return True
    try:
        with path.open("rb") as stream:
            head = stream.read(132)
    except OSError:
        return False
    return head.startswith((_PNG, _JPEG)) or head[128:] == _DICOM


def films_in(folder: Path) -> list[str]:
    """The images that lie in a folder itself, by name; none where its sub-folders hold images too."""
    found, others = [], 0
    for place, folders, names in os.walk(folder):
        if place == str(folder):
            found = [name for name in sorted(names) if name[0] != "." and is_film(folder / name)]
            others = len(names) - len(found)
            folders[:] = [name for name in folders if name[0] != "."]
        elif any(name.lower().endswith(ENDINGS) for name in names):
            return []
    if found and others:
        _log().info("%s: %d files are no images and are not used", folder, others)
    return found


def film_table(folder: Path, names: list[str]) -> pd.DataFrame:
    """The table of these files of a folder, each its own patient and in no split."""
    _log().warning("no patients are known: each of %d radiographs counts as a patient of its own", len(names))
    columns = {
        "image": [f"{folder}/{name}" for name in names],
        "patient": names,
        "split": [""] * len(names),
    }
    return pd.DataFrame({part: pd.Series(cells, dtype="str") for part, cells in columns.items()})


def _log() -> logging.Logger:
    return logging.getLogger(__name__)
