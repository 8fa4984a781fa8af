"""VinDr-CXR: 18,000 films of Hanoi, boxes of 22 findings and 6 diagnoses, each film by several radiologists.

Nguyen et al. 2022, https://doi.org/10.1038/s41597-022-01498-w. PhysioNet's credentialed licence; the part
that was on Kaggle (VinBigData Chest X-ray Abnormalities Detection): non-commercial.

Expected below the root, as PhysioNet gives it: train/ and test/ with IMAGE_ID.dicom, and annotations/ with
image_labels_train.csv (image_id, rad_id and a column per finding; three rows per film),
image_labels_test.csv (the same without rad_id: five readers agreed on one row), annotations_train.csv
(image_id, rad_id, class_name, x_min, y_min, x_max, y_max; a row per box) and annotations_test.csv (without
rad_id). Or as Kaggle gives it: train.csv (image_id, class_name, class_id, rad_id, x_min, y_min, x_max,
y_max) and train/; its test has no labels and is not read. The sheets may lie in the root too, and films may
be .dcm, .png or .jpg.

Labels: 1 and 0 by how many of a film's readers say so (`agreement`). "Other disease" of test is "Other
diseases", as in train. Boxes are of films where the finding's label is 1: those of several readers that
overlap become one, their mean, and stay where as many readers as for the label have one there; where
readers agree that a finding is there and not where, all boxes stay. They are in pixels of the original
DICOM; `sizes` names a table of image_id, dim0 (height) and dim1 (width) of the originals, by which boxes on
smaller copies are scaled.

The official split is train and test (PhysioNet); `val_share` draws films of train. There are no patients in
the sheets: every film counts as its own, which is said. (Column names are from the publications and from
others' code; PhysioNet's own files were not seen.)
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from hilum.config import Config
from hilum.errors import MissingError
from hilum.records.defects import Defects, quote
from hilum.records.sources._boxes import Box, by_place
from hilum.records.sources._tables import (
    files_below,
    found,
    numbers,
    records_of,
    sheet,
    with_films,
    with_validation,
)
from hilum.records.table import Records


class Settings(Config):
    """Settings of VinDr-CXR."""

    agreement: Literal["any", "majority", "all"] = "majority"
    """How many readers of a film must see a finding for its label to be 1, and a box for it to stay."""
    overlap: float = 0.4
    """The intersection over union from which boxes of two readers are of one place."""
    sizes: Path | None = None
    """A table of image_id, dim0 and dim1, the height and width of the original of every film."""
    val_share: float = 0.1
    """Share of the films of train that become val."""
    only_present: bool = False
    """Leave films out whose file is not there, counted, where the default is to stop."""


NONE = "No finding"
SIDES = ["x_min", "y_min", "x_max", "y_max"]
ENDINGS = (".dicom", ".dcm", ".png", ".jpg", ".jpeg")

log = logging.getLogger(__name__)


def read(
    root: Path,
    *,
    agreement: str,
    overlap: float,
    sizes: Path | None,
    val_share: float,
    only_present: bool,
) -> Records:
    """The films of every split that has labels, with boxes.

    Raises:
        MissingError: a file or folder is not there.
        ConfigError: `val_share` is no share.
        RecordsError: the files have defects; all of them are in the message.
    """
    defects = Defects(root)
    parts = [_part(root, split, agreement, overlap, defects) for split in _splits(root)]
    defects.check()
    names = list(dict.fromkeys(name for _, labels in parts for name in labels))
    for about, labels in parts:
        for name in (name for name in names if name not in labels):
            split = about["split"].iloc[0] if len(about) else "a split"
            defects.add("columns", f"the labels of {split} have no column {name!r}, which others have")
    defects.check()
    table = pd.concat([about for about, _ in parts], ignore_index=True)
    values = np.concatenate([np.column_stack([labels[name] for name in names]) for _, labels in parts])
    there = {
        f"{split}/{path.stem}": path
        for split in dict.fromkeys(table["split"])
        for path in files_below(root / split, ENDINGS).values()
    }
    named = table["split"] + "/" + table["patient"]
    table = with_films(table, named, there, defects, only_present=only_present)
    table["boxes"] = _in_files(table, sizes, defects)
    defects.check()
    log.warning("the sheets name no patients, so each of %d films is its own patient", len(table))
    kept = values[table.index.to_numpy()]
    records = records_of(table, {name: kept[:, place] for place, name in enumerate(names)})
    return with_validation(records, val_share)


def _splits(root: Path) -> list[str]:
    """Those whose labels are there."""
    if (root / "annotations").is_dir() or (root / "image_labels_train.csv").is_file():
        return ["train", "test"]
    if not (root / "train.csv").is_file():
        raise MissingError(
            f"{root}: expected annotations/ or train.csv in it; the root is the folder as downloaded"
        )
    return ["train"]


def _part(
    root: Path, split: str, agreement: str, overlap: float, defects: Defects
) -> tuple[pd.DataFrame, dict[str, NDArray[np.float64]]]:
    """The films of a split with their boxes as JSON, and their labels."""
    if (root / "train.csv").is_file():
        marks = sheet(root / "train.csv", ["image_id", "rad_id", "class_name", *SIDES], defects)
        file = "train.csv"
        known = [name for name in sorted(set(marks["class_name"])) if name != NONE]
        votes = _votes_of_marks(marks, [*known, NONE])
    else:
        path = found(root, *(f"{folder}annotations_{split}.csv" for folder in ("annotations/", "")))
        readers = ["rad_id"] if split == "train" else []
        file = path.name
        marks = sheet(path, ["image_id", *readers, "class_name", *SIDES], defects)
        path = found(root, *(f"{folder}image_labels_{split}.csv" for folder in ("annotations/", "")))
        votes = _votes(sheet(path, ["image_id", *readers], defects), path.name, defects)
    for table in (marks, votes):
        if "rad_id" not in table:
            table["rad_id"] = "all"
    findings = [str(name) for name in votes if name not in ("image_id", "rad_id", "line")]
    films = votes.groupby("image_id", sort=False)
    seen, asked = films[findings].sum(), films["rad_id"].nunique()
    again = votes.duplicated(["image_id", "rad_id"])
    shown = zip(votes["line"][again].head(20), votes["image_id"][again].head(20), strict=True)
    problems = ((int(line), f"{name}: a second row of the same reader") for line, name in shown)
    defects.add_many("repeated readers", problems, int(again.sum()))
    needed = _needed(asked, agreement)
    positive = seen.ge(needed, axis=0)
    if NONE in positive:  # readers may agree on no finding and not on this either
        positive[NONE] = ~positive.drop(columns=NONE).any(axis=1)
    boxes = _boxes(marks, positive, needed, overlap, file, defects)
    about = pd.DataFrame(
        {
            "line": films["line"].first().to_numpy(),
            "patient": positive.index.to_numpy(object),
            "split": split,
            "boxes": [json.dumps([list(box) for box in boxes.get(name, [])]) for name in positive.index],
        }
    )
    return about, {str(name): positive[name].to_numpy(np.float64) for name in findings}


def _needed(asked: pd.Series, agreement: str) -> pd.Series:
    """How many readers of each film must agree."""
    if agreement == "any":
        return asked.clip(upper=1)
    return asked if agreement == "all" else asked // 2 + 1


def _votes(rows: pd.DataFrame, file: str, defects: Defects) -> pd.DataFrame:
    """What each reader says of each film: 1 or 0 by finding."""
    rows = rows.rename(columns={"Other disease": "Other diseases"})
    for name in (name for name in rows if name not in ("image_id", "rad_id", "line")):
        values = numbers(rows[name], defects, rows["line"], file=file)
        rows[name] = np.nan_to_num(values)  # an empty cell is a finding that the reader did not tick
    return rows


def _votes_of_marks(marks: pd.DataFrame, findings: Sequence[str]) -> pd.DataFrame:
    """The same from a sheet of boxes, where every reader has a row of every film that they read."""
    keys = ["image_id", "rad_id"]
    pairs = marks.drop_duplicates([*keys, "class_name"])
    told = pd.crosstab([pairs["image_id"], pairs["rad_id"]], pairs["class_name"]).clip(upper=1)
    told = told.reindex(columns=list(findings), fill_value=0).astype(np.float64).reset_index()
    first = marks.drop_duplicates(keys)[[*keys, "line"]]
    return first.merge(told, on=keys, how="left").reset_index(drop=True)


def _boxes(
    marks: pd.DataFrame,
    positive: pd.DataFrame,
    needed: pd.Series,
    overlap: float,
    file: str,
    defects: Defects,
) -> dict[str, list[Box]]:
    """The boxes of every film that has any: one per place, of findings whose label is 1."""
    corners = np.column_stack(
        [pd.to_numeric(marks[side], errors="coerce").to_numpy(np.float64) for side in SIDES]
    )
    empty = (marks[SIDES].apply(lambda cells: cells.str.strip()) == "").all(axis=1).to_numpy()
    known = (marks["image_id"].isin(positive.index) & marks["class_name"].isin(positive.columns)).to_numpy()
    sound = (
        (corners[:, 2] > corners[:, 0])
        & (corners[:, 3] > corners[:, 1])
        & (corners[:, :2] >= -0.5).all(axis=1)
    )
    for kind, bad, expected in (
        ("boxes on no film", ~known, "the labels have no such film or finding"),
        ("boxes", known & ~empty & ~sound, "expected x_min < x_max and y_min < y_max, from 0 on"),
    ):
        at = np.flatnonzero(bad)
        shown = [
            (int(marks["line"].iloc[row]), _told(marks.iloc[row], file, expected)) for row in at[:20].tolist()
        ]
        defects.add_many(kind, shown, len(at))
    use = np.flatnonzero(known & ~empty & sound)
    groups: dict[tuple[str, str], list[int]] = {}
    names, kinds = marks["image_id"].to_numpy(object), marks["class_name"].to_numpy(object)
    for row in use.tolist():
        groups.setdefault((names[row], kinds[row]), []).append(row)
    readers = marks["rad_id"].to_numpy(object)
    boxes: dict[str, list[Box]] = {}
    dropped = unsure = 0
    said = {(name, kind) for kind in positive for name in positive.index[positive[kind]]}
    for (name, kind), rows in groups.items():
        if (name, kind) not in said:
            dropped += len(rows)
            continue
        places = by_place(corners[rows], [readers[row] for row in rows], overlap)
        agreed = [box for box, count in places if count >= needed[name]]
        unsure += not agreed
        for x1, y1, x2, y2 in agreed or [box for box, _ in places]:
            boxes.setdefault(name, []).append((kind, x1, y1, x2, y2))
    if dropped:
        log.info("%d of %d boxes are left out: too few readers see the finding", dropped, len(use))
    if unsure:
        log.info("on %d films readers agree on a finding and not where it is: all boxes of it stay", unsure)
    return boxes


def _told(mark: pd.Series, file: str, expected: str) -> str:
    sides = ", ".join(mark[side] for side in SIDES)
    return f"{file}: {mark['image_id']}: {quote(mark['class_name'])} at {sides}: {expected}"


def _in_files(table: pd.DataFrame, sizes: Path | None, defects: Defects) -> list[str]:
    """Boxes in pixels of the file: of a DICOM as they are, of other files by the size of the original."""
    originals: Mapping[str, tuple[str, str]] = {}
    if sizes is not None:
        rows = sheet(sizes, ["image_id", "dim0", "dim1"], defects)
        originals = dict(zip(rows["image_id"], zip(rows["dim1"], rows["dim0"], strict=True), strict=True))
    cells: list[str] = []
    for image, name, cell, line in zip(
        table["image"], table["patient"], table["boxes"], table["line"], strict=True
    ):
        if cell == "[]" or not image or image.endswith((".dicom", ".dcm")):
            cells.append(cell)
            continue
        boxes = json.loads(cell)
        try:
            with Image.open(image) as opened:
                width, height = opened.size
        except (UnidentifiedImageError, OSError) as error:
            defects.add("unreadable films", f"{image}: {error}", line=int(line))
            continue
        across = down = 1.0
        if name in originals:
            across, down = width / float(originals[name][0]), height / float(originals[name][1])
        boxes = [[kind, x1 * across, y1 * down, x2 * across, y2 * down] for kind, x1, y1, x2, y2 in boxes]
        if any(x2 > width + 1 or y2 > height + 1 for *_, x2, y2 in boxes):
            cure = "boxes are of the original DICOM; --sizes names the table of the originals' sizes"
            problem = f"{name}: a box reaches beyond the {width} x {height} pixels of the film; {cure}"
            defects.add("boxes beyond the film", problem, line=int(line))
        cells.append(json.dumps(boxes))
    return cells
