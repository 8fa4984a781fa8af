"""ChestMNIST and PneumoniaMNIST of MedMNIST v2: small films in arrays, which become PNG files once.

Yang et al. 2023, https://doi.org/10.1038/s41597-022-01721-8. CC BY 4.0 by its own list. Expected below the
root, as downloaded: chestmnist.npz or pneumoniamnist.npz (28 pixels), or with _64, _128 or _224 behind the
name; in it train_images, train_labels and the same of val and test.

ChestMNIST is ChestX-ray14 with its 14 mined labels, of which a film without any has 0 in all;
PneumoniaMNIST is the paediatric set of Kermany et al. 2018 with 0 normal and 1 pneumonia. The official
split goes to the column split. Of films of 28 pixels each pixel is written as a square of four, since the
least side that is read as a film is 32.

The files name no patients, so each film counts as one, and it cannot be checked that no patient is in two
splits; PneumoniaMNIST's validation was drawn from the training films by film. Never pretrain on
ChestX-ray14, the RSNA challenge or SIIM-ACR and test on ChestMNIST: they share films.
"""

import logging
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.config import Config
from hilum.errors import MissingError, OutputError, RecordsError
from hilum.progress import Progress
from hilum.records.defects import listed
from hilum.records.sources._places import start_of
from hilum.records.sources._tables import records_of
from hilum.records.table import Records


class Settings(Config):
    """Settings of MedMNIST's two sets of chest films."""

    films: Path
    """The folder that the films are written into as PNG; it may only hold films of an earlier reading."""
    name: Literal["chestmnist", "pneumoniamnist"] = "chestmnist"
    """Which set."""
    size: Literal[28, 64, 128, 224] = 28
    """Side of its films, pixels."""


FINDINGS = {
    "chestmnist": (
        "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
        "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
    ),
    "pneumoniamnist": ("Pneumonia",),
}  # fmt: skip
"""The columns of the labels, in order; ChestX-ray14's names."""
DATASETS = {"chestmnist": "ChestMNIST", "pneumoniamnist": "PneumoniaMNIST"}
SPLITS = ("train", "val", "test")
LEAST_SIDE = 32
MOST_FILMS = 1_000_000

log = logging.getLogger(__name__)


def read(root: Path, *, films: Path, name: str, size: int) -> Records:
    """The films of all splits, written as PNG where they are not there yet.

    Raises:
        MissingError: the file is not there.
        RecordsError: it is damaged, or other arrays are in it.
        OutputError: the folder of films holds something else, or cannot be written to.
    """
    file = f"{name}.npz" if size == 28 else f"{name}_{size}.npz"
    others = sorted(path.name for path in root.glob("*mnist*.npz"))
    if others and file not in others:
        raise MissingError(
            f"{root / file}: no such file; --name and --size say which of {listed(others)} is read"
        )
    path = start_of(root, file) / file
    findings = FINDINGS[name]
    try:
        with zipfile.ZipFile(path) as archive:
            labels = [_labels(archive, path, split, len(findings)) for split in SPLITS]
            counts = dict(zip(SPLITS, map(len, labels), strict=True))
            names = [f"{path.stem}_{split}_{row:06d}.png" for split in SPLITS for row in range(counts[split])]
            _refuse_others(films, names)
            with Progress("Writing films", len(names), unit="films") as line:
                written = 0
                for split in SPLITS:
                    for pixels in _images(archive, path, split, (counts[split], size, size)):
                        _write(films / names[written], pixels)
                        written += 1
                        line.update(written)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, ValueError, KeyError) as error:
        raise RecordsError(
            f"{path}: is damaged, or no file of MedMNIST ({error}); download it again"
        ) from None
    log.warning("MedMNIST names no patients: each of %d films counts as one", len(names))
    stems = [name.removesuffix(".png") for name in names]
    table = pd.DataFrame(
        {
            "image": [str((films / name).absolute()) for name in names],
            "patient": stems,
            "split": [split for split in SPLITS for _ in range(counts[split])],
            "site": DATASETS[name],
        },
        dtype="str",
    )
    values = np.concatenate(labels).astype(np.float64)
    return records_of(table, dict(zip(findings, values.T, strict=True)))


def _labels(archive: zipfile.ZipFile, path: Path, split: str, num_findings: int) -> NDArray[np.uint8]:
    key = f"{split}_labels"
    with archive.open(f"{key}.npy") as stream:
        shape, dtype = _head(stream, path, key)
        if len(shape) != 2 or shape[1] != num_findings or dtype.kind not in "ui" or shape[0] > MOST_FILMS:
            raise RecordsError(
                f"{path}: {key} is {dtype} of shape {shape}; expected {num_findings} columns of 0 and 1"
            )
        content = stream.read(shape[0] * shape[1] * dtype.itemsize)
    labels = np.frombuffer(content, dtype).reshape(shape)
    if not np.isin(labels, (0, 1)).all():
        raise RecordsError(f"{path}: {key} holds {listed(map(str, np.unique(labels)))}; expected 0 and 1")
    return labels.astype(np.uint8)


def _images(
    archive: zipfile.ZipFile, path: Path, split: str, expected: tuple[int, int, int]
) -> Iterator[NDArray[np.uint8]]:
    """The films of a split, one at a time, so that memory does not grow with their number."""
    key = f"{split}_images"
    with archive.open(f"{key}.npy") as stream:
        shape, dtype = _head(stream, path, key)
        if shape != expected or dtype != np.uint8:
            raise RecordsError(
                f"{path}: {key} is {dtype} of shape {shape}; expected uint8 of shape {expected}"
            )
        for _ in range(shape[0]):
            content = stream.read(shape[1] * shape[2])
            film = np.frombuffer(content, np.uint8).reshape(shape[1:])
            yield film.repeat(2, axis=0).repeat(2, axis=1) if min(film.shape) < LEAST_SIDE else film


def _head(stream: IO[bytes], path: Path, key: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type of an array; nothing but numbers in C order is read."""
    if np.lib.format.read_magic(stream) != (1, 0):
        raise RecordsError(f"{path}: {key} is in another version of numpy's format; expected 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if fortran or dtype.hasobject:
        raise RecordsError(
            f"{path}: {key} holds objects or is in another order; expected numbers, row by row"
        )
    return shape, dtype


def _refuse_others(folder: Path, names: list[str]) -> None:
    own = {*names, *(Path(name).with_suffix(".part").name for name in names)}  # parts are of a killed reading
    strangers = sorted({path.name for path in folder.iterdir()} - own) if folder.is_dir() else []
    if strangers:
        found = f"{len(strangers)} other files lie there, such as {strangers[0]!r}"
        raise OutputError(f"{folder}: {found}; --films wants a folder of its own")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})") from None


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Writes a film whole or not at all; one that is there must be the same."""
    if path.is_file():
        there = (
            cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED) if path.stat().st_size else None
        )
        if there is None or not np.array_equal(there, pixels):
            raise OutputError(f"{path}: is there already and another film; give another --films or remove it")
        return
    part = path.with_suffix(".part")
    try:
        part.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        os.replace(part, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from None
