"""VinDr-CXR and VinDr-PCXR: films of Hanoi with boxes of findings and diagnoses, by one to five radiologists.

Nguyen et al. 2022, https://doi.org/10.1038/s41597-022-01498-w: 18,000 films of adults, 22 findings with boxes
and 6 diagnoses. PhysioNet's credentialed licence; the part that was on Kaggle (VinBigData Chest X-ray
Abnormalities Detection): non-commercial.
Pham et al. 2023, https://doi.org/10.1038/s41597-023-02102-5: 9,125 films of children below 10 years, 36
findings with boxes and 15 diagnoses. PhysioNet's restricted licence.

Expected below the root, as PhysioNet gives VinDr-CXR: train/ and test/ with IMAGE_ID.dicom, and annotations/
with image_labels_train.csv (image_id, rad_id and a column per finding; three rows per film),
image_labels_test.csv (the same without rad_id: five readers agreed on one row), annotations_train.csv
(image_id, rad_id, class_name, x_min, y_min, x_max, y_max; a row per box) and annotations_test.csv (without
rad_id). VinDr-PCXR is the same with these differences: the sheets are in the root, rad_ID is in all of them,
a film has one reader, and findings are in the sheets of boxes alone, a row per box. Or as Kaggle gives it:
train.csv (image_id, class_name, class_id, rad_id, x_min, y_min, x_max, y_max) and train/; its test has no
labels and is not read. Films may be .dcm, .png or .jpg.

Labels: 1 and 0 by how many of a film's readers say so (`agreement`). "No finding" is 1 where no other is.
"Other disease" is "Other diseases", as in train. Boxes are of films where the finding's label is 1: those of
several readers that overlap become one, their mean, and stay where as many readers as for the label have one
there; where readers agree that a finding is there and not where, all boxes stay. They are in pixels of the
original DICOM; `sizes` names a table of image_id, dim0 (height) and dim1 (width) of the originals, by which
boxes on smaller copies are scaled. All films are PA, by the articles.

The official split is train and test (PhysioNet); `val_share` draws films of train. There are no patients in
the sheets: every film counts as its own, which is said. (Names are from the publications and from others'
code, that of several groups for VinDr-PCXR; PhysioNet's own files were not seen.)
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.config import Config
from hilum.records.defects import Defects
from hilum.records.sources._more import left_out
from hilum.records.sources._places import by_name, files_below, found, start_of, stem
from hilum.records.sources._tables import numbers, records_of, sheet, with_films, with_validation
from hilum.records.sources._vindr_boxes import NONE, SIDES, agreed_boxes, in_files
from hilum.records.table import Records


class Settings(Config):
    """Settings of VinDr-CXR and VinDr-PCXR."""

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


SAME = {"Other disease": "Other diseases"}
"""What the sheets of test call otherwise than those of train."""
FOLDERS = ("annotations/", "")
KEYS = ("image_id", "rad_id")
ABOUT = (*KEYS, "line", "file")
"""Columns of labels that are no findings."""
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
    base = start_of(root, *(f"{folder}image_labels_train.csv" for folder in FOLDERS), "train.csv")
    headers, defects = Defects(base), Defects(base)
    sheets = _sheets(base, headers, defects)
    findings = _findings(sheets, headers)
    headers.check()  # without its columns nothing more can be said of a sheet
    parts = [
        _part(split, marks, votes, findings, agreement, overlap, defects)
        for split, (marks, votes) in sheets.items()
    ]
    defects.check()
    table = pd.concat([about for about, _ in parts], ignore_index=True)
    values = np.concatenate([labels for _, labels in parts])
    there: dict[str, Path] = {}
    for split, names in table.groupby("split")["patient"]:
        films = by_name(files_below(base / str(split), ENDINGS), stem, defects, names)
        there |= {f"{split}/{name}": path for name, path in films.items()}
    named = table["split"] + "/" + table["patient"]
    left_out(log, set(there) - set(named), "no row of the labels names them")
    table = with_films(table, named, there, defects, only_present=only_present)
    table["boxes"] = in_files(table, sizes, defects)
    defects.check()
    table["site"] = _dataset(sheets)
    log.warning("the sheets name no patients, so each of %d films is its own patient", len(table))
    kept = values[table.index.to_numpy()]
    records = records_of(table, {name: kept[:, place] for place, name in enumerate(findings)})
    return with_validation(records, val_share)


def _dataset(sheets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]) -> str:
    """Which of three sets it is: Kaggle has no labels of test films, and PCXR alone says whose they are."""
    if "test" not in sheets:
        return "VinBigData"
    return "VinDr-CXR" if (sheets["test"][1]["rad_id"] == "all").all() else "VinDr-PCXR"


def _sheets(base: Path, headers: Defects, defects: Defects) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """The boxes of each split, and what each reader says of each film: 1 or 0 by finding."""
    if not any((base / folder / "image_labels_train.csv").is_file() for folder in FOLDERS):
        marks = _sheet(base / "train.csv", ["image_id", "rad_id", "class_name", *SIDES], headers, defects)
        return {"train": (marks, marks[["image_id", "rad_id", "line"]].drop_duplicates(KEYS))}
    sheets = {}
    for split in ("train", "test"):
        readers = ["rad_id"] if split == "train" else []
        path = found(base, *(f"{folder}annotations_{split}.csv" for folder in FOLDERS))
        marks = _sheet(path, ["image_id", *readers, "class_name", *SIDES], headers, defects)
        path = found(base, *(f"{folder}image_labels_{split}.csv" for folder in FOLDERS))
        votes = _sheet(path, ["image_id", *readers], headers, defects).rename(columns=SAME)
        for name in votes.columns.difference([*KEYS, "line", "file"]):
            values = numbers(votes[name], defects, votes["line"], file=path.name)
            unsure = np.flatnonzero(values == -1)
            lines = (
                (int(votes["line"].iloc[row]), f"{path.name}: found -1; expected 1 or 0") for row in unsure
            )
            defects.add_many(f"labels of {name}", lines, len(unsure), column=name)
            votes[name] = np.nan_to_num(values)  # an empty cell is a finding that the reader did not tick
        sheets[split] = marks, votes
    return sheets


def _sheet(path: Path, wanted: list[str], headers: Defects, defects: Defects) -> pd.DataFrame:
    """A sheet with its file's name; VinDr-PCXR writes rad_ID, and where there are no readers there is one."""
    table = sheet(path, [], defects)
    known = (*KEYS, "class_name", *SIDES)
    table = table.rename(columns=lambda name: name.lower() if name.lower() in known else name)
    for name in wanted:
        if name not in table:
            headers.add("columns", f"{path.name} has no column {name!r}")
            table[name] = ""
    if "rad_id" not in table:
        table["rad_id"] = "all"
    if "class_name" in table:
        table["class_name"] = table["class_name"].str.strip().replace(SAME)
    return table.assign(file=path.name)


