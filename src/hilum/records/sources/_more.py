"""What some sources share besides sheets and boxes: the NLM's readings, MIMIC-CXR, what is left out."""

import json
import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from hilum.errors import MissingError, RecordsError
from hilum.progress import Progress
from hilum.records.defects import Defects, listed, quote
from hilum.records.sources._boxes import Box
from hilum.records.sources._places import files_below, found, start_of
from hilum.records.sources._tables import records_of
from hilum.records.table import Records

TUBERCULOSIS = "Tuberculosis"
LONGEST_TEXT = 1 << 20
"""Bytes of a reading or a report; what is longer is none."""
_YEARS = {"d": 365.25, "w": 365.25 / 7, "m": 12.0, "y": 1.0, "": 1.0}


def left_out(log: logging.Logger, names: Iterable[str], reason: str) -> None:
    """Says how many files or rows are not in the table, which the first are, and why."""
    some = sorted(names)
    if some:
        log.info("%d left out: %s: %s", len(some), reason, listed(some))


def box_cell(boxes: Iterable[Box]) -> str:
    """A cell of the column `boxes`.

    >>> box_cell([("Nodule", 1.0, 2.0, 3.0, 4.0)])
    '[["Nodule", 1.0, 2.0, 3.0, 4.0]]'
    """
    return json.dumps([list(box) for box in boxes])


def age_in_years(number: str, unit: str) -> str:
    """An age as the table has it; a unit counts by its first letter, and none is years.

    >>> age_in_years("45", "yrs"), age_in_years("16", "month"), age_in_years("64", "days")
    ('45', '1.333', '0.1752')
    """
    return f"{float(number) / _YEARS.get(unit[:1].lower(), 1.0):.4g}" if number else ""


def plain_text(path: Path, defects: Defects) -> str:
    """A small text file, UTF-8 or else Latin-1; what is too large for a reading becomes a defect."""
    if path.stat().st_size > LONGEST_TEXT:
        defects.add("readings", f"{path.name} has more than {LONGEST_TEXT:,} bytes, so it is no reading")
        return ""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def nlm_films(
    root: Path,
    folders: tuple[str, ...],
    prefix: str,
    split_reading: Callable[[str], tuple[str, str, str]],
    log: logging.Logger,
) -> Records:
    """The films of Shenzhen's or Montgomery's set with their readings.

    Args:
        root: the folder that was downloaded, or one above.
        folders: where CXR_png and ClinicalReadings may lie, from the root.
        prefix: what every film's name begins with.
        split_reading: sex, age and text of a reading; sex and age are empty where it does not say them.
        log: of the source.

    Raises:
        MissingError: a folder is not there.
        RecordsError: a name or a reading has defects; all of them are in the message.
    """
    names = [f"{folder}CXR_png" for folder in folders]
    films = found(start_of(root, *names), *names)
    readings = found(films.parent, "ClinicalReadings")
    defects = Defects(films.parent)
    files = files_below(films)
    masks = [
        name
        for name in files
        if Path(name).stem.lower().endswith("_mask") or "mask" in Path(name).parent.name
    ]
    left_out(log, masks, "masks of lungs are no films")
    table = pd.DataFrame({"name": sorted(set(files) - set(masks))}, dtype="str")
    table["image"] = [str(files[name].absolute()) for name in table["name"]]
    parts = table["name"].str.extract(rf"^(?P<patient>{prefix}_\d{{4}})_(?P<label>[01])\.(?:png|jpe?g)$")
    for name in table["name"][parts["label"].isna()]:
        defects.add("names", f"{quote(name)} is no film of this set; expected {prefix}_0001_0.png or _1.png")
    for patient in parts["patient"][parts["patient"].notna() & parts["patient"].duplicated()]:
        defects.add("names", f"{patient} is there twice, as _0 and as _1 or as two kinds of file; keep one")
    if table.empty:
        defects.add("films", f"{films.name} holds no film")
    texts = {Path(name).stem: path for name, path in files_below(readings, (".txt",)).items()}
    stems = table["name"].str.rpartition(".")[0]
    read = [
        split_reading(plain_text(texts[stem], defects)) if stem in texts else ("", "", "") for stem in stems
    ]
    defects.check()
    left_out(log, set(texts) - set(stems), "readings without a film")
    if missing := [stem for stem in stems if stem not in texts]:
        log.info("%d films have no reading, so no sex, age and text: %s", len(missing), listed(missing))
    table["patient"] = parts["patient"]
    table["sex"], table["age"], table["text"] = ([one[part] for one in read] for part in range(3))
    for column in ("sex", "age"):
        unsaid = int((table[column] == "").sum()) - len(missing)
        if unsaid:
            log.info("%d readings do not say the %s; it is unknown", unsaid, column)
    labels = parts["label"].to_numpy(np.float64)
    return records_of(table.drop(columns="name").assign(view="PA"), {TUBERCULOSIS: labels})


