"""REFLACX: 2,507 films of MIMIC-CXR read by radiologists, with certainties and ellipses of what they found.

Bigolin Lanfredi et al. 2022, https://doi.org/10.1038/s41597-022-01441-z (PhysioNet, with MIMIC-CXR's data
use agreement). Expected below the root, as downloaded: main_data/metadata_phase_3.csv (id, split,
eye_tracking_data_discarded, image, dicom_id, subject_id, image_size_x, image_size_y, a column per label, and
Other) and, for each reading, main_data/<id>/anomaly_location_ellipses.csv (xmin, ymin, xmax, ymax,
certainty, a True or False per label) and transcription.txt; by its README and by the authors' code that
writes them (https://github.com/ricbl/eyetracking): the files were not at hand. The films in --mimic:
MIMIC-CXR or MIMIC-CXR-JPG, files/p10/p10000032/s50414267/<dicom_id>.dcm or .jpg.

A label's certainty is 0 (not chosen), 1 (below 10 %), 2 (about 25 %), 3 (50 %), 4 (75 %) or 5 (above 90 %).
It is 1 from --positive on, 0 where it is 0, and -1 between, which --uncertain decides later. Support devices
are True or False. Boxes surround ellipses of --positive or more, in pixels of the film, cut at its edge.

The split is MIMIC's (validate is val). Phases 1 and 2 are left out: several radiologists read the same
films there, partly by other labels. So is what readers wrote under Other.
"""

import logging
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.config import Config
from hilum.records.cells import split_of
from hilum.records.defects import Defects, quote
from hilum.records.sources._boxes import Box, on_copy
from hilum.records.sources._more import box_cell, left_out, mimic_films, plain_text
from hilum.records.sources._places import found, start_of
from hilum.records.sources._tables import records_of, sheet
from hilum.records.table import Records


class Settings(Config):
    """Settings of REFLACX."""

    mimic: Path
    """The folder of MIMIC-CXR or MIMIC-CXR-JPG, with files in it."""
    positive: Literal[2, 3, 4, 5] = 4
    """The least certainty that is a positive; between it and 0 a label is uncertain (-1)."""


FINDINGS = (
    "Abnormal mediastinal contour", "Acute fracture", "Atelectasis", "Consolidation",
    "Enlarged cardiac silhouette", "Enlarged hilum", "Groundglass opacity", "Hiatal hernia",
    "High lung volume / emphysema", "Interstitial lung disease", "Lung nodule or mass", "Pleural abnormality",
    "Pneumothorax", "Pulmonary edema",
)  # fmt: skip
DEVICES = "Support devices"
ELLIPSES = "anomaly_location_ellipses.csv"
_NEEDED = ("id", "split", "image", "dicom_id", "subject_id", "image_size_x", "image_size_y")
_SIDES = ("xmin", "ymin", "xmax", "ymax")

log = logging.getLogger(__name__)


