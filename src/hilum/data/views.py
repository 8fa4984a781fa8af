"""Which views of a radiograph a task wants, and the drawing of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Self

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import ArrayLike, NDArray

from hilum.errors import ConfigError
from hilum.find import did_you_mean
from hilum.images import tone, warp
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
        """The same views in the size and fit that an encoder wants."""
        return replace(self, side=spec.side, fit=spec.fit)


PLAIN_VIEW = View()
"""The whole film as `fit` lays it, no augmentation."""

CXR_VIEW = View(
    Geometry(crop_min=0.5, ratio=4 / 3, shift=1.0, rotate=10, shear=5, zoom=1.1),
    Tone(gamma=1.3, contrast=0.2, brightness=0.05, blur=0.3, noise=0.3, noise_max=0.015),
)
"""Mild augmentation for pretraining on chest radiographs: no flip, since the heart has a side."""

PRESETS: Mapping[str, View] = {"plain": PLAIN_VIEW, "cxr": CXR_VIEW}
"""Views by the name that commands know them by."""

PLAIN = ViewRecipe((PLAIN_VIEW,))
"""What prediction sees: the whole film, once."""

CXR = ViewRecipe((CXR_VIEW, CXR_VIEW))
"""What most pretext tasks see: two augmented views."""


def matrices(
    recipe: ViewRecipe, sizes: NDArray[np.integer], *, rows: ArrayLike, epochs: ArrayLike, seed: int
) -> Float[np.ndarray, "V B 2 3"]:
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
) -> tuple[Float[np.ndarray, "B 2 3"], tone.TonePlan]:
    view = recipe.views[index]
    count = warp.NUM_UNIFORMS + tone.NUM_UNIFORMS
    u = warp.uniforms(seed, epochs, rows, view=index, count=count)
    side = recipe.sides[index]
    placed = view.geometry.matrices(u[:, : warp.NUM_UNIFORMS], sizes=sizes, side=side, fit=recipe.fit)
    return placed, view.tone.plan(u[:, warp.NUM_UNIFORMS :])
