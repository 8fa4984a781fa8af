"""PadChest: 160,000 films of 67,000 patients of Alicante, 174 findings and 19 diagnoses of Spanish reports.

Bustos et al. 2020, https://arxiv.org/abs/1901.07441. BIMCV's research use agreement.

Expected below the root, as downloaded: PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv, packed or not
(ImageID, ImageDir, StudyDate_DICOM, StudyID, PatientID, PatientBirth, PatientSex_DICOM, Projection,
MethodLabel, Labels, Report and others), and the films, .png of 16 bits, in folders 0 to 54 or anywhere else
below the root: they are found by name. (The columns are those of others' code; the sheet itself was not
seen.)

Labels is a Python list as text, such as "['pleural effusion', 'loc basal']", which is taken apart and never
run. A film is 1 for what it names and 0 for all other findings. Words that begin with "loc " are places and
are dropped, as are "suboptimal study" and "unchanged": a film with nothing but these has unknown labels, as
one with an empty cell has. Films of "exclude" are left out, and findings of fewer than `fewest` films; both
are counted. "normal" is a column too. There is no uncertain label.

A quarter of the films were labelled by physicians (MethodLabel Physician), the others by a network that
read the reports (RNN_model). Views are PA, AP, L (here LATERAL), AP_horizontal (here AP SUPINE), COSTAL,
and EXCLUDE and UNK for what is no chest film or unknown. There is no official split. Pitfalls: a dozen
files cannot be decoded (`--exclude-unreadable` later); ages are the year of the exam less that of birth.
"""

import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.config import Config
from hilum.records.cells import ages
from hilum.records.defects import Defects, listed, quote
from hilum.records.sources._places import basename, by_name, files_below, found, start_of
from hilum.records.sources._tables import keep, of_views, records_of, sexes, sheet, with_films
from hilum.records.table import Records


class Settings(Config):
    """Settings of PadChest."""

    views: list[str] = ["PA", "AP", "AP SUPINE"]
    """The projections that are kept, of these, LATERAL, COSTAL, EXCLUDE and UNK; none named: all."""
    physician: bool = False
    """Keep only films that were labelled by physicians; the others were labelled by a network."""
    fewest: int = 50
    """Findings on fewer films than this are left out."""
    text: bool = False
    """Keep the report, in Spanish and reduced to stems of words, as the column text."""
    only_present: bool = False
    """Leave rows out whose film is not there, counted, where the default is to stop."""


SHEET = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
COLUMNS = ("ImageID", "PatientID", "StudyID", "Projection", "MethodLabel", "Labels", "PatientSex_DICOM")
DATES = ("StudyDate_DICOM", "PatientBirth")
VIEWS = {"L": "LATERAL", "AP_horizontal": "AP SUPINE"}
NO_FINDINGS = ("", "unchanged", "suboptimal study", "exclude")
"""Labels that say nothing of what is on the film."""
_ITEM = r"""(?:'[^']*'|"[^"]*")"""
_LIST = re.compile(rf"\[\s*(?:{_ITEM}\s*(?:,\s*{_ITEM}\s*)*,?)?\s*\]")

log = logging.getLogger(__name__)