def read(root: Path, *, mimic: Path, positive: int) -> Records:
    """The films of phase 3 with the labels, boxes and words of their reader.

    Raises:
        MissingError: a file or folder is not there.
        RecordsError: the files have defects; all of them are in the message.
    """
    base = start_of(root, "metadata_phase_3.csv", "main_data/metadata_phase_3.csv")
    path = found(base, "main_data/metadata_phase_3.csv", "metadata_phase_3.csv")
    defects = Defects(path)
    told = sheet(path, (*_NEEDED, *FINDINGS, DEVICES), defects)
    defects.check()
    for column in ("id", "dicom_id"):
        again = told[column].duplicated()
        for line, cell in zip(told["line"][again], told[column][again], strict=True):
            defects.add("readings", f"{column} {cell} is there twice", line=int(line))
    table = pd.DataFrame(
        {
            "line": told["line"],
            "patient": told["subject_id"].str.strip().str.removesuffix(".0"),
            "split": told["split"].map(lambda cell: split_of(cell) or ""),
            "study": told["image"].str.extract(r"/s(\d+)/", expand=False),
            "film": told["dicom_id"].str.strip(),
        }
    )
    for column, cells in (("split", told["split"]), ("study", told["image"])):
        bad = table[column].isna() | (table[column] == "")
        for line, cell in zip(told["line"][bad], cells[bad], strict=True):
            expected = "train, validate or test" if column == "split" else "a path with /s50414267/ in it"
            defects.add(column, f"found {quote(cell)}; expected {expected}", line=int(line))
    labels = {name: _labels(told[name], told["line"], positive, defects) for name in FINDINGS}
    devices = told[DEVICES].str.strip().str.lower().map({"true": 1.0, "1": 1.0, "false": 0.0, "0": 0.0})
    for line, cell in zip(told["line"][devices.isna()], told[DEVICES][devices.isna()], strict=True):
        defects.add(DEVICES, f"found {quote(cell)}; expected True or False", line=int(line), column=DEVICES)
    labels[DEVICES] = np.array(devices, np.float64)
    sizes = [pd.to_numeric(told[f"image_size_{side}"], errors="coerce") for side in "xy"]
    for line in told["line"][sizes[0].isna() | sizes[1].isna()]:
        defects.add("sizes", "image_size_x or image_size_y is no number", line=int(line))
    defects.check()
    table["image"] = mimic_films(mimic, table, defects)
    boxes = [
        _boxes(path.parent / name, (width, height), positive, defects)
        for name, width, height in zip(told["id"], sizes[0], sizes[1], strict=True)
    ]
    bare = [name for name in told["id"] if not (path.parent / name / ELLIPSES).is_file()]
    left_out(log, bare, f"readings without {ELLIPSES}, so without boxes")
    placed = [
        on_copy(some, (width, height), Path(image), defects) if image else some
        for some, width, height, image in zip(boxes, sizes[0], sizes[1], table["image"], strict=True)
    ]
    if other := sum(one != some for one, some in zip(placed, boxes, strict=True)):
        log.info("the boxes of %d films that are of another size than the readers saw were scaled", other)
    table["boxes"] = [box_cell(some) for some in placed]
    table["text"] = [_text(path.parent / name / "transcription.txt", defects) for name in told["id"]]
    defects.check()
    silent = int((table["text"] == "").sum())
    if silent:
        log.info("%d readings have no transcription.txt; their text is empty", silent)
    return records_of(table.drop(columns="film"), labels)


def _labels(cells: pd.Series, lines: pd.Series, positive: int, defects: Defects) -> NDArray[np.float64]:
    """1, 0, -1 or NaN (an empty cell) of certainties."""
    grades = pd.to_numeric(cells.str.strip(), errors="coerce").to_numpy(np.float64)
    bad = (cells.str.strip() != "").to_numpy() & ~np.isin(grades, range(6))
    for line, cell in zip(lines[bad], cells[bad], strict=True):
        defects.add(
            "certainties", f"found {quote(cell)}; expected 0 to 5", line=int(line), column=str(cells.name)
        )
    sure = np.where(grades >= positive, 1.0, np.where(grades == 0, 0.0, -1.0))
    return np.where(np.isnan(grades), np.nan, sure)


def _boxes(folder: Path, size: tuple[float, float], positive: int, defects: Defects) -> list[Box]:
    """A box around each sure ellipse of a reading, for each label that it is of."""
    path = folder / ELLIPSES
    if not path.is_file():
        return []
    inner = Defects(path)
    told = sheet(path, (*_SIDES, "certainty"), inner)
    if len(inner):
        needed = ", ".join((*_SIDES, "certainty"))
        defects.add("ellipses", f"{folder.name}/{path.name} lacks one of {needed}, or has unequal rows")
        return []
    sides = told[[*_SIDES, "certainty"]].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    low = np.clip(np.minimum(sides[:, :2], sides[:, 2:4]), 0, size)
    high = np.clip(np.maximum(sides[:, :2], sides[:, 2:4]), 0, size)
    for row in np.flatnonzero(~((high > low).all(axis=1) & np.isfinite(sides).all(axis=1))):
        defects.add(
            "ellipses",
            f"{folder.name}/{path.name} line {int(told['line'].iloc[row])}: has no area on the film",
        )
    sure = sides[:, 4] >= positive
    return [
        (name, float(low[row, 0]), float(low[row, 1]), float(high[row, 0]), float(high[row, 1]))
        for name in FINDINGS
        if name in told
        for row in np.flatnonzero(sure & (told[name].str.strip().str.lower() == "true").to_numpy())
    ]


def _text(path: Path, defects: Defects) -> str:
    return plain_text(path, defects).strip() if path.is_file() else ""
