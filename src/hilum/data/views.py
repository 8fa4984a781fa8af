"""Which views of a radiograph a task wants, and the drawing of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Self

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import ArrayLike, NDArray

from hilum.errors import ConfigError
from hilum.find import did_you_mean
from hilum.images import chance, tone, warp
from hilum.images.spec import InputSpec
from hilum.images.tone import Tone
from hilum.images.warp import Fit, Geometry


@dataclass(frozen=True)
class View:
    """How one view is drawn; the defaults are the whole film, unchanged."""

    geometry: Geometry = field(default_factory=Geometry)
    tone: Tone = field(default_factory=Tone)
    side: int = 0
    """Height and width in pixels; 0: as the encoder wants it."""

    def change(self, **settings: float) -> Self:
        """The same view with some ranges of `Geometry` or `Tone` replaced, by their names.

        >>> CXR_VIEW.change(flip=0.5, blur=0).geometry.flip
        0.5

        Raises:
            ConfigError: a name is unknown or a value out of range.
        """
        places = {f.name: part for part in ("geometry", "tone") for f in fields(getattr(self, part))}
        for name in settings:
            if name not in places:
                raise ConfigError(f"views have no setting {name!r}{did_you_mean(name, places)}")
        changed = {
            part: replace(getattr(self, part), **{n: v for n, v in settings.items() if places[n] == part})
            for part in ("geometry", "tone")
        }
        return replace(self, **changed)


@dataclass(frozen=True)
class ViewRecipe:
    """The views of a radiograph that a task wants, all of one size but for those that say their own."""

    views: tuple[View, ...]
    side: int = 224
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        if self.side < 1:
            raise ConfigError(f"views of side {self.side}; expected at least 1 pixel")
        if not self.views:
            raise ConfigError("a recipe without views; expected at least one")

    @property
    def sides(self) -> tuple[int, ...]:
        """Height and width of each view, pixels."""
        return tuple(view.side or self.side for view in self.views)

    def at(self, spec: InputSpec) -> "ViewRecipe":
        """The same views in the size and fit that an encoder wants, of the part of the film that it sees."""
        views = self.views
        if spec.crop < 1:
            views = tuple(
                view.change(
                    crop_min=view.geometry.crop_min * spec.crop**2,
                    crop_max=view.geometry.crop_max * spec.crop**2,
                )
                for view in views
            )
        return replace(self, views=views, side=spec.side, fit=spec.fit)


PLAIN_VIEW = View()
"""The whole film as `fit` lays it, no augmentation."""

CXR_VIEW = View(
    Geometry(crop_min=0.5, ratio=4 / 3, shift=1.0, rotate=10, shear=5, zoom=1.1),
    Tone(gamma=1.3, contrast=0.2, brightness=0.05, blur=0.3, noise=0.3, noise_max=0.015),
)
"""Mild augmentation for pretraining on chest radiographs: no flip, since the heart has a side."""

_CONVIRT = View(
    Geometry(crop_min=0.6, ratio=4 / 3, shift=1.0, flip=0.5, rotate=20, translate=0.1, zoom=1.05),
    Tone(jitter=1.0, jitter_brightness=0.4, jitter_contrast=0.4, blur=1.0, blur_max=3.0),
)
_TWINS = Tone(jitter=0.8, jitter_brightness=0.4, jitter_contrast=0.4, blur=1.0, blur_max=2.0)

_RSNA_SHIFT = 32 / 1024
"""Its 32 pixels are of the published films of 1024, before they are made smaller."""


def _rsna(
    *,
    scale: float,
    angle: float,
    shear: float,
    gamma: float,
    flip: float = 0.0,
    often: float = 0.0,
    blur: float = 1.0,
    noise: float = 0.02,
    salt: float = 0.0,
) -> View:
    """A level of kaggle-rsna by its deviations: of the logarithm to base 2 of scale and gamma, of degrees.

    Its two scales are independent: their mean and their half difference then are, each with 1/√2 of the
    deviation.
    """
    even = 3**0.5  # an even distribution of this half width has a deviation of 1
    each = 2 ** (scale * even / 2**0.5)
    geometry = Geometry(
        translate=_RSNA_SHIFT, zoom=each, stretch=each, rotate=angle * even, shear=shear * even, flip=flip
    )
    tone = Tone(gamma=2 ** (gamma * even), blur=often, blur_max=blur, noise=often, noise_max=noise, salt=salt)
    return View(geometry, tone)


PRESETS: Mapping[str, View] = {
    "plain": PLAIN_VIEW,
    "cxr": CXR_VIEW,
    # SupContrast (HobbitLong/SupContrast, main_supcon.py). ColorJitter .4 .4, p .8.
    "supcon": View(
        Geometry(crop_min=0.2, ratio=4 / 3, shift=1.0, flip=0.5),
        Tone(jitter=0.8, jitter_brightness=0.4, jitter_contrast=0.4),
    ),
    # ConVIRT (Zhang et al. 2020, arXiv 2010.00747, section 4.3); its scale is drawn evenly from .95 to 1.05,
    # zoom=1.05 in logarithm. The trainer in cxrlearn leaves one film in twenty as it is.
    "convirt": _CONVIRT,
    # LoVT (philip-mueller/lovt, scan_transforms.py) takes ConVIRT's list.
    "lovt": _CONVIRT,
    # MoCo-CXR (stanfordmlgroup/MoCo-CXR, image_transform.py): the largest square anywhere on the film, flip,
    # rotation. With --image-size 320 --image-fit crop --mean 0.502 --std 0.085585.
    "moco_cxr": View(Geometry(shift=1.0, flip=0.5, rotate=10)),
    # Barlow Twins on COVID-19 films (PolLM/Self-supervised-learning-for-medical-imaging): flips both ways.
    # Also tried there: --view solarize=0.5, brightness=0.2 and rotate=20.
    "barlow_covid": View(
        Geometry(crop_min=0.08, ratio=4 / 3, shift=1.0, flip=0.5, flip_vertical=0.5, perspective=0.5),
        Tone(equalize=0.5, blur=0.5, blur_max=2.0, noise=0.5, noise_min=0.06, noise_max=0.1, noise_of_mean=1),
    ),
    # Barlow Twins (facebookresearch/barlowtwins, main.py), the first view.
    # The second: --other-view blur=0.1 solarize=0.2.
    "barlow_original": View(Geometry(crop_min=0.08, ratio=4 / 3, shift=1.0, flip=0.5), _TWINS),
    # DINO (Caron et al. 2021, facebookresearch/dino, main_dino.py), the first of the two large views.
    # The second: --other-view blur=0.1 solarize=0.2. Small views blur with probability 0.5 there.
    "dino": View(Geometry(crop_min=0.4, ratio=4 / 3, shift=1.0, flip=0.5), _TWINS),
    # MoCo v2 with a ResNet-50 and with a ViT (zfrongillo12/python_dl_simclr).
    "moco_resnet": View(
        Geometry(crop_min=0.8, ratio=4 / 3, shift=1.0, flip=0.5, rotate=15),
        Tone(jitter=0.2, jitter_brightness=0.1, jitter_contrast=0.1, blur=1.0, blur_max=1.0),
    ),
    "moco_vit": View(
        Geometry(crop_min=0.7, ratio=4 / 3, shift=1.0, flip=0.5, rotate=10),
        Tone(jitter=1.0, jitter_brightness=0.15, jitter_contrast=0.15, blur=1.0, blur_max=1.0),
    ),
    # GLoRIA (marshuang80/gloria, builder.py and its pretraining YAML): 224 of 256 pixels, anywhere. With
    # --image-fit pad.
    "gloria": View(Geometry(crop_min=0.875**2, crop_max=0.875**2, shift=1.0)),
    # CheXzero (rajpurkarlab/CheXzero, train.py) has none. With --image-fit pad.
    "chexzero": PLAIN_VIEW,
    # kaggle-rsna's levels (pdima/kaggle_rsna_public, detection_dataset.py). It draws scales, angle, shear and
    # gamma from normal distributions, here from even ones of equal deviation. Its flips did nothing.
    "rsna_1": View(Geometry(translate=_RSNA_SHIFT)),
    "rsna_10": _rsna(scale=0.1, angle=5, shear=2.5, gamma=0.2),
    "rsna_11": _rsna(scale=0.1, angle=0, shear=2.5, gamma=0.2),
    "rsna_15": _rsna(scale=0.15, angle=6, shear=4, gamma=0.2, flip=0.5, often=0.25, blur=1.0, noise=0.02),
    "rsna_20": _rsna(
        scale=0.15, angle=6, shear=4, gamma=0.25, flip=0.5, often=0.5, blur=2.0, noise=0.04, salt=0.1
    ),
    "rsna_21": _rsna(
        scale=0.15, angle=0, shear=4, gamma=0.25, flip=0.5, often=0.5, blur=2.0, noise=0.04, salt=0.1
    ),
}
"""Views by the name that commands know them by: two of our own, then the lists of published systems.

