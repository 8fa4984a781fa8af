"""Synthetic chest radiographs with known findings, boxes, masks and text, for the demo, tests and benchmarks.

They are phantoms and no patients: good enough that a reader recognises what is on them, and that an encoder
has something to learn; nothing measured on them says anything about people.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.errors import ConfigError, OutputError
from hilum.images.phantom_body import draw_patient, draw_pose, patient_of, placement
from hilum.images.phantom_canvas import Canvas, Layer
from hilum.images.phantom_chest import draw_chest
from hilum.images.phantom_dicom import dicom_bytes
from hilum.images.phantom_film import FAITHFUL, MARKED, SITES, clouds, expose, mark
from hilum.images.phantom_findings import FINDINGS, Mask, add_findings, describe
from hilum.progress import Progress
from hilum.records.writing import write_csv

__all__ = ["FINDINGS", "SHORTCUT", "Box", "Phantom", "draw_phantom", "write_phantoms"]

SIZES = (32, 4096)
"""Smallest and largest side of a film, pixels."""

SHORTCUT = "Consolidation"
"""The finding that the side marker gives away while the shortcut is on."""

Box = tuple[str, int, int, int, int]
"""Finding, x1, y1, x2, y2: the smallest box that holds the mask; x2 and y2 are just outside."""


@dataclass(frozen=True)
class Phantom:
    """One synthetic radiograph and everything that is true of it."""

    pixels: NDArray[np.uint8]
    labels: dict[str, int]
    """1 or 0 for each of FINDINGS."""
    boxes: list[Box]
    """One per positive finding."""
    masks: dict[str, Mask]
    """One per positive finding."""
    text: str
    """One sentence that names the positive findings and no other."""
    patient: str
    view: str
    """AP or PA."""
    sex: str
    """F or M."""
    age: int
    site: str
    framed_marker: bool
    """Which of the two side markers is on the film."""
    grey: Layer = field(repr=False)
    """The film before it was cut to eight bits, 0 to 1."""


def draw_phantom(seed: int, index: int, *, size: int = 256, shortcut: bool = False) -> Phantom:
    """The radiograph of that number: a pure function of its arguments, whatever else was drawn before.

    Films of the same patient follow one another, one to three of them, and share the patient's body, site and
    nodule. With `shortcut` only the side marker changes: its look then agrees with SHORTCUT 19 times in 20.

    Raises:
        ConfigError: the seed or the index is negative, or the size is out of range.
    """
    if seed < 0 or index < 0:
        raise ConfigError(f"seed {seed}, index {index}: a phantom's seed and index are 0 or more")
    if not SIZES[0] <= size <= SIZES[1]:
        raise ConfigError(f"a phantom of {size} pixels; expected {SIZES[0]} to {SIZES[1]}")
    number, _ = patient_of(seed, index)
    patient = draw_patient(seed, number, len(SITES))
    random = np.random.default_rng((seed, index, 2))
    pose = draw_pose(random)
    canvas = Canvas(size, placement(patient, pose), patient.taper, patient.bow)
    chest = draw_chest(canvas, patient, pose, random)
    chest.air *= 1 + 0.10 * clouds(random, size)
    shown = add_findings(canvas, chest, patient, pose, random)
    text = describe(shown, random)
    site = SITES[patient.site]
    grey = expose(chest.attenuation(), site, pose.view == "AP", random)
    # the marker has random numbers of its own, so that the shortcut changes nothing else
    random = np.random.default_rng((seed, index, 3))
    u = random.random()
    framed = bool((u < FAITHFUL) == (SHORTCUT in shown) if shortcut else u < MARKED)
    mark(grey, framed=framed, view=pose.view, random=random)
    return Phantom(
        pixels=np.rint(grey * 255).astype(np.uint8),
        labels={finding: int(finding in shown) for finding in FINDINGS},
        boxes=[(finding, *_bounds(one.mask)) for finding, one in shown.items()],
        masks={finding: one.mask for finding, one in shown.items()},
        text=text,
        patient=patient.name,
        view=pose.view,
        sex=patient.sex,
        age=patient.age,
        site=site.name,
        framed_marker=framed,
        grey=grey,
    )


def write_phantoms(
    folder: Path,
    *,
    count: int,
    seed: int = 0,
    size: int = 256,
    format: Literal["png", "dicom"] = "png",
    shortcut: bool = False,
    masks: bool = False,
) -> Path:
    """Draws films 0 to count - 1 into `images` and returns the path of their table, `records.csv`.

    The table is written last, so it never names a film that is not there. `masks` adds a folder `masks` with
    a PNG per positive finding, named after film and finding, 255 inside.

    Raises:
        ConfigError: the count, the format or a film's argument is out of range.
        OutputError: the folder has a `records.csv` already, or cannot be written to.
    """
    if count < 1:
        raise ConfigError(f"{count} phantoms; expected 1 or more")
    if format not in ("png", "dicom"):
        raise ConfigError(f"phantoms as {format!r}; expected png or dicom")
    table = Path(folder) / "records.csv"
    if table.exists():
        raise OutputError(f"{table}: is there already; remove it or name another folder")
    rows = []
    try:
        for name in ("images", "masks")[: 1 + masks]:
            (table.parent / name).mkdir(parents=True, exist_ok=True)
        with Progress("Drawing", count, unit="radiographs") as progress:
            for index in range(count):
                phantom = draw_phantom(seed, index, size=size, shortcut=shortcut)
                rows.append(_write(table.parent, phantom, index, format=format, masks=masks))
                progress.update(index + 1)
    except OSError as error:
        raise OutputError(f"{folder}: phantoms cannot be written ({error.strerror})") from None
    write_csv(pd.DataFrame(rows), table)
    return table


def _write(folder: Path, phantom: Phantom, index: int, *, format: str, masks: bool) -> dict[str, object]:
    name = f"images/{index:05d}.{'png' if format == 'png' else 'dcm'}"
    if format == "png":
        (folder / name).write_bytes(_png(phantom.pixels))
    else:
        site = next(site for site in SITES if site.name == phantom.site)
        facts = {"patient": phantom.patient, "sex": phantom.sex, "view": phantom.view}
        content = dicom_bytes(phantom.grey, site, **facts, age=phantom.age, number=index)
        (folder / name).write_bytes(content)
    for finding, mask in phantom.masks.items() if masks else ():
        (folder / f"masks/{index:05d}_{finding}.png").write_bytes(_png(mask.astype(np.uint8) * 255))
    return {
        "image": name,
        "patient": phantom.patient,
        "view": phantom.view,
        "sex": phantom.sex,
        "age": phantom.age,
        "site": phantom.site,
        "text": phantom.text,
        "boxes": json.dumps(phantom.boxes),
        **phantom.labels,
    }


def _png(image: NDArray[np.uint8]) -> bytes:
    written, content = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert written
    return content.tobytes()


def _bounds(mask: Mask) -> tuple[int, int, int, int]:
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return x, y, x + width, y + height
