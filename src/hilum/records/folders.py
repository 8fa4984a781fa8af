"""Radiographs from a folder with one sub-folder per class."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hilum.errors import RecordsError
from hilum.find import did_you_mean
from hilum.records.cells import split_of
from hilum.records.defects import Defects, listed

ENDINGS = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")


@dataclass
class _Found:
    image: str
    split: str
    finding: str


def read_folders(
    folder: Path, findings: Sequence[str], defects: Defects
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table and the findings of `folder/class/*` or of `folder/train/class/*` and so on.

    A radiograph is 1 for its own class and 0 for the others. A folder names no patients, so every file counts
    as a patient of its own, which is said.

    Raises:
        RecordsError: there are no radiographs in sub-folders.
    """
    found: list[_Found] = []
    others = 0
    splits = {name: split_of(name) for name in _folders(folder)}
    by_split = any(splits.values()) and any(
        _folders(folder / name) for name, split in splits.items() if split
    )
    for top in sorted(splits) if by_split else [""]:
        split = splits[top] if by_split else ""
        if split is None:
            defects.add("folders", f"{folder / top} is neither train, val nor test; move or rename it")
            continue
        for name in _folders(folder / top):
            images, rest = _images(folder / top / name)
            others += rest
            found += [_Found(image, split, name) for image in images]
            if not images:
                defects.add("folders", f"{folder / top / name} holds no image; fill it or delete it")
        others += _refuse_loose(folder / top, defects)
    if not found:
        raise RecordsError(
            f"{folder}: no sub-folder with radiographs ({', '.join(ENDINGS)}); "
            "expected one sub-folder per class, or the path of a CSV file"
        )
    if others:
        _log().info("%s: %d files are no images and are not used", folder, others)
    _log().warning(
        "%s: a folder names no patients, so each of %d files is its own patient", folder, len(found)
    )
    return _table(folder, found, findings, defects)


def _table(
    folder: Path, found: list[_Found], findings: Sequence[str], defects: Defects
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    classes = sorted({one.finding for one in found})
    for name in findings:
        if name not in classes:
            near = did_you_mean(name, classes) or f"; classes are {listed(classes)}"
            defects.add("settings", f"--findings {name}: there is no class {name!r}{near}")
    kept = tuple(name for name in findings if name in classes) if findings else tuple(classes)
    root = f"{folder}/"
    table = pd.DataFrame(
        {
            "image": [one.image for one in found],
            "patient": [one.image.removeprefix(root) for one in found],
            "split": [one.split for one in found],
        }
    )
    own = np.array([one.finding for one in found])
    labels = pd.DataFrame({name: (own == name).astype(np.float32) for name in kept}, index=table.index)
    return pd.concat([table, labels], axis=1), kept


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _images(folder: Path) -> tuple[list[str], int]:
    images, others = [], 0
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(ENDINGS) and not name.startswith("."):
                images.append(f"{place}/{name}")
            else:
                others += 1
    return images, others


def _refuse_loose(folder: Path, defects: Defects) -> int:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_file())
    for name in names:
        if name.lower().endswith(ENDINGS):
            defects.add("folders", f"{folder / name} lies beside the classes; move it into one of them")
    return sum(not name.lower().endswith(ENDINGS) for name in names)


def _log() -> logging.Logger:
    return logging.getLogger(__name__)