As near to those as one warp and one grey channel come. Changes of saturation and hue and random greyscale do
nothing to a grey film and are left out. Crop, flip, rotation, move and tilt are one bilinear warp of the
film: corners that a rotation turns in show the film where there is one, and what is outside it stays black.
ColorJitter's contrast keeps the mean of the film, equalisation uses its histogram: not the crop's. Noise is
clipped to the grey levels. Shares of area are of what `fit` lays (torchvision's are those of squash), and a
crop too oblong to fit is made less so (torchvision draws another).
"""

PLAIN = ViewRecipe((PLAIN_VIEW,))
"""What prediction sees: the whole film, once."""

CXR = ViewRecipe((CXR_VIEW, CXR_VIEW))
"""What most pretext tasks see: two augmented views."""


def matrices(
    recipe: ViewRecipe, sizes: NDArray[np.integer], *, rows: ArrayLike, epochs: ArrayLike, seed: int
) -> Float[np.ndarray, "V B 3 3"]:
    """The warps of `draw_batch`, view to film: boxes follow by `warp_boxes`; sizes are (height, width)."""
    return np.stack(
        [_chance(recipe, index, sizes, rows, epochs, seed)[0] for index in range(len(recipe.views))]
    )


def draw_batch(
    recipe: ViewRecipe,
    films: Sequence[UInt8[np.ndarray, "_ _"]],
    *,
    rows: ArrayLike,
    epochs: ArrayLike,
    seed: int,
    partners: Sequence[UInt8[np.ndarray, "_ _"]] | None = None,
    out: Sequence[UInt8[np.ndarray, "B _ _"]] | None = None,
) -> Sequence[UInt8[np.ndarray, "B _ _"]]:
    """All views of a batch of films, an array for each view.

    A view depends on its film and on (seed, epoch, row, place in the recipe), not on the rest of the batch.

    Args:
        recipe: what to draw.
        films: grey levels of each film, of any sizes.
        rows: which radiograph each film is: the key of its randomness.
        epochs: how often each was seen before, one number or one per film.
        seed: of the whole run.
        partners: films that every second view is drawn from, in place of `films`.
        out: where to write; new arrays are made without it.
    """
    if out is None:
        out = [np.empty((len(films), side, side), np.uint8) for side in recipe.sides]
    for index, (side, view) in enumerate(zip(recipe.sides, out, strict=True)):
        shown = films if partners is None or index % 2 == 0 else partners
        sizes = np.array([film.shape for film in shown], np.int64).reshape(-1, 2)
        warps, toning = _chance(recipe, index, sizes, rows, epochs, seed)
        for place, film in enumerate(shown):
            warp.warp(film, warps[place], side, curve=toning.curve(place, film), out=view[place])
            toning.disturb(place, view[place])
    return out


def draw(
    recipe: ViewRecipe, film: UInt8[np.ndarray, "H W"], *, row: int, epoch: int, seed: int
) -> Sequence[UInt8[np.ndarray, "_ _"]]:
    """All views of one film, exactly as a batch that holds it has them."""
    return [view[0] for view in draw_batch(recipe, [film], rows=[row], epochs=epoch, seed=seed)]


def _chance(
    recipe: ViewRecipe, index: int, sizes: NDArray[np.integer], rows: ArrayLike, epochs: ArrayLike, seed: int
) -> tuple[Float[np.ndarray, "B 3 3"], tone.TonePlan]:
    view = recipe.views[index]
    u = chance.uniforms(seed, epochs, rows, view=index, count=len(_GEOMETRY) + len(_TONE))
    side = recipe.sides[index]
    placed = view.geometry.matrices(u[:, _GEOMETRY], sizes=sizes, side=side, fit=recipe.fit)
    return placed, view.tone.plan(u[:, _TONE])


# Which of a view's random numbers are whose. New ones come last, so that the views of old settings stay.
_GEOMETRY = [*range(8), *range(17, 29), 33]
_TONE = [*range(8, 17), *range(29, 33), *range(34, 37)]
assert (len(_GEOMETRY), len(_TONE)) == (warp.NUM_UNIFORMS, tone.NUM_UNIFORMS)
