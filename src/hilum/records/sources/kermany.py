"""Kermany's films of children of 1 to 5 years: 5,856 of Guangzhou, normal, bacterial or viral pneumonia.

Kermany et al. 2018, https://doi.org/10.1016/j.cell.2018.02.010; CC BY 4.0. On Kaggle it is called Chest
X-Ray Images (Pneumonia), and has been taken for ChestX-ray14, which it is not.

Expected below the root, as downloaded (the root is the folder of train or one above it):
chest_xray/ with train/, test/ and, on Kaggle, val/, each of NORMAL/ and PNEUMONIA/ with .jpeg files.
Kaggle's archive has the folder a second time inside itself, and one called __MACOSX: neither is read.

Patients are read from the names: person100_bacteria_475.jpeg is of person100, NORMAL2-IM-0383-0001.jpeg of
NORMAL2-IM-0383, IM-0115-0001.jpeg of IM-0115; of the authors' own archive BACTERIA-1008087-0001.jpeg is of
1008087 (these names are from others' code and were not seen). Whether one number in two folders is one
child is not published; here it is, so that no test film is of a child that was trained on.

Labels: Pneumonia by the folder, Bacterial pneumonia and Viral pneumonia by the name, all 1 or 0. The
official val has 16 films. Many persons of test are in train too, which is counted and said, and `split`
settles. Pitfalls: three quarters of the films have pneumonia; the frame of a film without the lungs tells
it at an AUROC of 0.95, so that no score here is evidence of anything.
"""

import logging
import re
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from hilum.config import Config
from hilum.records.defects import Defects
from hilum.records.sources._places import files_below, start_of
from hilum.records.sources._tables import keep, records_of
from hilum.records.table import Records


class Settings(Config):
    """Settings of Kermany's films."""

    split: Literal["official", "none", "folders"] = "official"
    """official: the folders', and persons of test are left out of train and val, counted; none: all films,
    for `hilum records split`; folders: the folders' with all films, where a name in two of them counts as two
    persons."""


NAME = re.compile(
    r"(?P<person>person\d+)_(?P<kind>bacteria|virus)_\d+"
    r"|(?P<normal>(?:NORMAL2-)?IM-\d+)-\d+"
    r"|(?P<class>NORMAL|BACTERIA|VIRUS)-(?P<number>\d+)-\d+"
)
SUBTYPES = {"bacteria": "bacteria", "virus": "virus", "BACTERIA": "bacteria", "VIRUS": "virus"}

log = logging.getLogger(__name__)


def read(root: Path, *, split: str) -> Records:
    """The films of all folders, by patient.

    Raises:
        MissingError: the folders are not there.
        RecordsError: the folders have defects; all of them are in the message.
    """
    base = start_of(root, "train/NORMAL")
    defects = Defects(base)
    rows = []
    for part in ("train", "val", "test"):
        for folder in ("NORMAL", "PNEUMONIA"):
            there = files_below(base / part / folder)
            if not there and (part != "val" or (base / part).is_dir()):
                defects.add("folders", f"{part}/{folder}/ is not there, or holds no film")
            for name, path in sorted(there.items()):
                person, kind = person_of(path.stem)
                if not person:
                    expected = "expected person1_virus_6, IM-0115-0001 or NORMAL2-IM-0383-0001"
                    defects.add("names", f"{part}/{folder}/{name} names no patient; {expected}")
                elif (kind == "") != (folder == "NORMAL"):
                    defects.add("names", f"{part}/{folder}/{name} is named {kind or 'as a normal film'}")
                rows.append((str(path.absolute()), person, part, folder, kind))
    defects.check()
    table = pd.DataFrame(rows, columns=["image", "patient", "split", "folder", "kind"], dtype="str")
    table = _without_overlap(table, split)
    labels = {
        "Pneumonia": np.where(table["folder"] == "PNEUMONIA", 1.0, 0.0),
        "Bacterial pneumonia": np.where(table["kind"] == "bacteria", 1.0, 0.0),
        "Viral pneumonia": np.where(table["kind"] == "virus", 1.0, 0.0),
    }
    return records_of(table.drop(columns=["folder", "kind"]), labels)


def person_of(name: str) -> tuple[str, str]:
    """The person and the kind of pneumonia that a film's name tells; empty where it tells none.

    >>> person_of("person100_bacteria_475"), person_of("NORMAL2-IM-0383-0001"), person_of("x")
    (('person100', 'bacteria'), ('NORMAL2-IM-0383', ''), ('', ''))
    """
    told = NAME.match(name)
    if told is None:
        return "", ""
    person = told["person"] or told["normal"] or told["number"]
    return person, SUBTYPES.get(told["kind"] or told["class"] or "", "")


def _without_overlap(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """The films with no person in two splits, as `split` says; how many there were is logged."""
    order = {"train": 0, "val": 1, "test": 2}
    last = table["split"].map(order).groupby(table["patient"]).transform("max")
    earlier = table["split"].map(order) < last
    if earlier.any():
        persons = table["patient"][earlier].nunique()
        log.warning(
            "%d persons of val or test are in train or val too, with %d films", persons, earlier.sum()
        )
    if split == "official":
        return keep(table, ~earlier, "their person is in val or test; --split none keeps them")
    if split == "folders":
        several = table.groupby("patient")["split"].transform("nunique") > 1
        own = table["split"] + " " + table["patient"]
        return table.assign(patient=table["patient"].where(~several, own))
    return table.assign(split="")
