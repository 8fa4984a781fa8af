"""Any folder of DICOM films: who they are of as salted hashes, and view, sex and age of their headers.

DICOM PS3.3, https://dicom.nema.org/medical/dicom/current/output/html/part03.html. Expected below the root:
DICOM files in any folders, such as an archive gives them out; with --every-file also those of other endings.

Only headers are read, by this library's own reader, and of them PatientID and StudyInstanceUID (as keyed
hashes of 16 hexadecimal digits), ViewPosition (left and right laterals are LATERAL), PatientSex and
PatientAge (whole years; 90 stands for 90 and over). No name, date, place, number or text of a header
reaches the table, a message or a log. The paths of the files do: rename folders that are called by a person.

The same salt gives the same hashes, so films that come later find their patients; without it hashes cannot
be traced to an ID. Keep it as secret as the IDs. There are no labels: add columns of your own, or train by a
method that needs none. Files that are no film of a chest (other modalities, reports, damaged ones) are
listed with their reasons.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import pandas as pd

from hilum.config import Config
from hilum.errors import ConfigError, ImageError, MissingError
from hilum.progress import Progress
from hilum.records.defects import Defects
from hilum.records.sources._more import left_out
from hilum.records.sources._places import files_below
from hilum.records.sources._tables import records_of
from hilum.records.table import Records


class Settings(Config):
    """Settings of a folder of DICOM films."""

    salt: str
    """A secret of 8 or more characters, which hashes are made with. Keep it: it finds patients again."""
    patient: Literal["tag", "folder", "film"] = "tag"
    """Whose films belong together: those of one PatientID, those below one folder of the root, or each film
    alone."""
    every_file: bool = False
    """Look at files of any ending; those without DICOM's marker are left out, counted and listed."""
    exclude_unreadable: bool = False
    """Leave out what is no readable film of a chest, counted and listed, where the default is to stop."""


SHORTEST_SALT = 8
_ENDINGS = (".dcm", ".dicom")

log = logging.getLogger(__name__)


def read(
    root: Path,
    *,
    salt: str,
    patient: str,
    every_file: bool,
    exclude_unreadable: bool,
    look: Callable[[Path, str], Mapping[str, str]],
) -> Records:
    """The films with what may be known of them, in the order of their paths.

    Args:
        root: the folder.
        salt: as set.
        patient: as set.
        every_file: as set.
        exclude_unreadable: as set.
        look: gives the columns patient, study, view, sex and age of a file and a salt, or raises ImageError.

    Raises:
        ConfigError: the salt is too short.
        MissingError: there is no such folder, or nothing in it.
        RecordsError: files are no readable films; all of them are in the message.
    """
    if len(salt) < SHORTEST_SALT:
        raise ConfigError(f"--salt has {len(salt)} characters; give {SHORTEST_SALT} or more, and keep them")
    files = files_below(root, ("",) if every_file else _ENDINGS) if root.is_dir() else {}
    if not files:
        raise MissingError(f"{root}: no such folder, or no .dcm in it; --every-file looks at all endings")
    defects, rows = Defects(root), []
    unread: dict[str, list[str]] = defaultdict(list)
    with Progress("Reading headers", len(files), unit="files") as line:
        for done, (name, path) in enumerate(sorted(files.items()), 1):
            try:
                rows.append({"name": name, "image": str(path.absolute()), **look(path, salt)})
            except ImageError as error:
                unread[str(error)].append(name)
            line.update(done)
    for reason, names in unread.items():
        if exclude_unreadable:
            left_out(log, names, reason)
        else:
            way_out = "--exclude-unreadable leaves it out"
            first = ((0, f"{name}: {reason}; {way_out}") for name in names[:20])
            defects.add_many("files that are no film", first, len(names))
    if not rows:
        defects.add("films", "no file is a readable film of a chest")
    defects.check()
    table = _by_patient(pd.DataFrame(rows, dtype="str"), patient, defects)
    defects.check()
    if len(table) > 1 and table["patient"].nunique() == 1:
        why = "the root may be one folder too high" if patient == "folder" else "its ID may stand for nobody"
        log.warning("all %d films are of one patient, so they cannot be split: %s", len(table), why)
    for column in ("view", "sex", "age"):
        unsaid = int((table[column] == "").sum())
        if unsaid:
            log.info("%d headers do not say the %s; it is unknown", unsaid, column)
    return records_of(table.drop(columns="name"), {})


def _by_patient(table: pd.DataFrame, patient: str, defects: Defects) -> pd.DataFrame:
    """The table with the patient of each film as it was asked for."""
    if patient == "film":
        log.warning("each of %d films counts as a patient of its own, as asked by --patient", len(table))
        return table.assign(patient=table["name"])
    if patient == "folder":
        loose = table["name"][~table["name"].str.contains("/")]
        for name in loose:
            defects.add(
                "films in no folder", f"{name} lies in the root itself; --patient folder needs a folder"
            )
        return table.assign(patient=table["name"].str.partition("/")[0])
    for name in table["name"][table["patient"] == ""]:
        problem = f"{name} has no PatientID, so films of one person could be both trained and tested on"
        defects.add("films of nobody", f"{problem}; say --patient folder or --patient film")
    return table