def read(
    root: Path, *, views: list[str], physician: bool, fewest: int, text: bool, only_present: bool
) -> Records:
    """The films of some projections, a finding per label; study is StudyID.

    Raises:
        MissingError: the sheet is not there.
        ConfigError: no film is of the projections.
        RecordsError: the files have defects; all of them are in the message.
    """
    base = start_of(root, SHEET, f"{SHEET}.gz")
    path = found(base, SHEET, f"{SHEET}.gz")
    defects = Defects(path)
    rows = sheet(path, [*COLUMNS, *DATES, *(["Report"] if text else [])], defects)
    codes, cells = pd.factorize(rows["Labels"].str.strip())
    named = [labels_of(cell) for cell in cells]
    _refuse_lists(rows, codes, [one is None for one in named], defects)
    defects.check()
    year = pd.to_numeric(rows["StudyDate_DICOM"].str.strip().str[:4], errors="coerce")
    age = year - pd.to_numeric(rows["PatientBirth"], errors="coerce")
    table = pd.DataFrame(
        {
            "line": rows["line"],
            "patient": rows["PatientID"],
            "study": rows["StudyID"],
            "view": rows["Projection"].str.strip().replace(VIEWS),
            "sex": sexes(rows["PatientSex_DICOM"]),
            "age": ages([f"{one:g}" if np.isfinite(one) else "" for one in age.tolist()]),
            "name": rows["ImageID"].str.strip(),
            "labels": codes,
        }
    )
    if text:
        table["text"] = rows["Report"]
    excluded = [place for place, one in enumerate(named) if one is not None and "exclude" in one]
    table = keep(table, ~table["labels"].isin(excluded), "they are labelled 'exclude'")
    if physician:
        by_hand = rows["MethodLabel"].str.strip().loc[table.index] == "Physician"
        table = keep(table, by_hand, "they were not labelled by physicians")
    table = of_views(table, views)
    there = by_name(files_below(root), basename, defects, table["name"])
    table = with_films(table, table["name"], there, defects, only_present=only_present)
    defects.check()
    return records_of(
        table.drop(columns=["name", "labels"]),
        _labels(table["labels"].to_numpy(np.int64), [one or () for one in named], fewest),
    )


def labels_of(cell: str) -> tuple[str, ...] | None:
    """The labels of a cell, which is a list as Python writes it, without places; None: it is no list.

    >>> labels_of("[' pleural effusion', 'loc basal', 'normal']"), labels_of(""), labels_of("[exit()]")
    (('pleural effusion', 'normal'), (), None)
    """
    if cell in ("", "nan"):
        return ()
    if _LIST.fullmatch(cell) is None:
        return None
    words = [word[1:-1].strip().lower() for word in re.findall(_ITEM, cell)]
    return tuple(dict.fromkeys(word for word in words if not word.startswith("loc ")))


def _refuse_lists(rows: pd.DataFrame, codes: NDArray[np.int64], bad: list[bool], defects: Defects) -> None:
    at = np.flatnonzero(np.array(bad, bool)[codes]) if bad else np.empty(0, np.int64)
    shown = [(int(rows["line"].iloc[row]), quote(rows["Labels"].iloc[row])) for row in at[:20].tolist()]
    problems = ((line, f"found {cell}; expected a list such as ['normal']") for line, cell in shown)
    defects.add_many("lists", problems, len(at), column="Labels")


def _labels(
    codes: NDArray[np.int64], named: list[tuple[str, ...]], fewest: int
) -> dict[str, NDArray[np.float64]]:
    """1, 0 or NaN by finding, the most frequent first; rare ones are left out and counted."""
    films = np.bincount(codes, minlength=len(named))
    counts: dict[str, int] = {}
    for words, count in zip(named, films.tolist(), strict=True):
        for word in words:
            counts[word] = counts.get(word, 0) + (count if word not in NO_FINDINGS else 0)
    findings = sorted((w for w, n in counts.items() if n >= max(fewest, 1)), key=lambda w: (-counts[w], w))
    rare = [word for word, count in counts.items() if 0 < count < fewest]
    if rare:
        log.info("%d findings on fewer than %d films are left out", len(rare), fewest)
    place = {word: column for column, word in enumerate(findings)}
    distinct = np.zeros((len(named), len(findings)))
    for row, words in enumerate(named):
        if all(word in NO_FINDINGS for word in words):
            distinct[row] = np.nan
        distinct[row, [place[word] for word in words if word in place]] = 1
    unknown = int(films[np.isnan(distinct).any(axis=1)].sum()) if findings else 0
    if unknown:
        nothing = listed(word for word in NO_FINDINGS if word)
        log.info("%d of %d films have unknown labels: none, or only %s", unknown, len(codes), nothing)
    return {word: distinct[codes, column] for word, column in place.items()}
