"""Who is drawn and where everything lies: patients, their films, and the outlines of a chest.

Coordinates are those of `phantom_canvas.Canvas`: the film is the unit square, y down, and x grows to the
patient's left, as on every chest film. `side` is -1 for the right lung and 1 for the left.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hilum.images.phantom_canvas import Points, band, smooth

SIDES = (-1, 1)
MIDLINE = 0.5
CHEST_WIDTH = 0.67
"""Inner width of the bony chest where it is widest; the heart's width is a ratio of it."""
ENLARGED_HEART = 0.5
"""Cardiomegaly is a heart wider than half the chest, measured on the body and not on its shadow."""
AP_MAGNIFICATION = 1.13
"""The heart lies in front: with the detector behind (AP) its shadow is this much wider."""

# x from the midline and y: the apex, down the chest wall to the costophrenic angle (a corner), over the
# diaphragm's dome, and up the mediastinum; a row with 1 moves with the diaphragm
_LUNG = np.array(
    [
        (0.085, 0.125, 0), (0.135, 0.100, 0), (0.195, 0.135, 0), (0.250, 0.225, 0), (0.288, 0.335, 0),
        (0.315, 0.460, 0), (0.330, 0.590, 0), (0.335, 0.690, 1), (0.331, 0.748, 1), (0.331, 0.748, 1),
        (0.292, 0.696, 1), (0.230, 0.664, 1), (0.165, 0.656, 1), (0.105, 0.674, 1), (0.060, 0.706, 1),
        (0.060, 0.706, 1), (0.038, 0.560, 0), (0.040, 0.400, 0), (0.045, 0.270, 0), (0.058, 0.180, 0),
    ]
)  # fmt: skip
_BODY = np.array(
    [
        (0.098, -0.30), (0.093, -0.03), (0.105, 0.035), (0.155, 0.070), (0.250, 0.092), (0.370, 0.108),
        (0.470, 0.140), (0.540, 0.230), (0.600, 0.420), (0.640, 0.600), (0.640, 0.600),
        (0.535, 0.520), (0.445, 0.375),
        (0.445, 0.375), (0.418, 0.480), (0.402, 0.620), (0.396, 0.760), (0.398, 0.900), (0.405, 1.100),
    ]
)  # fmt: skip
# x in units of the heart's reach to that side and y: from the cava round the right atrium and the apex
_HEART = np.array(
    [
        (-0.50, 0.330), (-0.55, 0.420), (-0.86, 0.520), (-1.00, 0.600), (-0.92, 0.670), (-0.55, 0.715),
        (0.10, 0.735), (0.55, 0.742), (0.88, 0.715), (1.00, 0.660), (0.95, 0.590), (0.78, 0.510),
        (0.53, 0.440), (0.36, 0.400), (0.28, 0.350), (0.00, 0.300),
    ]
)  # fmt: skip
_CLAVICLE = np.array(
    [(0.032, 0.212), (0.085, 0.202), (0.160, 0.178), (0.235, 0.150), (0.310, 0.130), (0.385, 0.138)]
)
_SCAPULA = np.array(
    [
        (0.350, 0.120), (0.415, 0.140), (0.425, 0.190), (0.395, 0.270), (0.362, 0.420), (0.340, 0.440),
        (0.318, 0.360), (0.298, 0.240), (0.292, 0.160),
    ]
)  # fmt: skip
_NUM_RIBS = 10
_RIB_ANGLES = np.linspace(0.035, 0.76, 26) * np.pi


@dataclass(frozen=True)
class Patient:
    """What the films of one patient share."""

    name: str
    sex: str
    age: int
    site: int
    width: float
    height: float
    build: float
    heart_ratio: float
    bone: float
    taper: float
    bow: float
    seed: tuple[int, int]

    @property
    def cardiomegaly(self) -> bool:
        """Whether the heart is too wide, whatever the projection makes of it."""
        return self.heart_ratio > ENLARGED_HEART


@dataclass(frozen=True)
class Pose:
    """How the patient stood, or lay, for one film."""

    view: str
    diaphragm: float
    rotation: float
    zoom: float
    shift: tuple[float, float]


def patient_of(seed: int, index: int) -> tuple[int, int]:
    """The number of the patient whose film this is, and which of the patient's films: 0, 1 or 2.

    Six films in a row are one, two and three films of three patients, in an order drawn per six.
    """
    block, place = divmod(index, 6)
    order = np.random.default_rng((seed, block, 0)).permutation(3)
    ends = np.cumsum(order + 1)
    nth = int(np.searchsorted(ends, place, side="right"))
    return block * 3 + nth, place - int(ends[nth] - order[nth] - 1)


