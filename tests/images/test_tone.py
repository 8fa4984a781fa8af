import cv2
import numpy as np
import pytest
import scipy.stats

from hilum.errors import ConfigError
from hilum.images.tone import (
    NUM_UNIFORMS,
    Tone,
    add_noise,
    blur,
    equalizing_curve,
    tone_curves,
)
from hilum.images.warp import uniforms


def test_one_curve_is_gamma_then_contrast_then_brightness():
    (curve,) = tone_curves(np.array([1.4]), np.array([0.8]), np.array([0.05]))
    for level in (0, 17, 128, 255):
        value = ((level / 255) ** 1.4 - 0.5) * 0.8 + 0.5 + 0.05
        assert curve[level] == round(255 * min(max(value, 0), 1))


def test_nothing_changes_by_default():
    plan = Tone().plan(uniforms(0, 0, np.arange(50), view=0, count=NUM_UNIFORMS))
    film = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for index in range(50):
        assert plan.curve(index, film) is None
        view = film.copy()
        plan.disturb(index, view)
        assert np.array_equal(view, film)


def test_curves_stay_within_their_ranges_and_rise():
    plan = Tone(gamma=1.5, contrast=0.3, brightness=0.1).plan(uniforms(0, 0, np.arange(300), view=0, count=9))
    assert plan.curves is not None
    assert (np.diff(plan.curves.astype(int)) >= 0).all()
    middle = plan.curves[:, 128] / 255
    assert middle.min() > ((128 / 255) ** 1.5 - 0.5) * 1.3 + 0.5 - 0.1 - 0.01
    assert middle.max() < ((128 / 255) ** (1 / 1.5) - 0.5) * 1.3 + 0.5 + 0.1 + 0.01


def test_blur_noise_and_equalising_happen_as_often_as_asked():
    plan = Tone(blur=0.3, noise=0.6, equalize=0.1).plan(uniforms(0, 0, np.arange(4000), view=0, count=9))
    for happened, share in ((plan.blur_sigma > 0, 0.3), (plan.noise_sigma > 0, 0.6), (plan.equalized, 0.1)):
        assert scipy.stats.binomtest(int(happened.sum()), 4000, share).pvalue > 1e-3


def test_equalising_is_that_of_cv2():
    film = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 90, (64, 80), np.uint8), (0, 0), 2)
    assert np.abs(equalizing_curve(film)[film].astype(int) - cv2.equalizeHist(film)).max() <= 1
    flat = np.full((8, 8), 7, np.uint8)
    assert np.array_equal(equalizing_curve(flat)[flat], flat)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.5, 4.0])
def test_blur_is_gaussian(sigma):
    film = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    view = film.copy()
    blur(view, sigma)
    expected = cv2.GaussianBlur(film.astype(np.float64), (0, 0), sigma)
    assert np.abs(view - expected).max() <= 2.5


def test_noise_has_the_sigma_asked_for_and_depends_on_its_start_alone():
    view = np.full((200, 200), 128, np.uint8)
    same, other = view.copy(), view.copy()
    add_noise(view, 6.0, start=1234)
    add_noise(same, 6.0, start=1234)
    add_noise(other, 6.0, start=777_777)
    assert np.array_equal(view, same)
    assert abs(view.mean() - 128) < 0.1
    assert view.std() == pytest.approx(np.sqrt(36 + 1 / 12), rel=0.02)
    assert abs(np.corrcoef(view.ravel(), other.ravel())[0, 1]) < 0.02


def test_ranges_that_make_no_sense_are_all_named():
    with pytest.raises(ConfigError, match=r"gamma 0.5, blur 2"):
        Tone(gamma=0.5, blur=2)
