"""A healthy chest as layers of attenuation; 1 is about what the middle of the trunk takes from the beam."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np

from hilum.images import phantom_body as shape
from hilum.images.phantom_body import MIDLINE, SIDES, Patient, Pose, mirrored
from hilum.images.phantom_canvas import Canvas, Layer, Points, band, smooth

AERATED = 0.46
"""What a lung full of air takes less from the beam than the same lung full of water."""
VESSELS = 0.20
_HUMERUS = np.array(
    [
        (0.425, 0.190), (0.438, 0.160), (0.468, 0.152), (0.498, 0.172), (0.506, 0.215), (0.535, 0.320),
        (0.590, 0.560), (0.555, 0.570), (0.500, 0.340), (0.470, 0.250), (0.435, 0.225),
    ]
)  # fmt: skip
_NECK = np.array([(0.0, -0.3), (0.075, -0.3), (0.085, 0.05), (0.20, 0.12), (0.10, 0.17), (0.0, 0.2)])
_PECTORAL = np.array([(0.10, 0.27), (0.25, 0.22), (0.42, 0.24), (0.43, 0.36), (0.33, 0.46), (0.18, 0.43)])
_WINDPIPE = np.array([(0.502, -0.3), (0.500, 0.1), (0.497, 0.25), (0.494, 0.355)])
_RIGHT_BRONCHUS = np.array([(0.494, 0.350), (0.472, 0.395), (0.448, 0.430)])
_LEFT_BRONCHUS = np.array([(0.494, 0.350), (0.525, 0.400), (0.560, 0.425)])
_HILUM = {-1: (0.062, 0.455), 1: (0.070, 0.430)}
_BRANCHES = 6
_LEVELS = 5


@dataclass
class Chest:
    """The layers of one film, not yet added up, so that findings can change them."""

    lungs: dict[int, Layer]
    """By side: 1 where lung is seen, little where heart or great vessels cover it."""
    air: Layer
    """How much lung the beam crosses."""
    tissue: Layer
    """All that is neither lung nor rib."""
    ribs: Layer
    vessels: Layer
    """The lungs' arteries."""
    heart: Layer
    """1 inside the heart's shadow."""

    def attenuation(self) -> Layer:
        """The layers added up."""
        total: Layer = self.vessels * np.minimum(self.air, np.float32(0.7))
        total *= VESSELS
        total += self.tissue
        total += self.ribs
        cv2.scaleAdd(self.air, -AERATED, total, total)
        return total


def draw_chest(canvas: Canvas, patient: Patient, pose: Pose, random: np.random.Generator) -> Chest:
    """The layers of one film without findings."""
    outlines = {side: shape.lung(side, pose.diaphragm) for side in SIDES}
    heart = canvas.fill(shape.heart(patient, pose))
    lungs = {side: canvas.fill(outline) for side, outline in outlines.items()}
    both = lungs[-1] + lungs[1]
    shadow = np.maximum(canvas.fill(*_mediastinum(patient)), heart)
    solid = canvas.fill(_abdomen(pose), blur=0.01)
    solid *= 1 - both
    clear = 1 - 0.75 * shadow
    air = 0.30 + 0.70 * canvas.fill(*outlines.values(), blur=0.035)
    air *= both
    air *= 1 - 0.90 * shadow
    tissue = _trunk(canvas, patient)
    tissue += 0.14 * shadow * (1 - solid)
    tissue += 0.20 * solid
    ribs = _ribs(canvas, patient)
    ribs *= 1 - 0.65 * np.maximum(solid, shadow)
    tissue += _bones(canvas, patient, pose)
    tissue -= _gases(canvas, pose, random)
    if pose.view == "AP":
        tissue += 0.16 * _leads(canvas, random)
    vessels = _vessels(canvas, random)
    vessels *= both
    vessels *= clear
    return Chest({side: layer * clear for side, layer in lungs.items()}, air, tissue, ribs, vessels, heart)


def _abdomen(pose: Pose) -> Points:
    half = np.array(
        [
            (0.0, 0.70),
            (0.07, 0.68),
            (0.165, 0.65),
            (0.23, 0.655),
            (0.295, 0.69),
            (0.335, 0.75),
            (0.37, 0.90),
            (0.39, 1.3),
        ]
    )
    half[:-1, 1] += pose.diaphragm
    return np.concatenate([smooth(mirrored(half, -1))[::-1], smooth(mirrored(half, 1))])


