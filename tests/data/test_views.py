import typing
from dataclasses import replace

import numpy as np
import pytest

from hilum.config import ViewsConfig
from hilum.data.views import (
    CXR,
    CXR_VIEW,
    PLAIN,
    PRESETS,
    View,
    ViewRecipe,
    draw,
    draw_batch,
    matrices,
)
from hilum.errors import ConfigError
from hilum.images.chance import uniforms
from hilum.images.spec import InputSpec
from hilum.images.tone import Tone
from hilum.images.warp import NUM_UNIFORMS, Geometry, warp, warp_boxes

FLIPPING = {
    "supcon",
    "convirt",
    "lovt",
    "moco_cxr",
    "barlow_covid",
    "barlow_original",
    "dino",
    "moco_resnet",
    "moco_vit",
    "rsna_15",
    "rsna_20",
    "rsna_21",
}
"""Presets of systems whose own lists flip left and right."""


@pytest.fixture(scope="module")
def films():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (60 + 3 * n, 90 - 2 * n), np.uint8) for n in range(12)]


def test_a_plain_view_is_the_whole_film_whatever_the_seed(films):
    square = films[0][:, :60]
    recipe = PLAIN.at(InputSpec(side=60))
    for seed, row, epoch in ((0, 0, 0), (7, 3, 2)):
        assert np.array_equal(draw(recipe, square, row=row, epoch=epoch, seed=seed), [square])


def test_a_view_depends_on_its_own_keys_and_not_on_the_batch(films):
    recipe = CXR.at(InputSpec(side=32))
    rows, epochs = np.arange(12) + 5, np.repeat([0, 1, 2], 4)
    batch = draw_batch(recipe, films, rows=rows, epochs=epochs, seed=4)
    for place in range(12):
        alone = draw(recipe, films[place], row=int(rows[place]), epoch=int(epochs[place]), seed=4)
        assert np.array_equal([view[place] for view in batch], alone)
    backwards = draw_batch(recipe, films[::-1], rows=rows[::-1], epochs=epochs[::-1], seed=4)
    assert np.array_equal(batch, [view[::-1] for view in backwards])


def test_views_differ_between_views_rows_epochs_and_seeds(films):
    recipe = CXR.at(InputSpec(side=32))
    drawn = [
        view.tobytes()
        for row in (0, 1)
        for epoch in (0, 1)
        for seed in (0, 1)
        for view in draw(recipe, films[0], row=row, epoch=epoch, seed=seed)
    ]
    assert len(set(drawn)) == 16


def test_the_settings_name_every_preset():
    assert set(typing.get_args(ViewsConfig.model_fields["views"].annotation)) == set(PRESETS)


def test_the_default_never_flips_or_solarises():
    view = PRESETS[ViewsConfig().views]
    assert view is CXR_VIEW
    assert (view.geometry.flip, view.geometry.flip_vertical, view.tone.solarize) == (0, 0, 0)
    sizes = np.full((500, 2), 64)
    warps = matrices(CXR, sizes, rows=np.arange(500), epochs=0, seed=0)
    assert (np.linalg.det(warps) > 0).all()
    assert (warps[..., 0, 0] > 0).all()
    flipping = ViewRecipe((CXR_VIEW.change(flip=1.0),))
    assert (np.linalg.det(matrices(flipping, sizes, rows=np.arange(500), epochs=0, seed=0)) < 0).all()


def test_only_presets_of_systems_that_flip_do():
    assert {name for name, view in PRESETS.items() if view.geometry.flip} == FLIPPING
    assert {name for name, view in PRESETS.items() if view.geometry.flip_vertical} == {"barlow_covid"}
    assert not any(view.tone.solarize for view in PRESETS.values())


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_draws_the_same_views_again(name, films):
    recipe = ViewRecipe((PRESETS[name],) * 2, side=48)
    first, again = (draw_batch(recipe, films, rows=np.arange(12), epochs=3, seed=1) for _ in range(2))
    assert np.array_equal(first, again)
    assert np.shape(first) == (2, 12, 48, 48)
    for place in (0, 7):
        alone = draw(recipe, films[place], row=place, epoch=3, seed=1)
        assert np.array_equal([view[place] for view in first], alone)
    if name not in ("plain", "chexzero"):
        assert not np.array_equal(first[0], first[1])


def test_new_random_numbers_leave_those_of_older_settings_where_they_were(monkeypatch):
    """An affine view and a curve read the first 17 numbers alone: what came later may be anything."""
    view = View(
        Geometry(crop_min=0.3, ratio=1.5, shift=1, rotate=9, shear=4, zoom=1.2, flip=0.5),
        Tone(gamma=1.4, contrast=0.2, brightness=0.1, equalize=0.5, blur=0.5, noise=0.5),
    )
    recipe = ViewRecipe((view,), side=40)
    film = np.random.default_rng(0).integers(0, 256, (60, 70), np.uint8)
    before = draw(recipe, film, row=5, epoch=0, seed=0)

    def shorter(*keys, view, count):
        u = uniforms(*keys, view=view, count=count)
        u[:, 17:] = 0.999
        return u

    monkeypatch.setattr("hilum.images.chance.uniforms", shorter)
    assert np.array_equal(draw(recipe, film, row=5, epoch=0, seed=0), before)


def areas(recipe: ViewRecipe, index: int) -> np.ndarray:
    warps = matrices(recipe, np.full((800, 2), 100), rows=np.arange(800), epochs=0, seed=0)[index]
    return np.abs(np.linalg.det(warps)) * recipe.sides[index] ** 2 / 100**2


