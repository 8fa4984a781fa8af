"""The RSNA Pneumonia Detection Challenge of 2018: boxes of lung opacity, and a class for every film.

Shih et al. 2019, https://doi.org/10.1148/ryai.2019180041. Non-commercial use.
Expected below the root, as downloaded:
stage_2_train_labels.csv (patientId, x, y, width, height, Target; a row per box, empty on films without),
stage_2_detailed_class_info.csv (patientId, class) and stage_2_train_images/*.dcm; of stage 1 the same
with stage_1. Its patientId names a film: two films of one patient of ChestX-ray14 have two. The challenge's
later file pneumonia-challenge-dataset-mappings_2018.json says which film of ChestX-ray14 each is (a list of
subset_img_id, img_id such as 00028173_005.png, and orig_labels), and so who it is of.
The readers looked at every film: one without a box is a negative. Boxes are in pixels of the published films,
1024 x 1024; those of a smaller square copy are made smaller. There is no official split: the labels of
stage_2_test_images are not public, and its films are left out.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import pandas as pd

from hilum.config import Config
from hilum.errors import ImageError, MissingError, RecordsError
from hilum.progress import Progress
from hilum.records.defects import Defects, quote
from hilum.records.sources._boxes import Box, from_corner_and_size, in_files, is_dicom, records_of
from hilum.records.sources._more import left_out
from hilum.records.sources._places import by_name, files_below, found, start_of, stem
from hilum.records.sources._tables import sheet
from hilum.records.table import Records


class Settings(Config):
    """Settings of the RSNA challenge."""

    stage: Literal[1, 2] = 2
    """Whose labels are read; those of stage 2 are the corrected ones."""
    images: Path | None = None
    """The folder of the films, .dcm, .png or .jpg by patientId. Default: stage_2_train_images in the root."""
    nih_mapping: Path | None = None
    """pneumonia-challenge-dataset-mappings_2018.json: a film's patient becomes that of ChestX-ray14, so that
    films of one person share it. Default: the root's; where there is none each film counts as a patient."""
    headers: bool = False
    """Read view, sex and age from the headers of the films too, which takes a minute or so; .dcm alone has
    them."""


FINDING = "Lung Opacity"
SIDE = 1024
"""Width and height of every film, which boxes are in pixels of."""
MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
ENDINGS = (".dcm", ".png", ".jpg", ".jpeg")
SIDES = ["x", "y", "width", "height"]

log = logging.getLogger(__name__)


def read(
    root: Path,
    *,
    stage: int,
    images: Path | None,
    nih_mapping: Path | None = None,
    headers: bool = False,
    look: Callable[[Path, str], Mapping[str, str]] | None = None,
) -> Records:
    """The training films with their boxes; the column class is Lung Opacity, Normal, or the third.

    Args:
        root: the folder that was downloaded.
        stage: as set.
        images: as set.
        nih_mapping: as set.
        headers: as set.
        look: gives the columns view, sex and age of a file, or raises ImageError; needed for headers alone.

    Raises:
        MissingError: a file or folder is not there.
        RecordsError: the files have defects; all of them are in the message.
    """
    names = [f"stage_{stage}_{name}.csv" for name in ("train_labels", "detailed_class_info")]
    base = start_of(root, names[0])
    labels, classes = (found(base, name) for name in names)
    folder = images or found(base, f"stage_{stage}_train_images")
    if not folder.is_dir():
        raise MissingError(f"{folder}: no such folder; --images is the folder of the films")
    defects = Defects(base)
    rows = sheet(labels, ["patientId", *SIDES, "Target"], defects)
    told = sheet(classes, ["patientId", "class"], defects)
    defects.check()
    of_film = _classes(told, classes.name, defects)
    films = list(dict.fromkeys(rows["patientId"]))
    paths = by_name(files_below(folder, ENDINGS), stem, defects, films)
    boxes = _boxes(rows, of_film, classes.name, paths, defects)
    absent = [name for name in films if name not in paths]
    problems = ((0, f"{folder / name} is there with none of {', '.join(ENDINGS)}") for name in absent[:20])
    defects.add_many("missing films", problems, len(absent))
    mapping = nih_mapping or (base / MAPPING if (base / MAPPING).is_file() else None)
    patients = films if mapping is None else _nih_patients(mapping, films, defects)
    about = {"class": [of_film.get(name, "") for name in films]}
    if headers:
        assert look is not None, "records read gives it"
        about |= _headers([paths[name] for name in films if name in paths], look, defects)
    defects.check()
    if mapping is None:
        log.warning("each of %d films is its own patient; --nih-mapping %s says whose", len(films), MAPPING)
    else:
        log.info("%d films are of %d patients of ChestX-ray14", len(patients), len(set(patients)))
    left_out(log, set(paths) - set(films), f"{folder.name} has them, and no row of the labels")
    unread = files_below(base / f"stage_{stage}_test_images", ENDINGS)
    left_out(log, unread, "test films, whose labels are not public")
    places = [str(paths[name].absolute()) for name in films]
    found_boxes = {place: boxes.get(name, []) for place, name in zip(places, films, strict=True)}
    return records_of(places, patients, found_boxes, [FINDING], **about)


