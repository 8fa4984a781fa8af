"""TB Portals: films of tuberculosis from many countries, with drug resistance and cavities.

Rosenthal et al. 2017, https://doi.org/10.1128/JCM.01013-17 (NIAID, with a data use agreement). Expected below
the root, in any folders, of one release:
TB_Portals_CXRs_August_2023.csv (condition_id, imagingstudy_id, series_instance_content_url, and where they
are there country and cxr_outlier), TB_Portals_Patient_Cases_August_2023.csv (condition_id,
type_of_resistance, age_of_onset, gender), the films at the places that series_instance_content_url names
(patient/study/series/film.dcm, or the same names as .png), and, if it is there,
TB_Portals_CXR_Manual_Annotations_August_2023.csv (imagingstudy_id, smallcavities, mediumcavities,
largecavities; a row per sixth of the lungs and reader).

All films are of tuberculosis. Drug Resistance is 0 for "Sensitive" and 1 for types with DR in their name
(MDR non XDR, XDR, Mono DR); other words are unknown, counted and listed. Cavity is 1 where any reader saw
one in any sixth, 0 where readers saw none, unknown on films that were not read. A patient is the first
folder of a film's place; a case (condition_id) is one illness of a patient. The country is the column site.

Releases need a signed agreement, and no file was at hand when this was written: the names are those in
public code of other groups; that of Sensitive and of sexes is not verified. There is no official split;
countries differ in films and resistance, so hold some out.
"""

import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd

from hilum.config import Config
from hilum.errors import MissingError
from hilum.records.cells import ages
from hilum.records.defects import Defects, listed
from hilum.records.sources._more import left_out, sex_of
from hilum.records.sources._places import by_name, files_below, stem
from hilum.records.sources._tables import records_of, refuse_absent, sheet
from hilum.records.table import Records


class Settings(Config):
    """Settings of TB Portals."""

    partial: bool = False
    """Leave out films that are not there, counted and listed, where some parts alone were downloaded.
    Default: all of the release must be there."""
    outliers: bool = False
    """Keep films that the release calls outliers (cxr_outlier)."""


RESISTANCE, CAVITY = "Drug Resistance", "Cavity"
_CAVITIES = ("smallcavities", "mediumcavities", "largecavities")
_RESISTANT = re.compile(r"\b(?:[a-z]*dr)\b", re.IGNORECASE)

log = logging.getLogger(__name__)