def _mediastinum(patient: Patient) -> list[Points]:
    """The great vessels from the neck to the heart, with the aortic knob, wider with age."""
    age = (patient.age - 50) / 50
    edge = np.array(
        [(0.052, -0.05), (0.048, 0.10), (0.046, 0.20), (0.045, 0.30), (0.048, 0.42), (0.05, 0.70)]
    )
    left = edge + np.array([(0, 0), (0, 0), (0.004, 0), (0.004, 0), (0, 0), (0, 0)])
    knob_x, knob_y, radius = 0.034 + 0.010 * age, 0.305 - 0.012 * age, 0.036 + 0.008 * age
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    knob = np.column_stack([MIDLINE + knob_x + radius * np.cos(angle), knob_y + radius * np.sin(angle)])
    trunk = np.concatenate([smooth(mirrored(edge, -1)), smooth(mirrored(left, 1))[::-1]])
    return [trunk, knob]


def _trunk(canvas: Canvas, patient: Patient) -> Layer:
    """Soft tissue: thickest in the middle, thinner in the arms; muscles of neck and chest, breasts."""
    outline = shape.body(patient.build)
    core = canvas.fill(_oval(MIDLINE, 0.62, 0.30, 0.72), blur=0.09)
    layer = 0.10 + 0.24 * canvas.fill(outline, blur=0.06)
    layer += 0.38 * core
    layer += 0.09 * canvas.fill(*(mirrored(_NECK, side) for side in SIDES), blur=0.016)
    layer += 0.06 * canvas.fill(*_pectorals(), blur=0.02)
    layer *= patient.build**0.7
    if patient.sex == "F":
        breasts = [_breast(side, patient.build) for side in SIDES]
        layer += 0.06 * patient.build * canvas.fill(*breasts, blur=0.007)
        layer += 0.07 * patient.build * canvas.fill(*breasts, blur=0.03)
    layer *= canvas.fill(outline)
    return layer


@lru_cache(maxsize=1)
def _pectorals() -> list[Points]:
    return [mirrored(smooth(_PECTORAL, closed=True), side) for side in SIDES]


def _breast(side: int, build: float) -> Points:
    low = 0.70 + 0.05 * (build - 1)
    return mirrored(
        smooth(
            np.array(
                [
                    (0.08, 0.60),
                    (0.12, 0.52),
                    (0.25, 0.47),
                    (0.37, 0.52),
                    (0.405, 0.62),
                    (0.37, low),
                    (0.25, low + 0.045),
                    (0.14, low - 0.01),
                ]
            ),
            closed=True,
        ),
        side,
    )


def _ribs(canvas: Canvas, patient: Patient) -> Layer:
    layer = np.zeros((canvas.size, canvas.size), np.float32)
    for strips, strength in zip(shape.ribs(), (0.115, 0.075), strict=True):
        cortex = canvas.strokes([(strips, 0.0045, 1.0)])
        layer += strength * patient.bone * (0.6 * canvas.fill(*strips) + 0.4 * cortex)
    return layer


def _bones(canvas: Canvas, patient: Patient, pose: Pose) -> Layer:
    """Spine, collar bones, shoulder blades and upper arms."""
    collars, blades, arms = _shoulders(pose.view)
    layer = 0.12 * canvas.fill(*collars)
    layer += 0.07 * canvas.fill(*blades)
    layer += 0.11 * canvas.fill(*arms)
    bodies, plates, pedicles = _spine()
    layer += 0.08 * canvas.fill(*bodies, blur=0.004)
    layer += 0.05 * canvas.strokes([(plates, 0.005, 1.0), (pedicles, 0.009, 0.9)], blur=0.003)
    layer *= patient.bone
    return layer


@lru_cache(maxsize=2)
def _shoulders(view: str) -> tuple[list[Points], list[Points], list[Points]]:
    lying = view == "AP"
    return (
        [shape.clavicle(side, 0.02 if lying else 0.0) for side in SIDES],
        [shape.scapula(side, 0.045 if lying else 0.0) for side in SIDES],
        [mirrored(smooth(_HUMERUS, closed=True), side) for side in SIDES],
    )


@lru_cache(maxsize=1)
def _spine() -> tuple[list[Points], list[Points], list[Points]]:
    """Vertebral bodies taller and wider downwards, their end plates, and pedicles with spinous processes."""
    tops = np.array([-0.20 + 0.042 * i + 0.0007 * i * i for i in range(24)])
    bodies, plates, pedicles = [], [], []
    for top, bottom in pairwise(tops):
        half, foot = 0.028 + 0.012 * top, bottom - 0.008
        waist = (0.9 * half, (top + foot) / 2)
        right = mirrored(np.array([(half, top), waist, (half, foot)]), -1)
        left = mirrored(np.array([(half, foot), waist, (half, top)]), 1)
        bodies.append(np.concatenate([right, left]))
        plates += [np.array([right[0], left[2]]), np.array([right[2], left[0]])]
        middle = top + 0.35 * (bottom - top)
        for x, y, reach in ((-0.62 * half, middle, 0.006), (0.62 * half, middle, 0.006), (0.0, foot, 0.008)):
            pedicles.append(np.array([(MIDLINE + x, y - reach), (MIDLINE + x, y + reach)]))
    return bodies, plates, pedicles