def test_views_of_their_own_size_show_the_share_that_they_ask_for(films):
    large = View(Geometry(crop_min=0.4, ratio=4 / 3, shift=1), PRESETS["dino"].tone)
    small = replace(large.change(crop_min=0.05, crop_max=0.3), side=24)
    recipe = ViewRecipe((large, large.change(blur=0), small, small, small)).at(InputSpec(side=56))
    assert recipe.sides == (56, 56, 24, 24, 24)
    drawn = draw_batch(recipe, films, rows=range(12), epochs=0, seed=0)
    assert [one.shape for one in drawn] == [(12, side, side) for side in recipe.sides]
    assert len({one.tobytes() for one in drawn[2:]}) == 3
    for index in range(5):
        share = areas(recipe, index)
        low, high = (0.4, 1.0) if index < 2 else (0.05, 0.3)
        assert low - 1e-9 < share.min() < low + 0.02
        assert high - 0.02 < share.max() < high + 1e-9


def test_boxes_follow_the_views_that_are_drawn(films):
    """A bright rectangle on black, drawn as training sees it, lies where its box is carried to."""
    film = np.zeros((100, 140), np.uint8)
    film[30:60, 50:90] = 255
    tilted = CXR_VIEW.change(perspective=1, distortion=0.3).geometry
    recipe = ViewRecipe((View(CXR_VIEW.geometry), View(tilted)), side=64)
    for row in range(20):
        views = draw(recipe, film, row=row, epoch=0, seed=0)
        warps = matrices(recipe, np.array([film.shape]), rows=[row], epochs=0, seed=0)
        for view, (matrix,) in zip(views, warps, strict=True):
            (box,) = warp_boxes(np.array([[50, 30, 90, 60]]), matrix, 64)
            bright = np.argwhere(view > 127)
            if not len(bright):
                continue
            assert (bright.min(0)[::-1] >= box[:2] - 1).all()
            assert (bright.max(0)[::-1] + 1 <= box[2:] + 1).all()
            assert np.array_equal(view, warp(film, matrix, 64))


def test_equalising_uses_the_film_s_own_levels(films):
    dark = films[0] // 4
    recipe = ViewRecipe((View(tone=Tone(equalize=1)),), side=60)
    (view,) = draw(recipe, dark, row=0, epoch=0, seed=0)
    assert view.max() > 200 > 64 > dark.max()


def test_settings_reach_geometry_or_tone_and_unknown_ones_are_refused():
    view = CXR_VIEW.change(rotate=3, noise=0)
    assert (view.geometry.rotate, view.tone.noise) == (3, 0)
    assert view.geometry.shear == CXR_VIEW.geometry.shear
    with pytest.raises(ConfigError, match="'rotat'; did you mean 'rotate'"):
        CXR_VIEW.change(rotat=3)
    with pytest.raises(ConfigError, match="flip 2"):
        CXR_VIEW.change(flip=2)


def test_recipes_without_views_or_pixels_are_refused():
    with pytest.raises(ConfigError, match="without views"):
        ViewRecipe(())
    with pytest.raises(ConfigError, match="side 0"):
        ViewRecipe((CXR_VIEW,), side=0)


LEVELS = {  # of kaggle-rsna: deviations of log2 scale, degrees, degrees of shear, log2 gamma; flips; then
    # how often films are blurred and noised, their most, and how often salted (detection_dataset.py)
    "rsna_1": (0, 0, 0, 0, 0, 0, None, None, 0),
    "rsna_10": (0.1, 5, 2.5, 0.2, 0, 0, None, None, 0),
    "rsna_11": (0.1, 0, 2.5, 0.2, 0, 0, None, None, 0),
    "rsna_15": (0.15, 6, 4, 0.2, 0.5, 0.25, 1.0, 0.02, 0),
    "rsna_20": (0.15, 6, 4, 0.25, 0.5, 0.5, 2.0, 0.04, 0.1),
    "rsna_21": (0.15, 0, 4, 0.25, 0.5, 0.5, 2.0, 0.04, 0.1),
}


@pytest.mark.parametrize("name", LEVELS)
def test_levels_of_kaggle_rsna_have_its_deviations(name):
    scale, angle, shear, gamma, flip, often, blur, noise, salt = LEVELS[name]
    view = PRESETS[name]
    u = np.random.default_rng(0).random((20_000, NUM_UNIFORMS))
    u[:, 4], u[:, 5] = 0.5, 0.5  # upright and unsheared, a matrix is its two scales
    sizes = np.full((len(u), 2), 1024)
    made = view.geometry.matrices(u, sizes=sizes, side=512, fit="squash")
    scales = np.log2(np.abs(made[:, [0, 1], [0, 1]]) / 2)
    np.testing.assert_allclose(scales.std(axis=0), scale, rtol=0.02, atol=1e-12)
    assert abs(np.corrcoef(scales.T)[0, 1]) < 0.03 if scale else True
    even = 3**-0.5  # the deviation of an even distribution from -1 to 1
    assert view.geometry.rotate * even == pytest.approx(angle)
    assert view.geometry.shear * even == pytest.approx(shear)
    assert np.log2(view.tone.gamma) * even == pytest.approx(gamma)
    assert (view.geometry.flip, view.tone.blur, view.tone.noise, view.tone.salt) == (flip, often, often, salt)
    if often:
        assert (view.tone.blur_max, view.tone.noise_max) == (blur, noise)
    # The centre moves by up to 32 pixels of the published films, which have 1024.
    still = view.change(zoom=1, stretch=1, flip=0).geometry.matrices(u, sizes=sizes, side=512, fit="squash")
    assert 31 < np.abs(still[:, :2, 2]).max() <= 32
