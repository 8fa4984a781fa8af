"""RANZCR CLiP: 30,083 films of ChestX-ray14 with where tubes and catheters lie, 11 labels by radiologists.

Tang et al. 2021, https://doi.org/10.1038/s41597-021-01066-8. The rules of the Kaggle challenge RANZCR CLiP
- Catheter and Line Position: non-commercial.

Expected below the root, as downloaded (or a folder above it): train.csv (StudyInstanceUID, 11 labels of 1 and
0, PatientID) and train/STUDYINSTANCEUID.jpg. test/ has no labels and train_annotations.csv has lines along
some catheters: neither is read.

Labels are 1 or 0, several per film: ETT (tracheal tube), NGT (stomach tube), CVC (central line), each
Abnormal, Borderline, Normal, NGT also Incompletely Imaged, and Swan Ganz Catheter Present. There is no
uncertain label, and no official split with labels; some patients have more than a hundred films, so split
by patient. Pitfall: the films are of ChestX-ray14, so a model pretrained on it has seen them; their
PatientID is not NIH's.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from hilum.config import Config
from hilum.records.defects import Defects
from hilum.records.sources._more import left_out
from hilum.records.sources._places import by_name, files_below, start_of, stem
from hilum.records.sources._tables import numbers, records_of, sheet, with_films
from hilum.records.table import Records


class Settings(Config):
    """Settings of RANZCR CLiP."""

    only_present: bool = False
    """Leave rows out whose film is not there, counted, where the default is to stop."""


FINDINGS = (
    "ETT - Abnormal",
    "ETT - Borderline",
    "ETT - Normal",
    "NGT - Abnormal",
    "NGT - Borderline",
    "NGT - Incompletely Imaged",
    "NGT - Normal",
    "CVC - Abnormal",
    "CVC - Borderline",
    "CVC - Normal",
    "Swan Ganz Catheter Present",
)

log = logging.getLogger(__name__)


def read(root: Path, *, only_present: bool) -> Records:
    """The training films; study is StudyInstanceUID.

    Raises:
        MissingError: the sheet or the films are not there.
        RecordsError: the files have defects; all of them are in the message.
    """
    path = start_of(root, "train.csv", beside=["train"]) / "train.csv"
    defects = Defects(path)
    rows = sheet(path, ["StudyInstanceUID", *FINDINGS, "PatientID"], defects)
    defects.check()
    labels = np.column_stack([numbers(rows[name], defects, rows["line"]) for name in FINDINGS])
    uid = rows["StudyInstanceUID"].str.strip()
    table = pd.DataFrame({"line": rows["line"], "patient": rows["PatientID"], "study": uid})
    there = by_name(files_below(path.parent / "train"), stem, defects)
    left_out(log, set(there) - set(uid), "films that no row of train.csv names")
    table = with_films(table, uid, there, defects, only_present=only_present)
    defects.check()
    kept = labels[table.index.to_numpy()]
    return records_of(table, dict(zip(FINDINGS, kept.T, strict=True)))
