import numpy as np
import pytest

from hilum.data.views import CXR, CXR_VIEW, PLAIN, PRESETS, View, ViewRecipe, draw, draw_batch, matrices
from hilum.errors import ConfigError
from hilum.images.spec import InputSpec
from hilum.images.tone import Tone
from hilum.images.warp import warp, warp_boxes


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


def test_the_presets_do_not_flip():
    for view in PRESETS.values():
        assert view.geometry.flip == 0
    sizes = np.full((500, 2), 64)
    warps = matrices(CXR, sizes, rows=np.arange(500), epochs=0, seed=0)
    assert (np.linalg.det(warps[..., :2]) > 0).all()
    flipping = ViewRecipe((CXR_VIEW.change(flip=1.0),))
    assert (
        np.linalg.det(matrices(flipping, sizes, rows=np.arange(500), epochs=0, seed=0)[..., :2]) < 0
    ).all()


def test_boxes_follow_the_views_that_are_drawn(films):
    """A bright rectangle on black, drawn as training sees it, lies where its box is carried to."""
    film = np.zeros((100, 140), np.uint8)
    film[30:60, 50:90] = 255
    recipe = ViewRecipe((View(CXR_VIEW.geometry),) * 2, side=64)
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
