"""MIMIC-CXR-JPG 2.0.0 and 2.1.0: 377,110 films of 65,379 patients of Boston, 14 findings mined from reports.

Johnson et al. 2019, https://arxiv.org/abs/1901.07042 and https://doi.org/10.13026/jsn5-t979. PhysioNet's
credentialed licence 1.5.0: a course, no sharing, no re-identification, and no sending of films or reports to
services of others.

Expected below the root, as downloaded (or a folder above it): mimic-cxr-2.0.0-metadata.csv.gz (dicom_id,
subject_id, study_id, ViewPosition and others), -split.csv.gz (dicom_id, study_id, subject_id, split),
-chexpert.csv.gz or -negbio.csv.gz (subject_id, study_id and the 14 findings), each packed or not, and
files/p10/p10000032/s50414267/DICOM_ID.jpg (or .png, .dcm: of several endings the first of these is read).
Reports are the other download, mimic-cxr-reports, with p10/p10000032/s50414267.txt in it or in its `files`.

Labels are of an exam and carry to its films: 1, 0 and -1 stay, and -1 becomes what --uncertain says later.
An empty cell is a finding that the report does not mention. A few exams have no row of labels: unknown. The
official split is train, validate and test, by patient. Neither sex nor age is in this download.

Version 2.1.0 adds mimic-cxr-2.1.0-test-set-labeled.csv: study_id and the 14 findings with the same four
kinds of cells, as one radiologist read them in reports (not on films) of the test split. By others' code it
has 687 exams and calls Lung Opacity "Airspace Opacity"; either name is read. With --test-labels radiologist
they are the labels of the test split, and what she did not read is unknown there.

With `reports`, the column text has what `section` says of the report, and films are left out whose text has
fewer than 3 words, as Pretrain_Chest_X-rays and LoVT do: an exam may lack either section. A header is a line
that begins in capitals, as in the authors' own code (https://github.com/MIT-LCP/mimic-cxr): CONCLUSION counts
as impression, CHEST, TWO VIEWS and other headers that name the exam as findings.
"""

import logging
import re
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.config import Config
from hilum.progress import Progress
from hilum.records.cells import split_of
from hilum.records.defects import SHOWN, Defects
from hilum.records.sources._chexpert import FINDINGS, OLDER, labels_of
from hilum.records.sources._more import left_out, mimic_folder, mimic_sheet, mimic_start, plain_text
from hilum.records.sources._places import files_below, start_of
from hilum.records.sources._tables import keep, of_views, records_of, refuse_absent, sheet, with_films
from hilum.records.table import Records


class Settings(Config):
    """Settings of MIMIC-CXR-JPG."""

    views: list[str] = ["AP", "PA"]
    """The projections that are kept, as ViewPosition has them, for example LATERAL; none named: all."""
    labeller: Literal["chexpert", "negbio"] = "chexpert"
    """Whose labels are read."""
    test_labels: Literal["same", "radiologist"] = "same"
    """Whose labels the test split has: the labeller's too, or a radiologist's (version 2.1.0)."""
    blank: Literal["zero", "unknown", "no_finding"] = "zero"
    """What an empty label is: 0, unknown, or 0 on films whose No Finding is 1 and unknown on others."""
    reports: Path | None = None
    """The folder of the reports; none: no texts."""
    section: Literal["findings", "impression", "both"] = "both"
    """Which section of a report is the text; both keeps their headers, which --section reads later."""
    only_present: bool = False
    """Leave rows out whose film is not there, counted, where the default is to stop."""


FEWEST = 3
"""Words that a text has at least."""
_HEADER = re.compile(
    r"(?:^|(?<=\n))[ \t]*"
    r"([A-Z][A-Z ()/,&-]{2,60}|(?i:findings?(?: and impression)?|impression|conclusion)):(?=\s|$)"
)
_PARTS = {"impression": re.compile("IMPRESSION|CONCLUSION"), "findings": re.compile("FINDING")}
_OTHERS = re.compile("EXAM|INDICATION|HISTORY|COMPARISON|TECHNIQUE|REASON|NOTIF|RECOMM|ADDENDUM|WET READ")
_NAMES_EXAM = re.compile(r"CHEST|PORTABLE|VIEW|\b(?:PA|AP|LAT(?:ERAL)?) AND\b|FRONTAL")
_ENDINGS = (".jpg", ".jpeg", ".png", ".dcm")
_PATIENTS = tuple(f"p{number}" for number in range(10, 20))
log = logging.getLogger(__name__)
_KEYS = ["dicom_id", "subject_id", "study_id"]


