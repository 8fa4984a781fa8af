"""JSRT: 154 films with a lung nodule, whose place and size are known, and 93 without.

Shiraishi et al. 2000, https://doi.org/10.2214/ajr.174.1.1740071 (Japanese Society of Radiological
Technology). For research, after registration. Expected below the root, in any folders: CLNDAT_EN.txt and
CNNDAT_EN.TXT (of Clinical_Information), or jsrt_metadata.csv (of a copy on Kaggle: study_id, gender, state,
diagnosis, x, y, size, and age where it is there); and the films JPCLN001 to JPCLN154 and JPCNN001 to
JPCNN093 as .png, .jpg or .dcm.

The first release has raw .IMG files (2048 x 2048, 16 bits, big-endian, bone dark), which are not read: the
page of this data set has four lines that make PNG of them.

A line of CLNDAT_EN.txt is file, subtlety (1 extremely subtle to 5 obvious), size in mm, age, sex, x, y,
malignant or benign, place and diagnosis, between tabs; one of CNNDAT_EN.TXT is file, age, sex, non-nodule,
between spaces. Pixels are of 2048 x 2048, 0.175 mm each: a box is the square around the nodule, cut at the
film, in pixels of the file. That x, y and size of the CSV are the text's is not verified: no file was at hand
when this was written. Nodule is 1 or 0; Malignant Nodule is 1 for malignant, 0 for benign and without. No
patients are named: each film counts as one. There is no official split.
"""

import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from hilum.config import Config
from hilum.errors import MissingError
from hilum.records.defects import Defects, quote
from hilum.records.sources._boxes import Box
from hilum.records.sources._more import age_in_years, box_cell, left_out, plain_text, sex_of
from hilum.records.sources._places import by_name, files_below, stem
from hilum.records.sources._tables import records_of, refuse_absent, sheet
from hilum.records.table import Records


class Settings(Config):
    """Settings of the JSRT films: it needs none."""


NODULE, MALIGNANT = "Nodule", "Malignant Nodule"
SIDE = 2048
"""Width and height that coordinates are of."""
MILLIMETRES = 0.175
"""Side of a pixel of these."""
_COLUMNS = ["line", "patient", "subtlety", "size", "age", "sex", "x", "y", "state", "text"]
_WITH = re.compile(
    r"(JPCLN\d{3})\.IMG\s+(\d)\s+(\d+(?:\.\d+)?)\s+(\S+)\s+(\S+)\s+(\d+)\s+(\d+)\s+(malignant|benign)\b(.*)",
    re.I,
)
_WITHOUT = re.compile(r"(JPCNN\d{3})\.IMG\s+(\S+)\s+(\S+)\s*(?:non-?nodule)?.*", re.I)

log = logging.getLogger(__name__)


def read(root: Path) -> Records:
    """All films with their nodule, if there is one.

    Raises:
        MissingError: a file or folder is not there.
        RecordsError: the files have defects; all of them are in the message.
    """
    told = {path.name.lower(): path for path in files_below(root, (".txt", ".csv")).values()}
    defects = Defects(root)
    if {"clndat_en.txt", "cnndat_en.txt"} <= set(told):
        table = _of_texts(told["clndat_en.txt"], told["cnndat_en.txt"], defects)
    elif "jsrt_metadata.csv" in told:
        table = _of_sheet(told["jsrt_metadata.csv"], defects)
    else:
        expected = "CLNDAT_EN.txt and CNNDAT_EN.TXT, or jsrt_metadata.csv"
        raise MissingError(f"{root}: expected {expected} in it; the root is the folder as downloaded")
    defects.check()
    for patient in table["patient"][table["patient"].duplicated()]:
        defects.add("films", f"{patient} is there twice")
    films = {
        name: path for name, path in files_below(root).items() if re.fullmatch(r"JPC[LN]N\d{3}", path.stem)
    }
    masks = [name for name in films if "mask" in name.rpartition("/")[0].lower()]
    left_out(log, masks, "masks of lungs are no films")
    films = {name: path for name, path in films.items() if name not in masks}
    there = by_name(films, stem, defects)
    raw = files_below(root, (".img",))
    if raw and not there:
        raise MissingError(
            f"{root}: {len(raw)} films are raw .IMG, which is not read; make PNG of them first"
        )
    refuse_absent(table["patient"], there, defects, table["line"])
    defects.check()
    left_out(log, set(there) - set(table["patient"]), "films that no line names")
    places = zip(*(table[name] for name in ("line", "patient", "state", "x", "y", "size")), strict=True)
    boxes = [_box(there[place[1]], place, defects) for place in places]
    defects.check()
    log.warning("JSRT names no patients: each of %d films counts as one", len(table))
    whole = table[["patient", "sex", "age", "text", "subtlety"]].assign(
        image=[str(there[name].absolute()) for name in table["patient"]],
        view="PA",
        boxes=[box_cell(some) for some in boxes],
    )
    labels = {
        NODULE: np.array(table["state"] != "", np.float64),
        MALIGNANT: np.array(table["state"] == "malignant", np.float64),
    }
    return records_of(whole, labels)


