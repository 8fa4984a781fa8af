"""MIMIC-CXR-JPG 2.0.0 and 2.1.0: 377,110 films of 65,379 patients of Boston, 14 findings mined from reports.

Johnson et al. 2019, https://arxiv.org/abs/1901.07042 and https://doi.org/10.13026/8360-t248. PhysioNet's
credentialed licence: a course, no sharing, no re-identification, and no sending of films or reports to
services of others.

Expected below the root, as downloaded: mimic-cxr-2.0.0-metadata.csv.gz (dicom_id, subject_id, study_id,
ViewPosition and others), -split.csv.gz (dicom_id, study_id, subject_id, split), -chexpert.csv.gz or
-negbio.csv.gz (subject_id, study_id and the 14 findings), each packed or not, and
files/p10/p10000032/s50414267/DICOM_ID.jpg (or .png, .dcm). Reports are the other download,
mimic-cxr-reports, with p10/p10000032/s50414267.txt in it or in its folder files.

Labels are of an exam and carry to its films: 1, 0 and -1 stay, and -1 becomes what --uncertain says later.
An empty cell is a finding that the report does not mention. A few exams have no row of labels: unknown. The
official split is train, validate and test, by patient. Neither sex nor age is in this download.

With `reports`, the column text has what `section` says of the report, and films are left out whose text has
fewer than 3 words, as Pretrain_Chest_X-rays and LoVT do: an exam may lack either section.
"""

import logging
import re
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from hilum.config import Config
from hilum.errors import MissingError, RecordsError
from hilum.records.cells import split_of
from hilum.records.defects import Defects
from hilum.records.sources._chexpert import FINDINGS, labels_of
from hilum.records.sources._tables import files_below, keep, of_views, records_of, sheet, with_films
from hilum.records.table import Records


class Settings(Config):
    """Settings of MIMIC-CXR-JPG."""

    views: list[str] = ["AP", "PA"]
    """The projections that are kept, as ViewPosition has them, for example LATERAL; none named: all."""
    labeller: Literal["chexpert", "negbio"] = "chexpert"
    """Whose labels are read."""
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
_HEADER = re.compile(r"(?:^|(?<=\n))[ \t]*([A-Z][A-Za-z ()/,&-]{2,60}):(?=\s|$)")
_PARTS = {"FINDINGS": re.compile("FINDING"), "IMPRESSION": re.compile("IMPRESSION|CONCLUSION")}
log = logging.getLogger(__name__)
_KEYS = ["dicom_id", "subject_id", "study_id"]