def read(root: Path, *, partial: bool, outliers: bool) -> Records:
    """The films with drug resistance of their case, and cavities where readers looked.

    Raises:
        MissingError: a file is not there.
        RecordsError: the files have defects; all of them are in the message.
    """
    sheets = files_below(root, (".csv",))
    defects = Defects(root)
    films = sheet(
        _release(root, sheets, "CXRs"),
        ("condition_id", "imagingstudy_id", "series_instance_content_url"),
        defects,
    )
    cases = sheet(
        _release(root, sheets, "Patient_Cases"),
        ("condition_id", "type_of_resistance", "age_of_onset", "gender"),
        defects,
    )
    defects.check()
    places = films["series_instance_content_url"].str.strip().str.replace("\\", "/")
    bare = places.str.count("/") < 1
    for line in films["line"][bare]:
        problem = "series_instance_content_url names no patient's folder; expected patient/study/series/film"
        defects.add("places", problem, line=int(line))
    told = ["condition_id", "type_of_resistance", "age_of_onset", "gender"]
    cases = cases.drop_duplicates(told)
    again = cases["condition_id"].duplicated()
    for line, case in zip(cases["line"][again], cases["condition_id"][again], strict=True):
        defects.add("cases", f"case {case} is in an earlier line too, with other words", line=int(line))
    cases = cases.loc[~again, told]
    table = films[["line", "condition_id", "imagingstudy_id"]].assign(
        place=places,
        patient=places.str.partition("/")[0],
        film=places.str.rpartition("/")[2].str.removesuffix(".dcm"),
        outlier=films.get("cxr_outlier", pd.Series("", films.index)).str.strip().str.lower() == "outlier",
        site=films.get("country", pd.Series("", films.index)).str.strip(),
    )
    table = table.merge(cases, on="condition_id", how="left")
    lost = table["type_of_resistance"].isna()
    for line, case in zip(table["line"][lost], table["condition_id"][lost], strict=True):
        defects.add("cases", f"case {case} is in no line of the patient cases", line=int(line))
    for line, film in table.loc[table["film"].duplicated(), ["line", "film"]].itertuples(index=False):
        defects.add("films", f"{film} is in an earlier line too", line=line)
    there = by_name(files_below(root), stem, defects, table["film"])
    if not partial:
        refuse_absent(table["film"], there, defects, table["line"])
    defects.check()
    if not outliers:
        left_out(
            log, table.loc[table["outlier"], "film"], "the release calls them outliers; --outliers keeps them"
        )
        table = table[~table["outlier"]]
    absent = ~table["film"].isin(list(there))
    left_out(log, table.loc[absent, "film"], "not there, as --partial allows")
    table = table[~absent].reset_index(drop=True)
    if table.empty:
        raise MissingError(f"{root}: none of the films that the release names is there")
    labels = {RESISTANCE: _resistance(table["type_of_resistance"].str.strip())}
    read_by = _cavities(root, sheets, defects)
    defects.check()
    if read_by is not None:
        labels[CAVITY] = np.array(table["imagingstudy_id"].map(read_by), np.float64)
    whole = pd.DataFrame(
        {
            "image": [str(there[film].absolute()) for film in table["film"]],
            "patient": table["patient"],
            "study": table["imagingstudy_id"],
            "sex": table["gender"].map(sex_of),
            "age": ages(table["age_of_onset"].tolist()),
            "site": table["site"],
            "resistance": table["type_of_resistance"].str.strip(),
        }
    )
    return records_of(whole, labels)


def _release(root: Path, sheets: dict[str, Path], what: str) -> Path:
    """The one sheet of a kind, whatever release it is of."""
    pattern = re.compile(rf"TB[_ ]Portals[_ ]{what.replace('_', '[_ ]')}[_ ].*\.csv", re.IGNORECASE)
    named = sorted(path for path in sheets.values() if pattern.fullmatch(path.name))
    if len(named) != 1:
        places = [str(path.relative_to(root)) for path in named]
        found = f"found {listed(places)}; the root is of one release" if named else "found none below it"
        raise MissingError(f"{root}: expected one TB_Portals_{what}_<month>_<year>.csv, {found}")
    return named[0]


def _resistance(cells: pd.Series) -> np.ndarray:
    """1 resistant, 0 sensitive, NaN where the words say neither."""
    resistant, sensitive = cells.str.contains(_RESISTANT), cells.str.lower() == "sensitive"
    unknown = ~(resistant | sensitive)
    for word, count in cells[unknown].value_counts().items():
        log.info("%d films have resistance %r: it is unknown", count, word)
    return np.where(unknown, np.nan, resistant.astype(np.float64))


def _cavities(root: Path, sheets: dict[str, Path], defects: Defects) -> "pd.Series[float] | None":
    """1 or 0 per imaging study that was read; None where the release's readings are not there."""
    if not any("manual" in name.lower() for name in sheets):
        log.info("there is no TB_Portals_CXR_Manual_Annotations: cavities are not in the table")
        return None
    told = sheet(_release(root, sheets, "CXR_Manual_Annotations"), ("imagingstudy_id", *_CAVITIES), defects)
    counts = told[list(_CAVITIES)].apply(
        lambda cells: pd.to_numeric(cells.str.strip().replace("", "0"), errors="coerce")
    )
    for line in told["line"][counts.isna().any(axis=1)]:
        defects.add("cavities", f"one of {', '.join(_CAVITIES)} is no number", line=int(line))
    seen = (counts > 0).any(axis=1).astype(np.float64)
    most: pd.Series[float] = seen.groupby(told["imagingstudy_id"]).max()
    return most