def read(
    root: Path,
    *,
    views: list[str],
    labeller: str,
    test_labels: str,
    blank: str,
    reports: Path | None,
    section: str,
    only_present: bool,
) -> Records:
    """The films of some projections with the official split; study is MIMIC's study_id.

    Raises:
        MissingError: a file or folder is not there.
        ConfigError: no film is of the projections.
        RecordsError: the files have defects; all of them are in the message.
    """
    base = mimic_start(root)
    metadata, splitting = (mimic_sheet(base, name) for name in ("metadata", "split"))
    labelled = [mimic_sheet(base, labeller)]
    if test_labels == "radiologist":
        labelled.append(mimic_sheet(base, "test-set-labeled"))
    folder = mimic_folder(base)
    defects = Defects(base)
    films = sheet(metadata, [*_KEYS, "ViewPosition"], defects)
    splits = sheet(splitting, ["dicom_id", "split"], defects)
    exams = {path.name: sheet(path, ["study_id", *FINDINGS], defects, older=OLDER) for path in labelled}
    defects.check()
    table = _described(films, splits, (metadata.name, splitting.name), defects)
    labels = {name: _labels(rows, blank, name, defects) for name, rows in exams.items()}
    defects.check()
    there = _films(folder)
    left_out(log, set(there) - set(table["name"]), f"films that no row of {metadata.name} names")
    for name, known in list(labels.items())[1:]:
        others = set(known.index) - set(table["study"][table["split"] == "test"])
        left_out(log, others, f"exams of {name} that the test split does not have")
    table = of_views(table, views)
    if reports is not None:
        table = _with_texts(table, reports, section, defects)
    table = with_films(table, table["name"], there, defects, only_present=only_present)
    defects.check()
    values = _joined(labels, table)
    return records_of(table.drop(columns="name"), dict(zip(FINDINGS, values.T, strict=True)))


def section_of(report: str, section: str) -> str:
    r"""The findings, the impression, or both with their headers; empty where the report lacks them.

    >>> report = " FINDINGS: \n \n The heart is\n large.\n \n IMPRESSION: \n \n Failure."
    >>> section_of(report, "impression"), section_of(report, "both")
    ('Failure.', 'FINDINGS: The heart is large. IMPRESSION: Failure.')
    """
    headers = list(_HEADER.finditer(report))
    ends = [*(header.start() for header in headers[1:]), len(report)][: len(headers)]
    parts: dict[str, list[str]] = {"findings": [], "impression": []}
    for header, end in zip(headers, ends, strict=True):
        if name := _part_of(header[1].upper()):
            parts[name] += report[header.end() : end].split()
    return " ".join(
        f"{name.upper()}: {' '.join(words)}" if section == "both" else " ".join(words)
        for name, words in parts.items()
        if words and section in (name, "both")
    )


def _part_of(header: str) -> str:
    """Findings or impression; empty for other headers."""
    for name, pattern in _PARTS.items():
        if pattern.search(header):
            return name
    return "findings" if _NAMES_EXAM.search(header) and not _OTHERS.search(header) else ""


def _films(folder: Path) -> dict[str, Path]:
    """The films by their path without its ending, which of several endings is the first of `_ENDINGS`."""
    there: dict[str, Path] = {}
    ranks: dict[str, int] = {}
    for name, path in files_below(folder, _ENDINGS).items():
        stem, point, ending = name.rpartition(".")
        rank = _ENDINGS.index(point + ending.lower())
        if rank < ranks.get(stem, len(_ENDINGS)):
            there[stem], ranks[stem] = path, rank
    return there


def _labels(exams: pd.DataFrame, blank: str, file: str, defects: Defects) -> pd.DataFrame:
    """The labels of a sheet's exams by study_id."""
    _refuse_repeated(exams, "study_id", file, defects)
    labels = labels_of(exams, blank, defects, file=file)
    return pd.DataFrame(labels, index=exams["study_id"].str.strip())