def draw_patient(seed: int, number: int, num_sites: int) -> Patient:
    """The patient of that number: a pure function of the arguments."""
    random = np.random.default_rng((seed, number, 1))
    male = bool(random.random() < 0.54)
    age = int(np.clip(random.normal(58, 17), 18, 95))
    enlarged = random.random() < 0.08 + 0.0022 * age
    ratio = random.normal(0.540, 0.026) if enlarged else random.normal(0.448, 0.026)
    build = float(np.clip(random.normal(1.0, 0.13), 0.75, 1.4))
    return Patient(
        name=f"P{seed}-{number:05d}",
        sex="M" if male else "F",
        age=age,
        site=int(random.integers(num_sites)),
        width=float(random.normal(1.08 if male else 1.02, 0.04)),
        height=float(random.normal(1.02 if male else 0.95, 0.045)),
        build=build,
        heart_ratio=float(np.clip(ratio, 0.36, 0.66)),
        bone=float((1.05 if male else 0.92) - 0.004 * (age - 50)),
        taper=float(random.normal(0.05, 0.16)),
        bow=float(random.normal(0, 0.008)),
        seed=(seed, number),
    )


def draw_pose(random: np.random.Generator) -> Pose:
    """A standing PA film or, one in three, an AP film: less air, tilted more, magnified."""
    lying = bool(random.random() < 0.36)
    loose = 1.6 if lying else 1.0
    return Pose(
        view="AP" if lying else "PA",
        diaphragm=float(random.normal(-0.045 if lying else 0.02, 0.022)),
        rotation=float(random.normal(0, 1.4 * loose)),
        zoom=float(random.normal(1.10 if lying else 1.07, 0.03)),
        shift=(float(random.normal(0, 0.010 * loose)), float(random.normal(0.01, 0.014 * loose))),
    )


def placement(patient: Patient, pose: Pose) -> Points:
    """The affine map from the body's unit square to the film's."""
    angle = np.deg2rad(pose.rotation)
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    linear = turn * pose.zoom * np.array([patient.width, patient.height])
    about = np.array([MIDLINE, 0.42])
    offset = about + np.array(pose.shift) - linear @ about
    return np.column_stack([linear, offset])


def mirrored(points: Points, side: int) -> Points:
    """Points given as (distance from the midline, y) on one side of the body."""
    return np.column_stack([MIDLINE + side * points[:, 0], points[:, 1]])


def lung(side: int, diaphragm: float) -> Points:
    """The outline of a lung as if there were no heart; the right dome stands higher."""
    points = _LUNG[:, :2].copy()
    points[:, 1] += _LUNG[:, 2] * (diaphragm + (0.018 if side > 0 else -0.004))
    return mirrored(smooth(points, closed=True), side)


def heart(patient: Patient, pose: Pose) -> Points:
    """The outline of the heart's shadow: its width is the patient's ratio, magnified in AP."""
    width = CHEST_WIDTH * patient.heart_ratio * (AP_MAGNIFICATION if pose.view == "AP" else 1.0)
    reach = np.where(_HEART[:, 0] < 0, 0.31, 0.69) * width
    y = _HEART[:, 1] + np.clip((_HEART[:, 1] - 0.45) / 0.25, 0, 1) * pose.diaphragm * 0.9
    return smooth(np.column_stack([MIDLINE + _HEART[:, 0] * reach, y]), closed=True)


def body(build: float) -> Points:
    """The outline of neck, shoulders, arms and trunk; wider for a heavier build."""
    outline = _BODY.copy()
    outline[:, 0] *= 1 + 0.22 * (build - 1) * np.clip(outline[:, 1] / 0.4, 0.3, 1.3)
    right, left = mirrored(outline, -1), mirrored(outline, 1)
    return np.concatenate([smooth(right), smooth(left)[::-1]])


def clavicle(side: int, lift: float) -> Points:
    """An S from the breastbone to the shoulder, thicker at both ends."""
    line = _CLAVICLE.copy()
    line[:, 1] -= lift * (line[:, 0] < 0.1) + lift * 0.5
    curve = smooth(line)
    width = 0.022 + 0.010 * np.abs(np.linspace(-1, 1, len(curve))) ** 2
    return mirrored(band(curve, width), side)


def scapula(side: int, inwards: float) -> Points:
    """A shoulder blade; in AP it covers the lung."""
    return mirrored(smooth(_SCAPULA - (inwards, 0), closed=True), side)


@lru_cache(maxsize=1)
def ribs() -> tuple[list[Points], list[Points]]:
    """The dorsal halves and the ventral halves of all ribs: tilted rings seen from the front."""
    wall = smooth(_LUNG[1:9, :2])
    dorsal, ventral = [], []
    for i in range(_NUM_RIBS):
        drop = min(0.075 + 0.050 * i, 0.270)
        start = 0.108 + 0.0585 * i
        reach = np.interp(start + 0.5 * drop, wall[:, 1], wall[:, 0]) + 0.010
        y = start + drop * (1 - np.cos(_RIB_ANGLES)) / 2 - 0.010 * np.sin(2 * _RIB_ANGLES) * (i > 0)
        line = np.column_stack([np.sin(_RIB_ANGLES) * reach, y])
        half = len(line) * 2 // 3
        for side in SIDES:
            dorsal.append(band(mirrored(line[:half], side), 0.023))
            ventral.append(band(mirrored(line[half - 1 :], side), 0.025))
    return dorsal, ventral
