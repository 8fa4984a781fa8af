"""Findings: what each does to the layers of a chest, which pixels it takes, and how it is described."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hilum.images.phantom_body import MIDLINE, Patient, Pose, lung, mirrored
from hilum.images.phantom_canvas import Canvas, Layer, Points, smooth
from hilum.images.phantom_chest import AERATED, Chest
from hilum.images.phantom_film import clouds

FINDINGS = ("Consolidation", "Effusion", "Pneumothorax", "Cardiomegaly", "Nodule")
"""What a phantom may show, in the order of its labels."""

Mask = NDArray[np.bool_]

_SIDE = {-1: "right", 1: "left"}
_FREQUENCY = {"PA": (0.15, 0.14, 0.15), "AP": (0.26, 0.26, 0.22)}
_NODULES = 0.19


@dataclass(frozen=True)
class Shown:
    """A finding on one film."""

    mask: Mask
    phrase: str


def add_findings(
    canvas: Canvas, chest: Chest, patient: Patient, pose: Pose, random: np.random.Generator
) -> dict[str, Shown]:
    """Changes the layers and returns what is on the film.

    A wide heart and a nodule belong to the patient, the others come and go from film to film and are
    more frequent in AP, where the sicker patients are.
    """
    draws, sides = random.random(3), random.choice([-1, 1], 3)
    consolidated, wet, dry = (bool(yes) for yes in draws < _FREQUENCY[pose.view])
    if wet and dry:
        sides[2] = -sides[1]
    shown = {}
    if consolidated:
        shown["Consolidation"] = _consolidation(canvas, chest, pose, int(sides[0]), random)
    if wet:
        shown["Effusion"] = _effusion(canvas, chest, pose, int(sides[1]), random)
    if dry:
        shown["Pneumothorax"] = _pneumothorax(canvas, chest, pose, int(sides[2]), random)
    if patient.cardiomegaly:
        words = "mild" if patient.heart_ratio < 0.54 else "marked"
        shown["Cardiomegaly"] = Shown(chest.heart > 0.5, f"{words} cardiomegaly")
    own = np.random.default_rng((*patient.seed, 4))
    if own.random() < _NODULES:
        shown["Nodule"] = _nodule(canvas, chest, pose, own)
    return {finding: shown[finding] for finding in FINDINGS if finding in shown}


def describe(shown: dict[str, Shown], random: np.random.Generator) -> str:
    """One sentence that names what is on the film and nothing else.

    >>> describe({}, np.random.default_rng(0)) in NORMAL
    True
    """
    if not shown:
        return NORMAL[int(random.integers(len(NORMAL)))]
    phrases = [one.phrase for one in shown.values()]
    listed = " and ".join([", ".join(phrases[:-1])] * (len(phrases) > 1) + phrases[-1:])
    opening = ("The film shows", "There is", "Findings:")[int(random.integers(3))]
    return f"{opening} {listed}."


NORMAL = (
    "The lungs are clear and the heart is of normal size.",
    "No acute abnormality.",
    "Normal chest film.",
)
"""What is said of a film without findings."""


def _zone(y: float) -> str:
    return "upper" if y < 0.31 else "mid" if y < 0.50 else "lower"


def _spot(side: int, pose: Pose, random: np.random.Generator, edge: float) -> tuple[float, float]:
    """A place in a lung beside the heart, at least about `edge` from the chest wall."""
    y = float(random.uniform(0.17, 0.64 + min(pose.diaphragm, 0.0)))
    wall = float(np.interp(y, (0.10, 0.14, 0.23, 0.34, 0.46, 0.6), (0.10, 0.18, 0.24, 0.28, 0.31, 0.33)))
    inner = 0.075 if side < 0 or y < 0.45 else 0.075 + 0.6 * (y - 0.45)
    return float(random.uniform(inner + edge / 2, wall - edge)), y


def _blob(random: np.random.Generator, x: float, y: float, radius: float) -> Points:
    angle = np.linspace(0, 2 * np.pi, 9, endpoint=False)
    reach = radius * random.uniform(0.65, 1.25, 9)
    points = np.column_stack([x + reach * np.cos(angle), y + 1.1 * reach * np.sin(angle)])
    return smooth(points, closed=True, steps=4)


def _visible(layer: Layer, level: float) -> Mask:
    """Where a layer is above a level, or at least where it is strongest."""
    mask: Mask = layer > min(level, float(layer.max()) * 0.9)
    return mask


def _consolidation(canvas: Canvas, chest: Chest, pose: Pose, side: int, random: np.random.Generator) -> Shown:
    """Patchy: alveoli full of fluid hide the vessels among them."""
    x, y = _spot(side, pose, random, 0.04)
    radius = float(random.uniform(0.055, 0.115))
    dense = canvas.fill(mirrored(_blob(random, x, y, radius), side), blur=0.016)
    dense *= 0.75 + 0.5 * clouds(random, canvas.size)
    dense *= chest.lungs[side]
    np.clip(dense, 0, 1, out=dense)
    chest.tissue += float(random.uniform(0.28, 0.62)) * AERATED * dense * chest.air
    chest.vessels *= 1 - 0.7 * dense
    return Shown(_visible(dense, 0.3), f"consolidation in the {_SIDE[side]} {_zone(y)} zone")


def _effusion(canvas: Canvas, chest: Chest, pose: Pose, side: int, random: np.random.Generator) -> Shown:
    """Fluid from the costophrenic angle upwards, higher along the chest wall (the meniscus)."""
    height = float(random.uniform(0.025, 0.15) if random.random() < 0.75 else random.uniform(0.15, 0.32))
    top = 0.75 + pose.diaphragm - height
    line = np.array(
        [
            (0.40, top - 0.11),
            (0.335, top - 0.08),
            (0.308, top - 0.02),
            (0.25, top + 0.02),
            (0.15, top + 0.035),
            (0.03, top + 0.03),
        ]
    )
    pool = mirrored(np.concatenate([smooth(line), [(0.03, 0.9), (0.40, 0.9)]]), side)
    fluid = canvas.fill(pool, blur=0.012) * chest.lungs[side]
    chest.tissue += float(random.uniform(0.5, 1.0)) * fluid * (AERATED * chest.air + 0.13)
    chest.vessels *= 1 - fluid
    chest.ribs *= 1 - 0.5 * fluid
    size = "small" if height < 0.08 else "moderate" if height < 0.16 else "large"
    return Shown(_visible(fluid, 0.5), f"a {size} {_SIDE[side]} pleural effusion")


def _pneumothorax(canvas: Canvas, chest: Chest, pose: Pose, side: int, random: np.random.Generator) -> Shown:
    """Air without vessels round a lung that has shrunk towards its hilum, and the thin line of its pleura."""
    share = float(random.uniform(0.045, 0.22))
    anchor = np.array([MIDLINE + side * 0.05, 0.66 + pose.diaphragm])
    shrink = np.array([1 - share, 1 - 0.6 * share])
    collapsed = (lung(side, pose.diaphragm) - anchor) * shrink + anchor
    inside = canvas.fill(collapsed)
    gas = chest.lungs[side] * (1 - inside)
    edge = canvas.strokes([([np.concatenate([collapsed, collapsed[:1]])], 0.004, 1.0)])
    chest.tissue += 0.11 * edge * chest.lungs[side]
    chest.tissue += (0.10 + 0.25 * share) * AERATED * inside * chest.air
    chest.tissue -= 0.035 * gas
    chest.vessels *= 1 - gas
    size = "small" if share < 0.12 else "large"
    return Shown(_visible(gas, 0.5), f"a {size} {_SIDE[side]} pneumothorax")


def _nodule(canvas: Canvas, chest: Chest, pose: Pose, random: np.random.Generator) -> Shown:
    """A round shadow of one to three centimetres, always at the same place of the patient's lung."""
    side = int(random.choice([-1, 1]))
    x, y = _spot(side, Pose("PA", -0.04, 0, 1, (0, 0)), random, 0.05)
    radius = float(random.uniform(0.019, 0.040))
    strength = float(random.uniform(0.13, 0.22))
    ball = canvas.fill(mirrored(_blob(random, x, y, radius) * 0.5 + _round(x, y, radius) * 0.5, side))
    soft = canvas.fill(mirrored(_round(x, y, radius * 0.8), side), blur=radius * 0.35)
    chest.tissue += strength * ball * (0.45 + 0.55 * soft)
    return Shown(_visible(ball, 0.5), f"a nodule in the {_SIDE[side]} {_zone(y)} zone")


def _round(x: float, y: float, radius: float) -> Points:
    angle = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    return np.column_stack([x + radius * np.cos(angle), y + 1.1 * radius * np.sin(angle)])