def _joined(labels: dict[str, pd.DataFrame], table: pd.DataFrame) -> NDArray[np.float64]:
    """The labels of every film by its exam; of two sheets the second has those of the test split."""
    values = np.empty((len(table), len(FINDINGS)))
    whose = [np.ones(len(table), bool), (table["split"] == "test").to_numpy()]
    for (name, known), rows in zip(labels.items(), whose[: len(labels)], strict=True):
        values[rows] = known.reindex(table["study"][rows]).to_numpy(np.float64)
        without = int(np.isnan(values[rows]).all(axis=1).sum())
        if without:
            log.info("%d of %d films have no labels: their exam is not in %s", without, rows.sum(), name)
    return values


def _described(
    films: pd.DataFrame, splits: pd.DataFrame, files: tuple[str, str], defects: Defects
) -> pd.DataFrame:
    """What the sheets of films and of splits say of every film; `name` is its path without the ending."""
    for rows, file in zip((films, splits), files, strict=True):
        _refuse_repeated(rows, "dicom_id", file, defects)
    _refuse_splits(films, splits, files, defects)
    split = films["dicom_id"].map(splits.drop_duplicates("dicom_id").set_index("dicom_id")["split"])
    places = "p" + films["subject_id"].str[:2] + "/p" + films["subject_id"] + "/s" + films["study_id"]
    return pd.DataFrame(
        {
            "line": films["line"],
            "sheet": files[0],
            "patient": films["subject_id"],
            "split": split.map({cell: split_of(cell) for cell in set(split.dropna())}),
            "study": films["study_id"],
            "view": films["ViewPosition"].str.strip(),
            "name": places + "/" + films["dicom_id"],
        }
    )


def _refuse_repeated(table: pd.DataFrame, key: str, file: str, defects: Defects) -> None:
    again = table[key].duplicated()
    shown = table.loc[again, ["line", key]].head(SHOWN).itertuples(index=False)
    problems = ((int(line), f"{file}: {key} {cell} is in an earlier row too") for line, cell in shown)
    defects.add_many(f"repeated rows of {file}", problems, int(again.sum()))


def _refuse_splits(
    films: pd.DataFrame, splits: pd.DataFrame, files: tuple[str, str], defects: Defects
) -> None:
    bad = splits[~splits["split"].isin([cell for cell in set(splits["split"]) if split_of(cell)])]
    shown = bad[["line", "dicom_id", "split"]].head(SHOWN).itertuples(index=False)
    problems = ((int(line), f"{files[1]}: split of {name} is {cell!r}") for line, name, cell in shown)
    defects.add_many("splits", problems, len(bad))
    lost = films[~films["dicom_id"].isin(splits["dicom_id"])]
    shown = lost[["line", "dicom_id"]].head(SHOWN).itertuples(index=False)
    problems = ((int(line), f"{files[0]}: {name} is in no row of {files[1]}") for line, name in shown)
    defects.add_many("films without a split", problems, len(lost))


def _with_texts(table: pd.DataFrame, reports: Path, section: str, defects: Defects) -> pd.DataFrame:
    """The films with the text of their exam; those with next to none are left out."""
    start = start_of(reports, *_PATIENTS, flag="--reports")
    there = files_below(start, (".txt",))
    exams = table[["patient", "study", "line", "sheet"]].drop_duplicates("study")
    names = "p" + exams["patient"].str[:2] + "/p" + exams["patient"] + "/s" + exams["study"] + ".txt"
    way_out = f" below {start}"
    refuse_absent(
        names, there, defects, exams["line"], what="reports", way_out=way_out, sheets=exams["sheet"]
    )
    texts = {}
    with Progress("Reading reports", len(exams), unit="reports") as line:
        for done, (study, name) in enumerate(zip(exams["study"], names, strict=True), 1):
            if name in there:
                texts[study] = section_of(plain_text(there[name], defects), section)
            line.update(done)
    told = pd.Series([texts.get(study, "") for study in table["study"]], index=table.index, dtype="str")
    words = told.str.replace(r"(?:FINDINGS|IMPRESSION):", "", regex=True).str.count(r"\S+")
    what = "findings and impression" if section == "both" else section
    why = f"the {what} of their report {'have' if section == 'both' else 'has'} fewer than {FEWEST} words"
    return keep(table.assign(text=told), (words >= FEWEST) | ~table["study"].isin(list(texts)), why)