def mimic_start(root: Path, *, flag: str = "--root") -> Path:
    """The folder of MIMIC-CXR-JPG's sheets: the root or the only one near below it.

    Raises:
        MissingError: there is none; the message says where one is.
    """
    if any(root.glob("mimic-cxr-*-metadata.csv*")):
        return root
    return start_of(root, *(f"mimic-cxr-2.0.0-metadata.{end}" for end in ("csv.gz", "csv")), flag=flag)


def mimic_sheet(folder: Path, name: str) -> Path:
    """The one sheet of that name, whatever version is in it.

    Raises:
        MissingError: it is not there.
        RecordsError: two versions are.
    """
    there = sorted(path for end in ("csv.gz", "csv") for path in folder.glob(f"mimic-cxr-*-{name}.{end}"))
    if not there:
        version = "2.1.0" if name == "test-set-labeled" else "2.0.0"
        raise MissingError(f"{folder}: expected mimic-cxr-{version}-{name}.csv.gz in it, as downloaded")
    if len({path.name.removesuffix(".gz") for path in there}) > 1:
        raise RecordsError(f"{folder}: {', '.join(path.name for path in there)} are there; keep one version")
    return there[0]


def mimic_folder(root: Path, *, flag: str = "--root") -> Path:
    """The folder with p10, p11 and so on in it: `files` of the root, or the root itself.

    Raises:
        MissingError: it is not there.
    """
    if (root / "files").is_dir():
        return root / "files"
    if any((root / f"p{number}").is_dir() for number in range(10, 20)):
        return root
    if not root.is_dir():
        raise MissingError(f"{root}: no such folder; {flag} is the one with p10, p11 and so on in it")
    raise MissingError(f"{root}: expected files/ in it, the folder with p10, p11 and so on")


def mimic_films(mimic: Path, table: pd.DataFrame, defects: Defects) -> pd.Series:
    """The file of each row's film in MIMIC-CXR (.dcm) or MIMIC-CXR-JPG; what is not there becomes a defect.

    Each is asked for, since labels of a few thousand films are joined here to a data set of 377,110.

    Args:
        mimic: the folder with `files` in it, or `files` itself.
        table: line, patient (subject_id), study (study_id) and film (dicom_id), all text but the line.
        defects: of the sheet that the rows are from.

    Raises:
        MissingError: there is no folder of patients.
    """
    folder = mimic_folder(mimic, flag="--mimic")
    places = "p" + table["patient"].str[:2] + "/p" + table["patient"] + "/s" + table["study"]
    films = []
    lost: list[tuple[int, str]] = []
    with Progress("Looking for films", len(table), unit="films") as progress:
        named = zip(table["line"].tolist(), places + "/" + table["film"], strict=True)
        for done, (line, name) in enumerate(named, 1):
            both = (folder / f"{name}.jpg", folder / f"{name}.dcm")
            path = next((path for path in both if path.is_file()), None)
            films.append("" if path is None else str(path.absolute()))
            if path is None:
                lost.append((line, f"{name} is there neither as .jpg nor as .dcm"))
            progress.update(done)
    defects.add_many("missing films", lost[:20], len(lost))
    return pd.Series(films, index=table.index, dtype="str")


def sex_of(word: str) -> str:
    """M or F by the first letter, which survives the misspellings there are; else empty.

    >>> sex_of("Femal"), sex_of("male"), sex_of("?")
    ('F', 'M', '')
    """
    matched = re.match(r"\s*([fm])", word, re.IGNORECASE)
    return matched[1].upper() if matched else ""