def read(
    root: Path,
    *,
    views: list[str],
    labeller: str,
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
    paths = [_sheet(root, name) for name in ("metadata", "split", labeller)]
    if not (root / "files").is_dir():
        raise MissingError(f"{root}: expected files/ in it, the folder with p10, p11 and so on")
    defects = Defects(root)
    films = sheet(paths[0], [*_KEYS, "ViewPosition"], defects)
    splits = sheet(paths[1], ["dicom_id", "split"], defects)
    exams = sheet(paths[2], ["study_id", *FINDINGS], defects)
    _refuse_repeated(films, "dicom_id", paths[0].name, defects)
    _refuse_repeated(splits, "dicom_id", paths[1].name, defects)
    _refuse_repeated(exams, "study_id", paths[2].name, defects)
    labels = pd.DataFrame(labels_of(exams, blank, defects, file=paths[2].name), index=exams["study_id"])
    split = films["dicom_id"].map(splits.drop_duplicates("dicom_id").set_index("dicom_id")["split"])
    _refuse_splits(films, split.fillna(""), defects)
    defects.check()
    table = pd.DataFrame(
        {
            "line": films["line"],
            "patient": films["subject_id"],
            "split": split.map({cell: split_of(cell) for cell in set(split)}),
            "study": films["study_id"],
            "view": films["ViewPosition"].str.strip(),
            "dicom": films["dicom_id"],
        }
    )
    table = of_views(table, views)
    if reports is not None:
        table = _with_texts(table, reports, section, defects)
    folder = "p" + table["patient"].str[:2] + "/p" + table["patient"] + "/s" + table["study"]
    there = {name.rpartition(".")[0]: path for name, path in files_below(root / "files").items()}
    table = with_films(table, folder + "/" + table["dicom"], there, defects, only_present=only_present)
    defects.check()
    unlabelled = int((~table["study"].isin(labels.index)).sum())
    if unlabelled:
        log.info(
            "%d of %d films have no labels: their exam is not in %s", unlabelled, len(table), paths[2].name
        )
    values = labels.reindex(table["study"]).to_numpy(np.float64)
    return records_of(table.drop(columns="dicom"), dict(zip(FINDINGS, values.T, strict=True)))


def section_of(report: str, section: str) -> str:
    r"""The findings, the impression, or both with their headers; empty where the report lacks them.

    >>> report = " FINDINGS: \n \n The heart is\n large.\n \n IMPRESSION: \n \n Failure."
    >>> section_of(report, "impression"), section_of(report, "both")
    ('Failure.', 'FINDINGS: The heart is large. IMPRESSION: Failure.')
    """
    headers = list(_HEADER.finditer(report))
    ends = [*(header.start() for header in headers[1:]), len(report)][: len(headers)]
    texts = []
    for name, pattern in _PARTS.items():
        parts = [
            report[header.end() : end]
            for header, end in zip(headers, ends, strict=True)
            if pattern.search(header[1].upper())
        ]
        whole = " ".join(" ".join(parts).split())
        if whole and section in (name.lower(), "both"):
            texts.append(f"{name}: {whole}" if section == "both" else whole)
    return " ".join(texts)


def _sheet(root: Path, name: str) -> Path:
    """The one sheet of that name, whatever version is in it."""
    there = sorted(path for end in ("csv.gz", "csv") for path in root.glob(f"mimic-cxr-*-{name}.{end}"))
    if not there:
        raise MissingError(f"{root}: expected mimic-cxr-2.0.0-{name}.csv.gz in it, as downloaded")
    if len({path.name.removesuffix(".gz") for path in there}) > 1:
        raise RecordsError(f"{root}: {', '.join(path.name for path in there)} are there; keep one version")
    return there[0]


def _refuse_repeated(table: pd.DataFrame, key: str, file: str, defects: Defects) -> None:
    again = table[key].duplicated()
    shown = zip(table["line"][again].head(20).tolist(), table[key][again].head(20).tolist(), strict=True)
    problems = ((line, f"{file}: {key} {cell} is in an earlier row too") for line, cell in shown)
    defects.add_many(f"repeated rows of {file}", problems, int(again.sum()))


def _refuse_splits(films: pd.DataFrame, split: pd.Series, defects: Defects) -> None:
    bad = ~split.isin([cell for cell in set(split) if split_of(cell)])
    shown = zip(
        films["line"][bad].head(20), films["dicom_id"][bad].head(20), split[bad].head(20), strict=True
    )
    problems = (
        (int(line), f"{name} is in no row of the split's sheet" if not cell else f"{name}: split is {cell!r}")
        for line, name, cell in shown
    )
    defects.add_many("splits", problems, int(bad.sum()))


def _with_texts(table: pd.DataFrame, reports: Path, section: str, defects: Defects) -> pd.DataFrame:
    """The films with the text of their exam; those with next to none are left out."""
    start = reports / "files" if (reports / "files").is_dir() else reports
    if not start.is_dir():
        raise MissingError(f"{reports}: no such folder; --reports has p10, p11 and so on in it")
    there = files_below(start, (".txt",))
    exams = table[["patient", "study", "line"]].drop_duplicates("study")
    names = "p" + exams["patient"].str[:2] + "/p" + exams["patient"] + "/s" + exams["study"] + ".txt"
    texts = {}
    for study, name, line in zip(exams["study"], names, exams["line"], strict=True):
        if name in there:
            report = there[name].read_text(encoding="utf-8", errors="replace")
            texts[study] = section_of(report, section)
        else:
            defects.add("missing reports", f"{start / name} is not there", line=int(line))
    told = table["study"].map(texts).fillna("")
    words = told.str.replace(r"(?:FINDINGS|IMPRESSION):", "", regex=True).str.count(r"\S+")
    what = "findings and impression" if section == "both" else section
    why = f"the {what} of their report {'have' if section == 'both' else 'has'} fewer than {FEWEST} words"
    return keep(table.assign(text=told), (words >= FEWEST) | ~table["study"].isin(list(texts)), why)
