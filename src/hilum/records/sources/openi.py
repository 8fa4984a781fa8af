"""Open-i: 7,470 films of Indiana University's hospitals with their reports, indexed by hand.

Demner-Fushman et al. 2016, https://doi.org/10.1093/jamia/ocv080 (National Library of Medicine). CC BY-NC-ND
4.0. Expected below the root, one of:
ecgen-radiology/1.xml (of NLMCXR_reports) and CXR1_1_IM-0001-3001.png (of NLMCXR_png) anywhere;
indiana_reports.csv (uid, MeSH, Problems, image, indication, comparison, findings, impression),
indiana_projections.csv (uid, filename, projection: Frontal or Lateral) and *.png anywhere.

A finding is 1 where one of its MeSH heads (what stands before the first slash of a term) is among the
report's, and 0 where the report was indexed and it is not; a report without terms, or with none but "No
Indexing" or "Technical Quality of Image Unsatisfactory", is unknown. Labels are the report's: a lateral
film has those of its frontal one. The XML has two kinds of term: major, by people, and automatic, by a
program. Heads that no finding takes are counted and said. Of the heads below, pneumothorax,
hydropneumothorax and pulmonary fibrosis were not seen in an excerpt of the files when this was written;
--heads takes any head as it is.

The XML does not say which film is frontal: only indiana_projections.csv does. The films carry no names of
patients: a report counts as one. There is no official split.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
import pandas as pd

from hilum.config import Config
from hilum.errors import ConfigError
from hilum.records.defects import Defects, listed, quote
from hilum.records.sources._more import LONGEST_TEXT, left_out
from hilum.records.sources._places import basename, by_name, files_below, found, start_of
from hilum.records.sources._tables import records_of, sheet, with_films
from hilum.records.table import Records


class Settings(Config):
    """Settings of Open-i."""

    views: Literal["frontal", "all"] = "frontal"
    """Which films: frontal, or lateral ones too."""
    terms: Literal["major", "automatic"] = "major"
    """Which terms of an XML report are its findings: those by people, or those by a program."""
    heads: list[str] = []
    """MeSH heads that become findings as they are, for example Scoliosis. Empty: this file's findings."""
    projections: Path | None = None
    """indiana_projections.csv, which says of XML reports' films which are frontal. Default: the root's."""


FINDINGS: dict[str, tuple[str, ...]] = {
    "No Finding": ("normal",),
    "Airspace Disease": ("airspace disease",),
    "Atelectasis": ("pulmonary atelectasis", "atelectasis", "atelectases"),
    "Calcified Granuloma": ("calcified granuloma",),
    "Cardiomegaly": ("cardiomegaly",),
    "Consolidation": ("consolidation",),
    "Edema": ("pulmonary edema",),
    "Emphysema": ("pulmonary emphysema", "emphysema"),
    "Fibrosis": ("pulmonary fibrosis",),
    "Fracture": ("fractures, bone",),
    "Granuloma": ("granuloma", "calcified granuloma", "granulomatous disease"),
    "Hernia": ("hernia, hiatal", "hernia, diaphragmatic"),
    "Infiltration": ("infiltrate",),
    "Lung Opacity": ("opacity",),
    "Mass": ("mass",),
    "Nodule": ("nodule",),
    "Pleural Effusion": ("pleural effusion",),
    "Pneumonia": ("pneumonia",),
    "Pneumothorax": ("pneumothorax", "hydropneumothorax"),
}
"""The heads, in small letters, that make each finding."""
REPORTS = ("ecgen-radiology", "indiana_reports.csv")
_NOT_INDEXED = frozenset({"no indexing", "technical quality of image unsatisfactory", ""})
_VIEWS = {"frontal": "FRONTAL", "lateral": "LATERAL"}

log = logging.getLogger(__name__)


def read(root: Path, *, views: str, terms: str, heads: list[str], projections: Path | None) -> Records:
    """The films with the findings and the text of their report.

    Raises:
        MissingError: a file or folder is not there.
        ConfigError: only frontal films are asked for and nothing says which are.
        RecordsError: the files have defects; all of them are in the message.
    """
    base = start_of(root, *REPORTS)
    reports = found(base, *REPORTS)
    defects = Defects(base)
    if reports.is_dir():
        told = projections or base / "indiana_projections.csv"
        if views == "frontal" and projections is None and not told.is_file():
            raise ConfigError(
                f"{reports}: XML reports do not say which film is frontal; "
                "give --projections indiana_projections.csv, or --views all"
            )
        table = _of_xml(reports, terms, defects)
        if told.is_file() or projections is not None:
            table["view"] = _view_of(sheet(told, ("uid", "filename", "projection"), defects), table, defects)
    else:
        table = _of_sheets(reports, projections or found(base, "indiana_projections.csv"), defects)
    defects.check()
    there = by_name(files_below(root, (".png",)), basename, defects, table["film"])
    table = with_films(table, table["film"], there, defects, only_present=False)
    defects.check()
    left_out(log, set(there) - set(table["film"]), "films that no report names")
    if views == "frontal":
        lateral = table["view"] != "FRONTAL"
        left_out(log, table["film"][lateral], "not frontal, or nothing says so; --views all keeps them")
        table = table[~lateral]
    labels = _labels(table["heads"], {head: (head.lower(),) for head in heads} or FINDINGS)
    return records_of(table.drop(columns=["film", "heads"]), labels)


