"""ChestX-ray14: 112,120 frontal films of 30,805 patients of the NIH Clinical Center, 14 mined findings.

Wang et al. 2017, https://arxiv.org/abs/1705.02315. No restrictions on use; the NIH Clinical Center and the
paper are to be named.

Expected below the root, as downloaded: Data_Entry_2017_v2020.csv or Data_Entry_2017.csv (Image Index,
Finding Labels, Patient ID, Patient Age, Patient Gender or Patient Sex, View Position), train_val_list.txt,
test_list.txt, BBox_List_2017.csv, and the films, .png of 1024 x 1024 pixels, in images/, images_001/images/
to images_012/images/, or elsewhere below the root. Of BBox_List_2017.csv the header is "Bbox [x,y,w,h]"
without quotes, hence four columns called "Bbox [x", "y", "w" and "h]", followed by empty ones.

Labels: the findings named in Finding Labels are 1 and all others 0; "No Finding" is all 0. The program that
mined the reports had no word for uncertain. The boxes, 984 of 8 findings on 880 films, were drawn by a
reader for a finding that the film was known to have: where the findings of other films are, nobody was
asked. So a film with the label 1 and no box is neither a positive nor a negative of detection
(`records.boxes.asked`). `labels` boxed makes a label 1 where there is a box, 0 where there are boxes of
others and the mined label is 0, and unknown elsewhere. Boxes are of films of 1024 pixels; those of a smaller
square copy are made smaller.

The official split is by patient, and has no validation films: `val_share` draws their patients. Pitfalls:
some ages are above 130 (148 to 414), which count as unknown; the RSNA challenge and others took their films
from here, so a model pretrained on all of it has seen their tests.
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
from hilum.records.cells import ages
from hilum.records.defects import Defects, quote
from hilum.records.sources._boxes import Box, from_corner_and_size, in_files
from hilum.records.sources._places import basename, by_name, files_below, found, start_of
from hilum.records.sources._tables import of_views, records_of, sexes, sheet, with_films, with_validation
from hilum.records.table import Records


class Settings(Config):
    """Settings of ChestX-ray14."""

    views: list[str] = []
    """The projections that are kept, AP or PA; none named: both."""
    labels: Literal["mined", "boxed"] = "mined"
    """What labels are: mined from reports, or whether there is a box, which only 880 films were asked for."""
    val_share: float = 0.1
    """Share of the official training patients that become val."""
    only_present: bool = False
    """Leave rows out whose film is not there, counted, where the default is to stop."""


FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
BOXED = FINDINGS[:8]
NONE = "No Finding"
ENTRIES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
SIDE = 1024
"""Width and height of the films that boxes are in pixels of."""
SLACK = 8
"""Pixels that a box may reach beyond its film, where it is cut."""
SIDES = ["Bbox [x", "y", "w", "h]"]

log = logging.getLogger(__name__)


def read(root: Path, *, views: list[str], labels: str, val_share: float, only_present: bool) -> Records:
    """The films with the official split; study is patient and number of the visit.

    Raises:
        MissingError: a file is not there.
        ConfigError: no film is of the projections, or `val_share` is no share.
        RecordsError: the files have defects; all of them are in the message.
    """
    sheets = start_of(root, *ENTRIES)
    entries = found(sheets, *ENTRIES)
    lists = {
        split: found(sheets, f"{name}_list.txt") for split, name in (("train", "train_val"), ("test", "test"))
    }
    boxes_path = found(sheets, "BBox_List_2017.csv")
    defects = Defects(root)
    wanted = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "View Position"]
    rows = sheet(entries, wanted, defects)
    sex = next((name for name in ("Patient Gender", "Patient Sex") if name in rows), "")
    if not sex:
        defects.add("columns", f"{entries.name} has neither a column 'Patient Gender' nor 'Patient Sex'")
    marks = sheet(boxes_path, ["Image Index", "Finding Label", *SIDES], defects)
    defects.check()
    values = _labels(rows, defects)
    table = pd.DataFrame(
        {
            "line": rows["line"],
            "patient": rows["Patient ID"],
            "split": _splits(rows, lists, defects),
            "study": rows["Patient ID"] + "/" + rows["Follow-up #"],
            "view": rows["View Position"].str.strip(),
            "sex": sexes(rows[sex]),
            "age": pd.Series(ages(rows["Patient Age"].tolist()), index=rows.index, dtype="str"),
            "name": rows["Image Index"],
        }
    )
    table = of_views(table, views)
    there = by_name(files_below(root), basename, defects, table["name"])
    table = with_films(table, table["name"], there, defects, only_present=only_present)
    boxes = _boxes(
        marks, set(rows["Image Index"]), dict(zip(table["name"], table["image"], strict=True)), defects
    )
    defects.check()
    named = {name: json.dumps([list(box) for box in some]) for name, some in boxes.items()}
    table = table.assign(boxes=[named.get(name, "") for name in table["name"]])
    kept = values[table.index.to_numpy()]
    known = dict(zip(FINDINGS, kept.T, strict=True))
    row_of = {name: row for row, name in enumerate(table["name"])}
    denied = sum(
        known[finding][row_of[name]] == 0
        for name, some in boxes.items()
        for finding in {box[0] for box in some}
    )
    if denied:
        log.info("%d times a film has boxes of a finding that its mined labels deny", denied)
    if labels == "boxed":
        known = _boxed(table["name"], known, boxes)
    return with_validation(records_of(table.drop(columns="name"), known), val_share)


def _labels(rows: pd.DataFrame, defects: Defects) -> NDArray[np.float64]:
    """1 or 0 by film and finding; each distinct cell is taken apart once."""
    codes, cells = pd.factorize(rows["Finding Labels"])
    known: dict[str, NDArray[np.float64]] = {}
    for cell in cells:
        named = [name.strip() for name in cell.split("|")]
        wrong = [name for name in named if name not in (*FINDINGS, NONE)]
        if wrong or (NONE in named and len(named) > 1):
            at = np.flatnonzero((rows["Finding Labels"] == cell).to_numpy())
            problem = f"found {quote(cell)}; expected names of the 14 findings with | between them, or {NONE}"
            example = [(int(rows["line"].iloc[at[0]]), problem)]
            defects.add_many("labels", example, len(at), column="Finding Labels")
        known[cell] = np.array([name in named for name in FINDINGS], np.float64)
    return np.stack([known[cell] for cell in cells])[codes] if len(cells) else np.empty((0, len(FINDINGS)))


def _splits(rows: pd.DataFrame, lists: Mapping[str, Path], defects: Defects) -> pd.Series:
    """The split of every film, which exactly one of the lists names."""
    names = {split: set(path.read_text(encoding="utf-8").split()) for split, path in lists.items()}
    for name in sorted(names["train"] & names["test"]):
        defects.add("films in two lists", f"{name} is in train_val_list.txt and in test_list.txt")
    film = rows["Image Index"]
    split = pd.Series("", index=rows.index, dtype="str")
    for one, some in names.items():
        split = split.mask(film.isin(list(some)), one)
    none = split == ""
    shown = zip(rows["line"][none].head(20).tolist(), film[none].head(20).tolist(), strict=True)
    problems = ((line, f"{name} is in neither train_val_list.txt nor test_list.txt") for line, name in shown)
    defects.add_many("films in no list", problems, int(none.sum()))
    return split


def _boxes(
    marks: pd.DataFrame, listed: set[str], films: Mapping[str, str], defects: Defects
) -> dict[str, list[Box]]:
    """The boxes of each film that has any, in pixels of its file."""
    boxes: dict[str, list[Box]] = {}
    absent = cut = 0
    cells = marks[["Image Index", "Finding Label", *SIDES, "line"]].itertuples(index=False, name=None)
    for name, label, *sides, line in cells:
        finding = "Infiltration" if label == "Infiltrate" else label
        where = f"BBox_List_2017.csv: {name}"
        if name not in listed:
            defects.add("boxes on no film", f"{where} is in no row of the entries", line=line)
        elif finding not in BOXED:
            problem = f"{where}: {quote(label)} is none of {', '.join(BOXED)}"
            defects.add("boxes of no finding", problem, line=line)
        elif not films.get(name):
            absent += 1
        else:
            x, y, w, h = pd.to_numeric(pd.Series(sides), errors="coerce").tolist()
            over = max(x + w, y + h) - SIDE
            if 0 < over <= SLACK:
                w, h, cut = min(w, SIDE - x), min(h, SIDE - y), cut + 1
            numbers = [x, y, w, h]
            box = from_corner_and_size(finding, numbers, (SIDE, SIDE), defects, where=where, line=line)
            boxes.setdefault(name, []).extend([box] if box else [])
    if absent:
        log.info("%d of %d boxes are left out: their films are", absent, len(marks))
    if cut:
        log.info("%d boxes that reach up to %d pixels beyond their film were cut there", cut, SLACK)
    return in_files(boxes, {name: Path(films[name]) for name in boxes}, SIDE, defects)


def _boxed(
    names: pd.Series, mined: Mapping[str, NDArray[np.float64]], boxes: Mapping[str, list[Box]]
) -> dict[str, NDArray[np.float64]]:
    """1 where there is a box, 0 where there are others' and the mined label is 0, NaN elsewhere."""
    asked = names.isin(list(boxes)).to_numpy()
    known = {}
    for finding in BOXED:
        own = names.isin([name for name, some in boxes.items() if any(box[0] == finding for box in some)])
        rest = np.where(asked & (mined[finding] == 0), 0.0, np.nan)
        known[finding] = np.where(own.to_numpy(), 1.0, rest)
    return known