def _findings(sheets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]], headers: Defects) -> list[str]:
    """All findings; those that only the boxes name become columns of what each reader says."""
    told = {split: [str(name) for name in votes if name not in ABOUT] for split, (_, votes) in sheets.items()}
    columns = list(dict.fromkeys(name for names in told.values() for name in names))
    for split, names in told.items():
        for name in (name for name in columns if name not in names):
            headers.add("columns", f"the labels of {split} have no column {name!r}, which others have")
    boxed = sorted({name for marks, _ in sheets.values() for name in set(marks["class_name"])} - {NONE})
    if set(boxed) & set(columns):
        return columns  # as VinDr-CXR: what is boxed is a column, or a mistake
    for marks, votes in sheets.values():
        once = marks.drop_duplicates([*KEYS, "class_name"])
        seen = pd.crosstab([once["image_id"], once["rad_id"]], once["class_name"])
        readers = pd.MultiIndex.from_frame(votes[list(KEYS)])
        rows = seen.reindex(index=readers, columns=boxed, fill_value=0).to_numpy(np.float64)
        votes[boxed] = rows
        if NONE not in votes:
            votes[NONE] = (rows.sum(axis=1) == 0).astype(np.float64)
    return [*boxed, *columns, *([] if NONE in columns else [NONE])]


def _part(
    split: str,
    marks: pd.DataFrame,
    votes: pd.DataFrame,
    findings: list[str],
    agreement: str,
    overlap: float,
    defects: Defects,
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """The films of a split with their boxes as JSON, and their labels."""
    films = votes.groupby("image_id", sort=False)
    seen, asked = films[findings].sum(), films["rad_id"].nunique()
    again = votes.duplicated(list(KEYS))
    shown = zip(votes["line"][again].head(20), votes["image_id"][again].head(20), strict=True)
    problems = ((int(line), f"{name}: a second row of the same reader") for line, name in shown)
    defects.add_many("repeated readers", problems, int(again.sum()))
    needed = _needed(asked, agreement)
    positive = seen.ge(needed, axis=0)
    if NONE in positive:  # readers may agree on no finding and not on this either
        positive[NONE] = ~positive.drop(columns=NONE).any(axis=1)
    boxes = agreed_boxes(marks, positive, needed, overlap, defects)
    about = pd.DataFrame(
        {
            "line": films["line"].first().to_numpy(),
            "patient": positive.index.to_numpy(object),
            "split": split,
            "view": "PA",
            "boxes": [json.dumps([list(box) for box in boxes.get(name, [])]) for name in positive.index],
        }
    )
    return about, positive.to_numpy(np.float64)


def _needed(asked: pd.Series, agreement: str) -> pd.Series:
    """How many readers of each film must agree."""
    if agreement == "any":
        return asked.clip(upper=1)
    return asked if agreement == "all" else asked // 2 + 1
