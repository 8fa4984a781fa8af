"""Pulmonary oedema severity: grades 0 to 3 of films and reports of MIMIC-CXR.

Horng et al. 2021, https://doi.org/10.1148/ryai.2021190228, and Chauhan et al. 2020,
https://arxiv.org/abs/2008.09884. The labels are free to read; the films need MIMIC-CXR's data use
agreement. Expected below the root, as in the authors' repository mimic_cxr_edema:
consensus_image_edema_severity.csv (subject_id, study_id, dicom_id, edema_severity: 141 films by consensus),
regex_report_edema_severity.csv (subject_id, study_id, edema_severity: 6,710 reports by a program) and
expert_report_edema_severity.csv (the same of 485 reports by people). In --mimic: MIMIC-CXR or MIMIC-CXR-JPG,
files/p10/p10000980/s54577367/*.jpg or .dcm, and mimic-cxr-2.0.0-metadata.csv.gz of the latter (dicom_id,
subject_id, study_id, ViewPosition).

Grades are 0 none, 1 vascular congestion, 2 interstitial, 3 alveolar oedema. They become the findings
edema>=1 to edema>=3 (with the sign that --ordinal makes), so that the table needs no further setting to be
read as one severity. A report's grade goes to each of its frontal films.

Split as the authors do: the consensus is the test split; films of reports are the training split, without
the patients of the test split, who are left out and counted. A share of the training patients becomes the
validation split, which the authors' files do not have.
"""

import logging
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from hilum.config import Config
from hilum.records.defects import Defects, quote
from hilum.records.ordinal import cumulative
from hilum.records.sources._more import left_out, mimic_films, mimic_sheet, mimic_start
from hilum.records.sources._places import found, start_of
from hilum.records.sources._tables import records_of, sheet, with_validation
from hilum.records.table import Records


class Settings(Config):
    """Settings of the grades of pulmonary oedema."""

    mimic: Path
    """The folder of MIMIC-CXR or MIMIC-CXR-JPG, with files and mimic-cxr-2.0.0-metadata.csv.gz in it."""
    reports: Literal["regex", "expert"] = "regex"
    """Whose grades of reports the training split has: a program's, or people's."""
    val: float = 0.1
    """Share of the training patients that become the validation split; 0: there is none."""


HIGHEST = 3
FINDING = "edema"
FRONTAL = ("AP", "PA")

log = logging.getLogger(__name__)


def read(root: Path, *, mimic: Path, reports: str, val: float) -> Records:
    """The films with their grades, those of reports as training and those of the consensus as test split.

    Raises:
        MissingError: a file or folder is not there.
        RecordsError: the files have defects; all of them are in the message.
    """
    root = start_of(root, "consensus_image_edema_severity.csv")
    consensus = root / "consensus_image_edema_severity.csv"
    told = found(root, f"{reports}_report_edema_severity.csv")
    mimic = mimic_start(mimic, flag="--mimic")
    listed_films = mimic_sheet(mimic, "metadata")
    defects = Defects(root)
    test = _graded(consensus, ("subject_id", "study_id", "dicom_id", "edema_severity"), defects)
    train = _graded(told, ("subject_id", "study_id", "edema_severity"), defects)
    films = sheet(listed_films, ("dicom_id", "subject_id", "study_id", "ViewPosition"), defects)
    defects.check()
    films = films.rename(columns={"dicom_id": "film", "study_id": "study", "ViewPosition": "view"})
    films["view"] = films["view"].str.strip().str.upper()
    known = films.set_index("film")["view"]
    test = test.rename(columns={"dicom_id": "film"}).assign(split="test")
    test["view"] = test["film"].map(known[~known.index.duplicated()]).fillna("")
    held = train["patient"].isin(test["patient"])
    left_out(log, train.loc[held, "study"], "reports of patients of the test split")
    train = train[~held].assign(split="train")
    of_reports = train.merge(films[["film", "study", "view"]], on="study", how="left")
    for line, study in of_reports.loc[of_reports["film"].isna(), ["line", "study"]].itertuples(index=False):
        defects.add(
            "reports without a film",
            f"{told.name}: study {study} is not in {listed_films.name}",
            line=int(line),
        )
    defects.check()
    frontal = of_reports["view"].isin(FRONTAL)
    left_out(log, of_reports.loc[~frontal, "film"], "films of reports that are not AP or PA")
    table = pd.concat([of_reports[frontal], test], ignore_index=True)
    again = table.loc[table["film"].duplicated(), ["line", "film", "split"]]
    for line, film, split in again.itertuples(index=False):
        file = (consensus if split == "test" else told).name
        defects.add("films", f"{file}: {film} has two grades", line=int(line))
    table["image"] = mimic_films(mimic, table, defects)
    defects.check()
    grades = table["edema_severity"].to_numpy(np.float64)
    labels = {
        cumulative(FINDING, grade): (grades >= grade).astype(np.float64) for grade in range(1, HIGHEST + 1)
    }
    records = records_of(table[["image", "patient", "split", "study", "view"]], labels)
    return with_validation(records, val, flag="--val")


def _graded(path: Path, wanted: tuple[str, ...], defects: Defects) -> pd.DataFrame:
    """A sheet of grades: its defects are named by their line; `patient` and `study` are its IDs."""
    table = sheet(path, wanted, defects).rename(columns={"subject_id": "patient", "study_id": "study"})
    cells = table["edema_severity"].str.strip().str.removesuffix(".0")
    bad = ~cells.isin([str(grade) for grade in range(HIGHEST + 1)])
    for line, cell in zip(table["line"][bad], cells[bad], strict=True):
        defects.add("grades", f"{path.name}: found {quote(cell)}; expected 0 to {HIGHEST}", line=int(line))
    return table.assign(edema_severity=cells)