def _of_texts(with_nodule: Path, without: Path, defects: Defects) -> pd.DataFrame:
    rows = []
    for path, pattern in ((with_nodule, _WITH), (without, _WITHOUT)):
        for line, text in enumerate(plain_text(path, defects).splitlines(), 1):
            matched = pattern.fullmatch(text.strip())
            if matched is None:
                if text.strip():
                    defects.add(
                        "lines", f"{path.name}: found {quote(text)}; expected {_expected(pattern)}", line=line
                    )
            elif pattern is _WITH:
                name, subtlety, size, age, sex, x, y, state, rest = matched.groups()
                note = "; ".join(part.strip() for part in rest.split("\t") if part.strip())
                rows.append(
                    (line, name.upper(), subtlety, size, _age(age), sex_of(sex), x, y, state.lower(), note)
                )
            else:
                name, age, sex = matched.groups()
                rows.append((line, name.upper(), "", "", _age(age), sex_of(sex), "", "", "", ""))
    return pd.DataFrame(rows, columns=_COLUMNS)


def _expected(pattern: re.Pattern[str]) -> str:
    if pattern is _WITH:
        return "JPCLN001.IMG, subtlety, size, age, sex, x, y, malignant or benign, place, diagnosis"
    return "JPCNN001.IMG, age, sex, non-nodule"


def _of_sheet(path: Path, defects: Defects) -> pd.DataFrame:
    told = sheet(path, ("study_id", "gender", "state", "diagnosis", "x", "y", "size"), defects)
    defects.check()
    states = told["state"].str.strip().str.lower()
    for line, state in zip(told["line"], states, strict=True):
        if state not in ("malignant", "benign", "non-nodule"):
            defects.add("state", f"found {quote(state)}; expected malignant, benign or non-nodule", line=line)
    there = states != "non-nodule"
    for name in ("x", "y", "size"):
        bad = there & ~told[name].str.fullmatch(r"\s*\d+(\.\d+)?\s*")
        for line, cell in zip(told["line"][bad], told[name][bad], strict=True):
            defects.add(name, f"{name} is {quote(cell)}; expected a number", line=line)
    return pd.DataFrame(
        {
            "line": told["line"],
            "patient": told["study_id"].str.strip().str.partition(".")[0],
            "subtlety": told.get("subtlety", ""),
            "size": told["size"],
            "age": told["age"].map(_age) if "age" in told else "",
            "sex": told["gender"].map(sex_of),
            "x": told["x"],
            "y": told["y"],
            "state": states.where(there, ""),
            "text": told["diagnosis"].where(there, "").str.strip(),
        }
    )


def _age(cell: str) -> str:
    """Years, or empty where it is a question mark.

    >>> _age("53"), _age("?"), _age("53.0")
    ('53', '', '53')
    """
    matched = re.fullmatch(r"\s*(\d{1,3})(?:\.0)?\s*", cell)
    return age_in_years(matched[1], "") if matched else ""


def _box(path: Path, place: tuple[int, str, str, str, str, str], defects: Defects) -> list[Box]:
    """The square around a nodule in pixels of its file."""
    line, name, state, x, y, millimetres = place
    if not state:
        return []
    size = (SIDE, SIDE)
    if path.suffix.lower() not in (".dcm", ".dicom"):
        try:
            with Image.open(path) as image:
                size = image.size
        except (OSError, UnidentifiedImageError) as error:
            defects.add("films", f"{path.name} cannot be read: {error}")
            return []
    centre, radius = (float(x), float(y)), float(millimetres) / MILLIMETRES / 2
    if radius <= 0 or not all(0 <= side <= SIDE for side in centre):
        problem = f"{name}: {millimetres} mm at {x}, {y} is no nodule of {SIDE} x {SIDE} pixels"
        defects.add("nodules", problem, line=int(line))
        return []
    low, high = (
        [min(max(at + step, 0.0), SIDE) * side / SIDE for at, side in zip(centre, size, strict=True)]
        for step in (-radius, radius)
    )
    return [(NODULE, low[0], low[1], high[0], high[1])]
