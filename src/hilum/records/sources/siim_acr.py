"""SIIM-ACR: the Pneumothorax Segmentation Challenge of 2019, whose masks become boxes.

SIIM-ACR Pneumothorax Segmentation, https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation; the
challenge's own terms hold (non-commercial research). Expected below the root, as downloaded:
train-rle.csv (ImageId, EncodedPixels) and dicom-images-train/*/*/ImageId.dcm, or stage_2_train.csv, which has
rows of the first stage's test films too, and dicom-images-test/ with them. Where both sheets are there, that
of the second stage is read, and it is said. In --images the same films may lie as .png or .jpg by ImageId.
The header of train-rle.csv has a space before EncodedPixels, and so have the cells.

EncodedPixels is -1 where there is no pneumothorax; else pairs of a start and a length, the start counted
from the end of the run before, down the columns of 1024 x 1024 pixels. A film has a row per mask. A box is
what surrounds a connected part (of eight neighbours) of a film's masks together, in pixels of the file: those
of a smaller square copy are made smaller. Training films without a row are unknown, which is said. The films
are NIH's: pretraining on ChestX-ray14 and testing here is leakage that cannot be undone, since the challenge
does not say which film is which. It names no patients either, so each film counts as one. There is no
official split with labels: the masks of films without a row in dicom-images-test are not public.
"""

import logging
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.config import Config
from hilum.records.defects import Defects, listed, quote
from hilum.records.sources._boxes import Box, in_files
from hilum.records.sources._more import box_cell, left_out
from hilum.records.sources._places import by_name, files_below, found, start_of, stem
from hilum.records.sources._tables import records_of, refuse_absent, sheet
from hilum.records.table import Records


class Settings(Config):
    """Settings of the pneumothorax challenge."""

    images: Path | None = None
    """The folder of the training films, by ImageId. Default: dicom-images-train in the root."""


FINDING = "Pneumothorax"
SIDE = 1024
"""Width and height of every film, which masks are of."""
SHEETS = ("stage_2_train.csv", "train-rle.csv", "train-rle.csv.gz")

log = logging.getLogger(__name__)


def read(root: Path, *, images: Path | None) -> Records:
    """The training films with pneumothorax or not, and boxes around it.

    Raises:
        MissingError: a file or folder is not there.
        RecordsError: the files have defects; all of them are in the message.
    """
    base = start_of(root, *SHEETS)
    path = found(base, *SHEETS)
    log.info("%s: read %s", base, path.name)
    defects = Defects(path)
    rows = sheet(path, ("ImageId", "EncodedPixels"), defects)
    defects.check()
    rows = pd.DataFrame(
        {"line": rows["line"], "id": rows["ImageId"].str.strip(), "mask": rows["EncodedPixels"].str.strip()}
    )
    files = by_name(files_below(images or found(base, "dicom-images-train")), stem, defects, rows["id"])
    tests = by_name(files_below(base / "dicom-images-test"), stem, defects, [])
    if images is None:
        files |= {name: tests[name] for name in set(rows["id"]) & (set(tests) - set(files))}
    refuse_absent(rows["id"], files, defects, rows["line"])
    boxes = in_files(_boxes(rows, defects), files, SIDE, defects)
    defects.check()
    left_out(log, set(tests) - set(files), "test films, whose masks are not public")
    unknown = sorted(set(files) - set(boxes))
    if unknown:
        log.info(
            "%d films have no row; whether they show pneumothorax is unknown: %s",
            len(unknown),
            listed(unknown),
        )
    table = pd.DataFrame({"patient": [*boxes, *unknown]}, dtype="str")
    table["image"] = [str(files[name].absolute()) for name in table["patient"]]
    table["boxes"] = [*map(box_cell, boxes.values()), *[""] * len(unknown)]
    log.warning("the challenge names no patients: each of %d films counts as one", len(table))
    labels = [*(float(bool(some)) for some in boxes.values()), *[np.nan] * len(unknown)]
    return records_of(table, {FINDING: np.array(labels, np.float64)})


def _boxes(rows: pd.DataFrame, defects: Defects) -> dict[str, list[Box]]:
    """The boxes of each film with a row, in the order of the file."""
    boxes: dict[str, list[Box]] = {}
    for name, group in rows.groupby("id", sort=False):
        empty = group["mask"] == "-1"
        boxes[str(name)] = []
        if empty.any() and not empty.all():
            problem = f"{name} has -1, which is no pneumothorax, and a mask; keep one"
            defects.add("masks", problem, line=int(group["line"].iloc[-1]))
        elif not empty.any():
            whole = np.zeros((SIDE, SIDE), np.uint8)
            for line, cell in zip(group["line"], group["mask"], strict=True):
                runs = _runs(cell)
                if runs is None:
                    expected = f"neither -1 nor starts and lengths within {SIDE} x {SIDE} pixels"
                    problem = f"{name}: {quote(cell)} is {expected}"
                    defects.add("masks", problem, line=int(line))
                else:
                    whole |= mask_of(runs)
            boxes[str(name)] = _surrounding(whole)
    return boxes


def _runs(cell: str) -> NDArray[np.int64] | None:
    """Starts and lengths as rows; None if they are none."""
    words = cell.split()
    if not words or len(words) % 2 or not all(word.isdecimal() and len(word) < 8 for word in words):
        return None
    runs = np.array(words, np.int64).reshape(-1, 2)
    return runs if (runs[:, 1] > 0).all() and runs.sum() <= SIDE * SIDE else None


def mask_of(runs: NDArray[np.int64], side: int = SIDE) -> NDArray[np.uint8]:
    """A mask of runs whose starts are counted from the end of the run before, down the columns.

    >>> mask_of(np.array([[1, 2], [2, 1]]), 3).tolist()
    [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    """
    starts = np.cumsum(runs.ravel())[::2]
    edges = np.zeros(side * side + 1, np.int8)
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + runs[:, 1], -1)
    return np.cumsum(edges[:-1], dtype=np.uint8).reshape(side, side).T


def _surrounding(mask: NDArray[np.uint8]) -> list[Box]:
    """A box around each connected part, from left to right."""
    stats = cv2.connectedComponentsWithStats(np.ascontiguousarray(mask), connectivity=8)[2][1:, :4].tolist()
    return [(FINDING, float(x), float(y), float(x + w), float(y + h)) for x, y, w, h in sorted(stats)]