def _labels(cells: pd.Series, findings: dict[str, tuple[str, ...]]) -> dict[str, np.ndarray]:
    """1, 0 or NaN per finding of cells of heads joined by `|`."""
    sets = {cell: frozenset(cell.split("|")) for cell in set(cells)}
    unknown = cells.map(lambda cell: sets[cell] <= _NOT_INDEXED).to_numpy(bool)
    if unknown.any():
        log.info(
            "%d films have a report that was not indexed: their findings are unknown", int(unknown.sum())
        )
    taken = frozenset(head for heads in findings.values() for head in heads) | _NOT_INDEXED
    counts = Counter(head for cell in cells for head in sets[cell] - taken)
    if counts:
        common = listed(f"{head} ({count})" for head, count in counts.most_common())
        log.info("%d MeSH heads are no finding here: %s", len(counts), common)
    labels = {}
    for finding, heads in findings.items():
        there = cells.map({cell: not some.isdisjoint(heads) for cell, some in sets.items()}).to_numpy(
            np.float64
        )
        labels[finding] = np.where(unknown, np.nan, there)
    return labels


def _of_sheets(reports: Path, projections: Path, defects: Defects) -> pd.DataFrame:
    films = sheet(projections, ("uid", "filename", "projection"), defects)
    told = sheet(reports, ("uid", "MeSH", "findings", "impression"), defects)
    for line, uid in told.loc[told["uid"].duplicated(), ["line", "uid"]].itertuples(index=False):
        defects.add("reports", f"uid {uid} is there twice", line=line)
    defects.check()
    table = films.merge(told.drop(columns="line"), on="uid", how="left", indicator=True)
    for line, uid in table.loc[table["_merge"] == "left_only", ["line", "uid"]].itertuples(index=False):
        defects.add("films of no report", f"uid {uid} is not in {reports.name}", line=line)
    left_out(log, set(told["uid"]) - set(films["uid"]), "reports without a film, by uid")
    defects.check()
    return pd.DataFrame(
        {
            "line": table["line"],
            "film": table["filename"],
            "patient": table["uid"],
            "study": table["uid"],
            "view": _views(table["projection"], table["line"], defects),
            "text": [_text(pair) for pair in zip(table["findings"], table["impression"], strict=True)],
            "heads": [_heads(cell.split(";")) for cell in table["MeSH"]],
        }
    )


def _of_xml(folder: Path, terms: str, defects: Defects) -> pd.DataFrame:
    rows, bare = [], []
    for name, path in sorted(files_below(folder, (".xml",)).items()):
        report = _parsed(path, name, defects)
        if report is None:
            continue
        uid = report.find("uId")
        films = [image.get("id", "") for image in report.iter("parentImage")]
        if uid is None or not uid.get("id"):
            defects.add("reports", f"{name} has no uId, which names the report")
            continue
        sections = {one.get("Label", "").upper(): one.text or "" for one in report.iter("AbstractText")}
        text = _text((sections.get("FINDINGS", ""), sections.get("IMPRESSION", "")))
        heads = _heads(one.text or "" for mesh in report.iter("MeSH") for one in mesh.iter(terms))
        if not films:
            bare.append(name)
        rows += [(0, f"{film}.png", uid.get("id", ""), uid.get("id", ""), "", text, heads) for film in films]
    left_out(log, bare, "reports without a film")
    if not rows:
        defects.add("reports", f"{folder.name} holds no .xml that names a film")
    return pd.DataFrame(rows, columns=["line", "film", "patient", "study", "view", "text", "heads"])


def _parsed(path: Path, name: str, defects: Defects) -> ElementTree.Element | None:
    """A report; None, and a defect, if it is too large, declares a document type, or is no XML."""
    if path.stat().st_size > LONGEST_TEXT:
        defects.add("reports", f"{name} has more than {LONGEST_TEXT:,} bytes, so it is no report")
        return None
    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate()
    parser.StartDoctypeDeclHandler = (
        _refuse  # no document type, hence no entity that could grow or read files
    )
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(path.read_bytes(), True)
        return builder.close()
    except (expat.ExpatError, ValueError, LookupError) as error:
        defects.add("reports", f"{name} is no report as Open-i gives it: {error}")
        return None


def _refuse(*declared: object) -> None:
    raise ValueError("it declares a document type, which none of the reports does")


def _view_of(told: pd.DataFrame, table: pd.DataFrame, defects: Defects) -> pd.Series:
    """The view of each film by its report's number and its own, as CXR1_1_IM-0001-3001 and 1_IM-0001-3001."""
    numbers = told["filename"].str.extract(r"(IM-[\d-]+)", expand=False)
    views = _views(told["projection"], told["line"], defects)
    known = dict(zip(told["uid"] + " " + numbers.fillna(""), views, strict=True))
    keys = (
        table["patient"].str.removeprefix("CXR")
        + " "
        + table["film"].str.extract(r"(IM-[\d-]+)", expand=False)
    )
    found_views = keys.map(known).fillna("")
    if (found_views == "").any():
        log.info(
            "%d films are in no line of the projections; their view is unknown",
            int((found_views == "").sum()),
        )
    return found_views


def _views(cells: pd.Series, lines: pd.Series, defects: Defects) -> pd.Series:
    views = cells.str.strip().str.lower().map(_VIEWS)
    for line, cell in zip(lines[views.isna()], cells[views.isna()], strict=True):
        defects.add("projections", f"found {quote(cell)}; expected Frontal or Lateral", line=line)
    return views.fillna("")


def _heads(terms: Iterable[str]) -> str:
    """Heads in small letters, joined by `|`.

    >>> _heads(["Cardiomegaly/mild", " Opacity/lung/base", "normal"])
    'cardiomegaly|normal|opacity'
    """
    return "|".join(sorted({term.split("/")[0].strip().lower() for term in terms} - {""}))


def _text(sections: Iterable[str]) -> str:
    return "\n".join(part.strip() for part in sections if part.strip())