def _gases(canvas: Canvas, pose: Pose, random: np.random.Generator) -> Layer:
    """What windpipe, bronchi, the stomach's bubble under the left dome and the bowel take away."""
    layer = 0.16 * canvas.fill(*_airway(), blur=0.006)
    x, y = random.uniform(0.10, 0.19), 0.70 + pose.diaphragm + random.uniform(0.028, 0.050)
    bubble = _oval(MIDLINE + x, y, random.uniform(0.03, 0.07), random.uniform(0.012, 0.026))
    bubble[:, 1] -= 0.5 * np.maximum(bubble[:, 1] - y, 0)
    layer += random.uniform(0.15, 0.35) * canvas.fill(bubble)
    bowel = [_oval(MIDLINE + x, y, 0.028, 0.018) for x, y in random.uniform((-0.3, 0.86), (0.3, 1.0), (6, 2))]
    layer += 0.10 * canvas.fill(*bowel, blur=0.012)
    return layer


@lru_cache(maxsize=1)
def _airway() -> list[Points]:
    return [
        band(smooth(line), width)
        for line, width in ((_WINDPIPE, 0.036), (_RIGHT_BRONCHUS, 0.026), (_LEFT_BRONCHUS, 0.022))
    ]


def _oval(x: float, y: float, wide: float, high: float) -> Points:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return np.column_stack([x + wide * np.cos(angle), y + high * np.sin(angle)])


def _vessels(canvas: Canvas, random: np.random.Generator) -> Layer:
    """Arteries that leave the hila, fork five times and fade towards the chest wall."""
    levels: list[list[Points]] = [[] for _ in range(_LEVELS)]
    for side in SIDES:
        x, y = _HILUM[side]
        rise = np.linspace(-1, 1, _BRANCHES)
        start = np.column_stack([np.full(_BRANCHES, x), y + 0.035 * rise])
        heading = 0.1 + 1.15 * rise + random.normal(0, 0.14, _BRANCHES)
        for level in range(_LEVELS):
            length = 0.070 * 0.82**level * random.uniform(0.7, 1.3, len(start))
            bend = heading + random.normal(0, 0.2, len(start))
            middle = start + 0.5 * length[:, None] * np.column_stack([np.cos(heading), np.sin(heading)])
            end = middle + 0.5 * length[:, None] * np.column_stack([np.cos(bend), np.sin(bend)])
            lines = np.stack([start, middle, end], axis=1)
            lines[:, :, 0] = MIDLINE + side * lines[:, :, 0]
            levels[level] += list(lines)
            spread = random.uniform(0.15, 0.55, len(start))
            start = np.repeat(end, 2, axis=0)
            heading = np.repeat(bend, 2) + np.column_stack([-spread, spread]).ravel()
    groups = [(levels[level], 0.0110 * 0.70**level, 0.80**level) for level in reversed(range(_LEVELS))]
    hila = [
        np.array(
            [
                (MIDLINE + side * 0.050, y - 0.05),
                (MIDLINE + side * (x + 0.004), y),
                (MIDLINE + side * 0.066, y + 0.06),
            ]
        )
        for side, (x, y) in _HILUM.items()
    ]
    return canvas.strokes(groups) + 0.6 * canvas.strokes([(hila, 0.030, 1.0)], blur=0.011)


def _leads(canvas: Canvas, random: np.random.Generator) -> Layer:
    """Electrodes and wires of a monitored patient; none on every third film."""
    if random.random() < 1 / 3:
        return np.zeros((canvas.size, canvas.size), np.float32)
    ends = np.array([(0.24, 0.22), (0.77, 0.24), (0.72, 0.66)]) + random.normal(0, 0.02, (3, 2))
    way = random.uniform(-0.12, 0.12, (3, 2))
    exit_ = np.array([random.choice([0.2, 0.8]), 1.1])
    wires = [
        smooth(np.array([end, (end + exit_) / 2 + bend, exit_])) for end, bend in zip(ends, way, strict=True)
    ]
    dots = [np.array([end, end + 1e-4]) for end in ends]
    return canvas.strokes([(wires, 0.0035, 0.7), (dots, 0.022, 1.0)])