def _headers(
    paths: list[Path], look: Callable[[Path, str], Mapping[str, str]], defects: Defects
) -> dict[str, list[str]]:
    """What the header of each film says; a copy that is no DICOM file says nothing."""
    columns: dict[str, list[str]] = {name: [] for name in ("view", "sex", "age")}
    with Progress("Reading headers", len(paths), unit="files") as line:
        for done, path in enumerate(paths, 1):
            told: Mapping[str, str] = {}
            if is_dicom(path):
                try:
                    told = look(path, "")
                except ImageError as error:
                    defects.add("films", f"{path.name}: {error}")
            for name, cells in columns.items():
                cells.append(told.get(name, ""))
            line.update(done)
    for name, cells in columns.items():
        if unsaid := cells.count(""):
            log.info("%d films do not say the %s; it is unknown", unsaid, name)
    return columns


def _classes(told: pd.DataFrame, file: str, defects: Defects) -> dict[str, str]:
    """The class of each film, which has a row per box."""
    once = told.drop_duplicates(["patientId", "class"])
    for line, name in once.loc[once["patientId"].duplicated(), ["line", "patientId"]].itertuples(index=False):
        defects.add("classes", f"{file}: {name} has another class in an earlier row", line=line)
    return dict(zip(once["patientId"], once["class"], strict=True))


def _boxes(
    rows: pd.DataFrame,
    of_film: dict[str, str],
    file: str,
    paths: dict[str, Path],
    defects: Defects,
) -> dict[str, list[Box]]:
    """The boxes of each film that has any, in pixels of its file."""
    target = rows["Target"].str.strip()
    positive, told = target.isin(["1", "1.0"]), rows["patientId"].map(of_film)
    there = (rows[SIDES].apply(lambda cells: cells.str.strip()) != "").any(axis=1)
    for row in rows.index[~target.isin(["0", "0.0", "1", "1.0"]) | (positive != there)]:
        problem = f"Target is {quote(rows['Target'][row])}, and there is {'a' if there[row] else 'no'} box"
        defects.add("targets", f"{rows['patientId'][row]}: {problem}", line=int(rows["line"][row]))
    for row in rows.index[told.isna()]:
        defects.add(
            "classes", f"{rows['patientId'][row]} has no class in {file}", line=int(rows["line"][row])
        )
    for row in rows.index[told.notna() & ((told == FINDING) != positive)]:
        problem = f"the class is {quote(told[row])}, and Target {quote(rows['Target'][row])}"
        defects.add("classes", f"{rows['patientId'][row]}: {problem}", line=int(rows["line"][row]))
    boxes: dict[str, list[Box]] = {}
    marked = rows[there & positive]
    corners = marked[SIDES].apply(pd.to_numeric, errors="coerce")
    for name, line, *sides in zip(marked["patientId"], marked["line"], *corners.to_numpy().T, strict=True):
        box = from_corner_and_size(FINDING, sides, (SIDE, SIDE), defects, where=name, line=int(line))
        boxes.setdefault(name, []).extend([box] if box else [])
    return in_files(boxes, paths, SIDE, defects)


def _nih_patients(path: Path, names: list[str], defects: Defects) -> list[str]:
    """The patient of ChestX-ray14 of each film, as its sheet writes it: 00000013_005.png is of 13."""
    if not path.is_file():
        raise MissingError(f"{path}: no such file; --nih-mapping names the challenge's mappings")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecordsError(f"{path}: is no JSON ({error})") from None
    if not isinstance(content, list):
        raise RecordsError(f"{path}: expected a list of films with subset_img_id and img_id")
    patients: dict[str, str] = {}
    for one in content:
        name, film = (one.get(key) if isinstance(one, dict) else None for key in ("subset_img_id", "img_id"))
        matched = re.fullmatch(r"(\d{8})_\d{3}\.png", str(film))
        if not isinstance(name, str) or matched is None:
            found = f"{path.name}: {quote(str(one))}"
            defects.add("mappings", f"{found}: expected subset_img_id, and img_id such as 00028173_005.png")
        elif patients.setdefault(name, str(int(matched[1]))) != str(int(matched[1])):
            both = f"{patients[name]} and of {int(matched[1])}"
            defects.add("mappings", f"{path.name}: {name} is of patient {both}")
    for name in names:
        if name not in patients:
            defects.add("films of nobody", f"{name} is not in {path.name}")
    return [patients.get(name, "") for name in names]
