"""BRAX 1.1.0: 40,967 films of Sao Paulo, 14 findings mined from Portuguese reports, some uncertain.

Reis et al. 2022, https://doi.org/10.1038/s41597-022-01608-8. PhysioNet's credentialed licence.

Expected below the root, as downloaded (or a folder above it): master_spreadsheet_update.csv (DicomPath,
PngPath, PatientID, PatientSex, PatientAge, AccessionNumber, StudyDate, the 14 findings of CheXpert,
ViewPosition, Rows, Columns, Manufacturer), images/id_.../Study_.../Series_.../image-....png and, or instead,
Anonymized_DICOMs/ with the same folders; in version 1.0.0 their files have no ending. (The columns are from
the publication and from others' code.)

Labels: 1, 0 and -1 stay, and -1 becomes what --uncertain says later; an empty cell is a finding that the
report does not mention. Ages are of bands of five years, and "85 or more" is 85. There is no official
split. Pitfall: PNG files were made of the DICOM with its window, and are of full size.
"""

import logging
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from hilum.config import Config
from hilum.errors import MissingError
from hilum.records.cells import ages
from hilum.records.defects import Defects
from hilum.records.sources._chexpert import FINDINGS, labels_of
from hilum.records.sources._more import left_out
from hilum.records.sources._places import by_name, files_below, found, start_of
from hilum.records.sources._tables import of_views, records_of, sexes, sheet, with_films
from hilum.records.table import Records


class Settings(Config):
    """Settings of BRAX."""

    films: Literal["png", "dicom"] = "png"
    """Which files are read."""
    views: list[str] = ["AP", "PA"]
    """The projections that are kept, as ViewPosition has them, for example L and RL; none named: all."""
    blank: Literal["zero", "unknown", "no_finding"] = "zero"
    """What an empty label is: 0, unknown, or 0 on films whose No Finding is 1 and unknown on others."""
    only_present: bool = False
    """Leave rows out whose film is not there, counted, where the default is to stop."""


SHEETS = ("master_spreadsheet_update.csv", "master_spreadsheet.csv")
PATHS = {"png": "PngPath", "dicom": "DicomPath"}
FOLDERS = {"png": "images", "dicom": "Anonymized_DICOMs"}
DETAILS = ("PatientID", "PatientSex", "PatientAge", "AccessionNumber", "ViewPosition")

log = logging.getLogger(__name__)


def read(root: Path, *, films: str, views: list[str], blank: str, only_present: bool) -> Records:
    """The films of some projections; study is AccessionNumber.

    Raises:
        MissingError: the sheet or the folder of the films is not there.
        ConfigError: no film is of the projections.
        RecordsError: the files have defects; all of them are in the message.
    """
    path = found(start_of(root, *SHEETS), *SHEETS)
    folder = path.parent / FOLDERS[films]
    if not folder.is_dir():
        raise MissingError(f"{path.parent}: expected {folder.name}/ in it, which --films {films} reads")
    defects = Defects(path)
    rows = sheet(path, [PATHS[films], *DETAILS, *FINDINGS], defects)
    defects.check()
    labels = np.column_stack(list(labels_of(rows, blank, defects, file=path.name).values()))
    age = rows["PatientAge"].str.strip().str.replace(r"^(\d+) or more$", r"\1", regex=True)
    table = pd.DataFrame(
        {
            "line": rows["line"],
            "patient": rows["PatientID"],
            "study": rows["AccessionNumber"],
            "view": rows["ViewPosition"].str.strip(),
            "sex": sexes(rows["PatientSex"]),
            "age": ages(age.tolist()),
            "name": rows[PATHS[films]].str.strip().str.removesuffix(".dcm"),
        }
    )
    endings = (".png",) if films == "png" else ("",)
    files = {f"{folder.name}/{name}": file for name, file in files_below(folder, endings).items()}
    there = by_name(files, lambda name: name.removesuffix(".dcm"), defects)
    left_out(log, set(there) - set(table["name"]), f"files that no row of {path.name} names")
    table = of_views(table, views)
    table = with_films(table, table["name"], there, defects, only_present=only_present)
    defects.check()
    kept = labels[table.index.to_numpy()]
    return records_of(table.drop(columns="name"), dict(zip(FINDINGS, kept.T, strict=True)))
