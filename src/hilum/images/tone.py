"""Gamma, contrast, brightness, equalisation, jitter, salt, blur, solarisation and noise on one grey channel.

In this order. What maps a grey level to a grey level before the blur is one table of 256 entries per view,
applied once, and what it reads of the picture (histogram, mean) is the whole film's.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray

from hilum.images.warp import refuse

NUM_UNIFORMS = 16
"""Random numbers that one view's tone takes."""

_BANK = 1 << 20
_LEVELS_PER_SIGMA = 32.0  # a byte then holds 4 sigma either way


@dataclass(frozen=True)
class Tone:
    """Ranges that a view's grey levels are drawn from; the defaults change nothing."""

    gamma: float = 1.0
    """Largest exponent of the tone curve; drawn from 1/gamma to gamma."""
    contrast: float = 0.0
    """Largest relative change of the distance from mid-grey."""
    brightness: float = 0.0
    """Largest shift either way, as a share of the full range."""
    equalize: float = 0.0
    """Probability of histogram equalisation."""
    blur: float = 0.0
    """Probability of a Gaussian blur."""
    blur_min: float = 0.1
    """Smallest sigma of the blur, view pixels."""
    blur_max: float = 1.5
    """Largest sigma of the blur, view pixels."""
    noise: float = 0.0
    """Probability of Gaussian noise."""
    noise_max: float = 0.02
    """Largest sigma of the noise, as a share of the full range."""
    noise_min: float = 0.0
    """Smallest sigma of the noise."""
    noise_of_mean: float = 0.0
    """1: sigma is a share of the view's mean grey level in place of the full range. 0: it is not."""
    jitter: float = 0.0
    """Probability of changing brightness and contrast as torchvision's ColorJitter does."""
    jitter_brightness: float = 0.0
    """Largest relative change of all grey levels."""
    jitter_contrast: float = 0.0
    """Largest relative change of the distance from the film's mean."""
    solarize: float = 0.0
    """Probability of inverting the bright grey levels. Off by default: air would look like bone."""
    solarize_above: float = 0.5
    """The darkest level that is inverted, as a share of the full range."""
    salt: float = 0.0
    """Probability of coarse salt and pepper: squares of the view turn black or white."""
    salt_share: float = 0.01
    """Share of the squares that do."""
    salt_min: float = 0.1
    """Fewest squares along a side, as a share of its pixels."""
    salt_max: float = 0.2
    """Most squares along a side."""

    def __post_init__(self) -> None:
        inside = {
            "gamma": self.gamma >= 1,
            "contrast": 0 <= self.contrast <= 1,
            "brightness": 0 <= self.brightness <= 1,
            "equalize": 0 <= self.equalize <= 1,
            "blur": 0 <= self.blur <= 1,
            "blur_min": 0 < self.blur_min <= self.blur_max,
            "blur_max": self.blur_max <= 32,
            "noise": 0 <= self.noise <= 1,
            "noise_max": self.noise_max <= 1,
            "noise_min": 0 <= self.noise_min <= self.noise_max,
            "noise_of_mean": self.noise_of_mean in (0, 1),
            "jitter": 0 <= self.jitter <= 1,
            "jitter_brightness": 0 <= self.jitter_brightness <= 1,
            "jitter_contrast": 0 <= self.jitter_contrast <= 1,
            "solarize": 0 <= self.solarize <= 1,
            "solarize_above": 0 <= self.solarize_above <= 1,
            "salt": 0 <= self.salt <= 1,
            "salt_share": 0 <= self.salt_share <= 1,
            "salt_min": 0 < self.salt_min <= self.salt_max,
            "salt_max": self.salt_max <= 1,
        }
        refuse("tone", self, inside)

    def plan(self, u: Float[np.ndarray, "B 16"]) -> "TonePlan":
        """What happens to each film of a batch, from `NUM_UNIFORMS` uniform random numbers per film."""
        curves = None
        if self.gamma > 1 or self.contrast or self.brightness:
            signed = 2 * u[:, :3] - 1
            curves = tone_curves(
                self.gamma ** signed[:, 0], 1 + self.contrast * signed[:, 1], self.brightness * signed[:, 2]
            )
        return TonePlan(
            curves=curves,
            equalized=u[:, 3] < self.equalize,
            jittered=u[:, 9] < self.jitter,
            jitter=1 + (2 * u[:, 10:12] - 1) * (self.jitter_brightness, self.jitter_contrast),
            blur_sigma=np.where(
                u[:, 4] < self.blur, self.blur_min + (self.blur_max - self.blur_min) * u[:, 5], 0
            ),
            solarized=u[:, 12] < self.solarize,
            solarize_above=self.solarize_above,
            noise_sigma=np.where(
                u[:, 6] < self.noise, self.noise_min + (self.noise_max - self.noise_min) * u[:, 7], 0
            ),
            noise_of_mean=bool(self.noise_of_mean),
            noise_start=(u[:, 8] * _BANK).astype(np.int64),
            salt_grain=np.where(
                u[:, 13] < self.salt, self.salt_min + (self.salt_max - self.salt_min) * u[:, 14], 0
            ),
            salt_share=self.salt_share,
            salt_start=(u[:, 15] * _BANK).astype(np.int64),
        )


