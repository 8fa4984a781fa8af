"""The RSNA Pneumonia Detection Challenge of 2018: boxes of lung opacity, and a class for every film.

Shih et al. 2019, https://doi.org/10.1148/ryai.2019180041.
Expected below the root, as downloaded:
stage_2_train_labels.csv (patientId, x, y, width, height, Target; a row per box, empty on films without),
stage_2_detailed_class_info.csv (patientId, class) and stage_2_train_images/*.dcm; of stage 1 the same
with stage_1. Non-commercial use. Its patientId names a film: two films of one patient of ChestX-ray14 have
two. The challenge's later file pneumonia-challenge-dataset-mappings_2018.json says which film of ChestX-ray14
each is (a list of subset_img_id, img_id such as 00028173_005.png, and orig_labels), and so who it is of.
The readers looked at every film: one without a box is a negative. There is no official split.
"""

import json
import logging
import re
from pathlib import Path
from typing import Literal

from hilum.config import Config
from hilum.errors import MissingError, RecordsError
from hilum.records.defects import Defects, quote
from hilum.records.reading import read_text
from hilum.records.sources._boxes import Box, from_corner_and_size, records_of
from hilum.records.table import Records


class Settings(Config):
    """Settings of the RSNA challenge."""

    stage: Literal[1, 2] = 2
    """Whose labels are read; those of stage 2 are the corrected ones."""
    images: Path | None = None
    """The folder of the films, .dcm, .png or .jpg by patientId. Default: stage_2_train_images in the root."""
    nih_mapping: Path | None = None
    """pneumonia-challenge-dataset-mappings_2018.json: a film's patient becomes that of ChestX-ray14, so that
    films of one person share it. Default: each film counts as a patient of its own."""


FINDING = "Lung Opacity"
SIDE = 1024
"""Width and height of every film, which boxes are in pixels of."""
ENDINGS = (".dcm", ".png", ".jpg")

log = logging.getLogger(__name__)


def read(root: Path, *, stage: int, images: Path | None, nih_mapping: Path | None = None) -> Records:
    """The training films with their boxes; the column class is Lung Opacity, Normal, or the third.

    Raises:
        MissingError: a file or folder is not there.
        RecordsError: the files have defects; all of them are in the message.
    """
    labels, classes = (root / f"stage_{stage}_{name}.csv" for name in ("train_labels", "detailed_class_info"))
    folder = images or root / f"stage_{stage}_train_images"
    for path in (labels, classes, folder):
        if not path.exists():
            raise MissingError(f"{path}: not there; the root is the folder that the challenge unpacks into")
    defects = Defects(root)
    lines, table = read_text(labels, defects)
    _, told = read_text(classes, defects)
    for path, columns, wanted in (
        (labels, table, ("patientId", "x", "y", "width", "height", "Target")),
        (classes, told, ("patientId", "class")),
    ):
        for name in wanted:
            if name not in columns:
                defects.add("columns", f"{path.name} has no column {name!r}")
    defects.check()
    of_film = dict(zip(told["patientId"], told["class"], strict=True))
    boxes: dict[str, list[Box]] = {name: [] for name in dict.fromkeys(table["patientId"])}
    for place, name in enumerate(table["patientId"]):
        line = int(lines[place])
        cells = [table[column][place] for column in ("x", "y", "width", "height")]
        positive, there = table["Target"][place] in ("1", "1.0"), any(cells)
        if positive != there:
            found = f"Target is {quote(table['Target'][place])}, and there is {'a' if there else 'no'} box"
            problem = f"{name}: {found}"
            defects.add("targets", problem, line=line)
        elif there:
            box = from_corner_and_size(FINDING, _numbers(cells), (SIDE, SIDE), defects, where=name, line=line)
            boxes[name] += [box] if box else []
        if name not in of_film:
            defects.add("classes", f"{name} has no class in {classes.name}", line=line)
        elif (of_film[name] == FINDING) != positive:
            problem = (
                f"{name}: the class is {quote(of_film[name])}, and Target {quote(table['Target'][place])}"
            )
            defects.add("classes", problem, line=line)
    paths = {name: _image(folder, name, defects) for name in boxes}
    patients = list(boxes) if nih_mapping is None else _nih_patients(nih_mapping, list(boxes), defects)
    defects.check()
    if nih_mapping is not None:
        log.info("%d films are of %d patients of ChestX-ray14", len(patients), len(set(patients)))
    return records_of(
        list(paths.values()),
        patients,
        {paths[name]: found for name, found in boxes.items()},
        [FINDING],
        **{"class": [of_film[name] for name in boxes]},
    )


def _nih_patients(path: Path, names: list[str], defects: Defects) -> list[str]:
    """The patient of ChestX-ray14 of each film: the first eight digits of its name there."""
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
        elif patients.setdefault(name, matched[1]) != matched[1]:
            defects.add("mappings", f"{path.name}: {name} is of patient {patients[name]} and of {matched[1]}")
    for name in names:
        if name not in patients:
            defects.add("films of nobody", f"{name} is not in {path.name}")
    return [patients.get(name, "") for name in names]


def _numbers(cells: list[str]) -> list[float]:
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        return [float("nan")] * 4


def _image(folder: Path, name: str, defects: Defects) -> str:
    for ending in ENDINGS:
        if (folder / f"{name}{ending}").is_file():
            return str((folder / f"{name}{ending}").absolute())
    defects.add("missing films", f"{folder / name} is there with none of {', '.join(ENDINGS)}")
    return name
