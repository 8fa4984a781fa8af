"""TBX11K: films with tuberculosis, other disease or none, and boxes of active and healed tuberculosis.

Liu et al. 2020, https://doi.org/10.1109/CVPR42600.2020.00272. CC BY-NC-SA 2.0. Expected below the root, as
downloaded (the root may be TBX11K or the folder above):
TBX11K/annotations/json/TBX11K_train.json and TBX11K_val.json (COCO's format: 6,600 and 1,800 films), and
TBX11K/imgs/health/h0001.png, imgs/sick/s0001.png and imgs/tb/tb0003.png, all of 512 x 512 pixels.

The folder of a film is its class: Tuberculosis is 1 in tb and 0 in health and sick, which the column class
tells apart. Films of health and sick have no boxes and are negatives of each category. A film of tb without
boxes ("uncertain") has Tuberculosis 1, unknown categories, and no list of boxes. Boxes are those of the
JSON: those of annotations/xml are in pixels of the first, larger films.

The official split is train and val; the labels of imgs/test are not public, and its films are left out. So
is imgs/extra, which holds Shenzhen's and Montgomery's films and two other sets: take those from their own
sources, and never train on one and test on the other. lists/*.txt repeat the JSON and are not read. No
patients are named: each film counts as one.
"""

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from hilum.config import Config
from hilum.records.defects import Defects, listed, quote
from hilum.records.sources._boxes import in_files
from hilum.records.sources._coco import read_annotations
from hilum.records.sources._more import TUBERCULOSIS, box_cell, left_out
from hilum.records.sources._places import files_below, found, start_of
from hilum.records.sources._tables import records_of, refuse_absent
from hilum.records.table import Records


class Settings(Config):
    """Settings of TBX11K: it needs none."""


CLASSES = ("health", "sick", "tb")
SIDE = 512
"""Width and height of the films that boxes are in pixels of."""

log = logging.getLogger(__name__)


def read(root: Path) -> Records:
    """The films of the training and the validation split, with their boxes.

    Raises:
        MissingError: a file or folder is not there.
        RecordsError: the files have defects; all of them are in the message.
    """
    base = start_of(root, "annotations/json/TBX11K_train.json")
    films, notes = found(base, "imgs"), base / "annotations" / "json"
    defects = Defects(base)
    tables = []
    for split in ("train", "val"):
        tables.append(_films(found(notes, f"TBX11K_{split}.json"), split, defects))
    defects.check()
    table = pd.concat(tables, ignore_index=True)
    for name in table["name"][table["name"].duplicated()]:
        defects.add("films", f"{name} is there twice; a film is in one split")
    folders = table["name"].str.partition("/")[0]
    for name in table["name"][~folders.isin(CLASSES)]:
        defects.add("films", f"{quote(name)} is in none of the folders {', '.join(CLASSES)}")
    for name in table["name"][folders.isin(CLASSES[:2]) & (table["boxes"].str.len() > 0)]:
        defects.add("boxes", f"{name} has boxes of tuberculosis, and its folder says that it has none")
    there = files_below(films, (".png",))
    refuse_absent(table["name"], there, defects, pd.Series(0, table.index))
    boxes = in_files(dict(zip(table["name"], table["boxes"], strict=True)), there, SIDE, defects)
    defects.check()
    table["boxes"] = table["name"].map(boxes)
    _say_what_is_left_out(set(there) - set(table["name"]))
    sick = (folders == "tb").to_numpy()
    unsure = sick & (table["boxes"].str.len() == 0).to_numpy()
    if unsure.any():
        log.info("%d films of tuberculosis have no box: active or healed is unknown", int(unsure.sum()))
    labels = {TUBERCULOSIS: sick.astype(np.float64)}
    named = [{box[0] for box in boxes} for boxes in table["boxes"]]
    for category in sorted(set().union(*named)):
        labels[category] = np.where(unsure, np.nan, [float(category in some) for some in named])
    log.warning("TBX11K names no patients: each of %d films counts as one", len(table))
    whole = pd.DataFrame(
        {
            "image": [str(there[name].absolute()) for name in table["name"]],
            "patient": table["name"].str.removesuffix(".png"),
            "split": table["split"],
            "boxes": np.where(unsure, "", table["boxes"].map(box_cell)),
            "class": folders,
        }
    )
    return records_of(whole, labels)


def _films(path: Path, split: str, defects: Defects) -> pd.DataFrame:
    """Name, split and boxes of each film of a JSON file."""
    told = read_annotations(path, defects)
    if told.unused:
        log.info("%s: no box is of %s", path.name, listed(told.unused))
    films, boxes = told.films, told.boxes
    return pd.DataFrame(
        {
            "name": pd.Series([str(film["file_name"]) for film in films.values()], dtype="str"),
            "split": split,
            "boxes": pd.Series(list(boxes.values()), dtype=object),
        }
    )


def _say_what_is_left_out(names: set[str]) -> None:
    reasons = {
        "test": "test films, whose labels are not public",
        "extra": "Shenzhen, Montgomery, DA and DB; the first two have sources of their own",
    }
    counts = Counter(name.partition("/")[0] for name in names)
    for folder in sorted(counts):
        some = [name for name in names if name.partition("/")[0] == folder]
        left_out(log, some, reasons.get(folder, "in no annotation of the training and validation split"))