@dataclass(frozen=True)
class TonePlan:
    """What was drawn for each film of a batch; sigma 0 and grain 0 are none."""

    curves: UInt8[np.ndarray, "B 256"] | None
    equalized: NDArray[np.bool_]
    jittered: NDArray[np.bool_]
    jitter: Float[np.ndarray, "B 2"]
    """Factors of brightness and of contrast."""
    blur_sigma: Float[np.ndarray, " B"]
    solarized: NDArray[np.bool_]
    solarize_above: float
    noise_sigma: Float[np.ndarray, " B"]
    noise_of_mean: bool
    noise_start: NDArray[np.int64]
    salt_grain: Float[np.ndarray, " B"]
    salt_share: float
    salt_start: NDArray[np.int64]

    def curve(self, index: int, image: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "256"] | None:
        """The tone curve of one film; None leaves it as it is."""
        curve = None if self.curves is None else self.curves[index]
        if self.equalized[index]:
            flat = equalizing_curve(image)
            curve = flat if curve is None else curve[flat]
        if self.jittered[index]:
            mean = cv2.mean(image if curve is None else cv2.LUT(image, curve))[0]
            jittered = jittering_curve(mean, *self.jitter[index])
            curve = jittered if curve is None else jittered[curve]
        return curve

    def disturb(self, index: int, view: UInt8[np.ndarray, "S S"]) -> None:
        """Salts a view, blurs it, solarises it, then adds noise to it, in place."""
        if self.salt_grain[index] > 0:
            squares = max(1, round(float(self.salt_grain[index]) * len(view)))
            add_salt(view, self.salt_share, squares=squares, start=int(self.salt_start[index]))
        if self.blur_sigma[index] > 0:
            blur(view, float(self.blur_sigma[index]))
        if self.solarized[index]:
            view[...] = cv2.LUT(view, solarizing_curve(self.solarize_above))
        if self.noise_sigma[index] > 0:
            full = cv2.mean(view)[0] if self.noise_of_mean else 255
            add_noise(view, full * float(self.noise_sigma[index]), start=int(self.noise_start[index]))


def tone_curves(
    gamma: Float[np.ndarray, " B"], contrast: Float[np.ndarray, " B"], brightness: Float[np.ndarray, " B"]
) -> UInt8[np.ndarray, "B 256"]:
    """`(level ** gamma - 1/2) * contrast + 1/2 + brightness` of levels in [0, 1], clipped, as 8 bits."""
    level = np.linspace(0, 1, 256)
    curve = (level ** gamma[:, None] - 0.5) * contrast[:, None] + 0.5 + brightness[:, None]
    levels: NDArray[np.uint8] = np.rint(np.clip(curve, 0, 1) * 255).astype(np.uint8)
    return levels


def equalizing_curve(image: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "256"]:
    """The curve that makes grey levels about equally frequent (cv2.equalizeHist); flat films stay."""
    counts = cv2.calcHist([image], [0], None, [256], [0, 256]).ravel().astype(np.float64)
    below = counts[np.flatnonzero(counts)[0]]  # the darkest level maps to 0
    if below == image.size:
        return np.arange(256, dtype=np.uint8)
    curve: NDArray[np.uint8] = np.rint(
        np.clip((counts.cumsum() - below) / (image.size - below), 0, 1) * 255
    ).astype(np.uint8)
    return curve


def jittering_curve(mean: float, brightness: float, contrast: float) -> UInt8[np.ndarray, "256"]:
    """ColorJitter of a film with this mean grey level; its two factors commute but for what is clipped."""
    curve = brightness * (contrast * np.arange(256.0) + (1 - contrast) * mean)
    jittered: NDArray[np.uint8] = np.rint(np.clip(curve, 0, 255)).astype(np.uint8)
    return jittered


@lru_cache(maxsize=4)
def solarizing_curve(above: float) -> UInt8[np.ndarray, "256"]:
    """Inverts the grey levels from this share of the full range up."""
    level = np.arange(256, dtype=np.uint8)
    return np.where(level >= 255 * above, 255 - level, level)


def add_salt(view: UInt8[np.ndarray, "S S"], share: float, *, squares: int, start: int) -> None:
    """Turns a share of the `squares` times `squares` of a view black or white, in place.

    Which, is read from place `start` of one fixed sequence.
    """
    side = len(view)
    drawn = _even(_BANK + side**2)[start : start + squares**2].reshape(squares, squares)
    spread = cv2.resize(drawn, (side, side), interpolation=cv2.INTER_NEAREST)
    view[spread < share / 2] = 0
    view[spread >= 1 - share / 2] = 255


def blur(view: UInt8[np.ndarray, "S S"], sigma: float) -> None:
    """Gaussian blur in place, the kernel cut at 2.5 sigma."""
    # In float32 this is 1.5 to 4.5 times as fast as cv2.GaussianBlur, which sums 8 bits exactly.
    kernel = cv2.getGaussianKernel(2 * int(np.ceil(2.5 * sigma)) + 1, sigma, cv2.CV_32F)
    view[...] = cv2.sepFilter2D(view, -1, kernel, kernel)


def add_noise(view: UInt8[np.ndarray, "S S"], sigma: float, *, start: int) -> None:
    """Adds Gaussian noise in place, sigma in grey levels, from place `start` of one fixed sequence."""
    noise = _noise(_BANK + view.size)[start : start + view.size].reshape(view.shape)
    gain = sigma / _LEVELS_PER_SIGMA
    cv2.addWeighted(view, 1.0, noise, gain, -128 * gain, dst=view)


@lru_cache(maxsize=4)
def _noise(length: int) -> NDArray[np.uint8]:
    """Standard normal noise as bytes, 128 for 0; read from random places it costs nothing per pixel."""
    drawn = np.random.Generator(np.random.Philox(key=20261121)).standard_normal(length, dtype=np.float32)
    drawn *= _LEVELS_PER_SIGMA
    drawn += 128
    return np.rint(np.clip(drawn, 0, 255)).astype(np.uint8)


@lru_cache(maxsize=4)
def _even(length: int) -> NDArray[np.float32]:
    """Random numbers in [0, 1)."""
    return np.random.Generator(np.random.Philox(key=20261122)).random(length, dtype=np.float32)
