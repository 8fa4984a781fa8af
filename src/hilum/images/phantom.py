"""Synthetic chest radiographs with known findings, boxes, masks and a sentence: for the demo, tests and benchmarks.

They are phantoms and no patients: good enough that a reader recognises what is on them, and that an encoder
has something to learn; nothing measured on them says anything about people.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from hilum.images.phantom_body import draw_patient, draw_pose, patient_of, placement
from hilum.images.phantom_canvas import Canvas, Layer
from hilum.images.phantom_chest import AERATED, draw_chest
from hilum.images.phantom_film import FAITHFUL, MARKED, SITES, Site, clouds, expose, mark
from hilum.images.phantom_findings import FINDINGS, Mask, add_findings, describe

__all__ = ["FINDINGS", "SHORTCUT", "Box", "Phantom", "draw_phantom"]

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
    """
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


def _bounds(mask: Mask) -> tuple[int, int, int, int]:
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return x, y, x + width, y + height
