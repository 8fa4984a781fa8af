import cv2
import numpy as np
import pytest
import scipy.stats
import torch
from torchvision.transforms import functional as tv

from hilum.errors import ConfigError
from hilum.images.chance import uniforms
from hilum.images.tone import (
    NUM_UNIFORMS,
    Tone,
    TonePlan,
    add_noise,
    add_salt,
    blur,
    equalizing_curve,
    jittering_curve,
    solarizing_curve,
    tone_curves,
)


def planned(tone: Tone, num: int) -> TonePlan:
    return tone.plan(uniforms(0, 0, np.arange(num), view=0, count=NUM_UNIFORMS))


def test_one_curve_is_gamma_then_contrast_then_brightness():
    (curve,) = tone_curves(np.array([1.4]), np.array([0.8]), np.array([0.05]))
    for level in (0, 17, 128, 255):
        value = ((level / 255) ** 1.4 - 0.5) * 0.8 + 0.5 + 0.05
        assert curve[level] == round(255 * min(max(value, 0), 1))


def test_nothing_changes_by_default():
    plan = planned(Tone(), 50)
    film = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for index in range(50):
        assert plan.curve(index, film) is None
        view = film.copy()
        plan.disturb(index, view)
        assert np.array_equal(view, film)


def test_curves_stay_within_their_ranges_and_rise():
    plan = planned(Tone(gamma=1.5, contrast=0.3, brightness=0.1), 300)
    assert plan.curves is not None
    assert (np.diff(plan.curves.astype(int)) >= 0).all()
    middle = plan.curves[:, 128] / 255
    assert middle.min() > ((128 / 255) ** 1.5 - 0.5) * 1.3 + 0.5 - 0.1 - 0.01
    assert middle.max() < ((128 / 255) ** (1 / 1.5) - 0.5) * 1.3 + 0.5 + 0.1 + 0.01


def test_what_has_a_probability_happens_as_often_as_asked():
    plan = planned(Tone(blur=0.3, noise=0.6, equalize=0.1, jitter=0.8, solarize=0.2, salt=0.1), 4000)
    for happened, share in (
        (plan.blur_sigma > 0, 0.3),
        (plan.noise_sigma > 0, 0.6),
        (plan.equalized, 0.1),
        (plan.jittered, 0.8),
        (plan.solarized, 0.2),
        (plan.salt_grain > 0, 0.1),
    ):
        assert scipy.stats.binomtest(int(happened.sum()), 4000, share).pvalue > 1e-3


def test_jitter_and_noise_are_drawn_evenly_from_their_ranges():
    plan = planned(Tone(jitter=1, jitter_brightness=0.4, jitter_contrast=0.2, noise=1, noise_min=0.01), 3000)
    assert scipy.stats.kstest(plan.jitter[:, 0], "uniform", (0.6, 0.8)).pvalue > 1e-3
    assert scipy.stats.kstest(plan.jitter[:, 1], "uniform", (0.8, 0.4)).pvalue > 1e-3
    assert scipy.stats.kstest(plan.noise_sigma, "uniform", (0.01, 0.01)).pvalue > 1e-3


@pytest.mark.parametrize(("brightness", "contrast"), [(0.6, 1.4), (1.2, 0.6), (0.9, 0.7), (1.0, 1.3)])
def test_jitter_is_torchvision_s_brightness_and_contrast_in_either_order(brightness, contrast):
    film = np.random.default_rng(0).integers(70, 180, (40, 50), np.uint8)  # nothing is clipped on the way
    ours = jittering_curve(film.mean(), brightness, contrast)[film].astype(float)
    floats = torch.from_numpy(film / 255)[None]
    first = tv.adjust_contrast(tv.adjust_brightness(floats, brightness), contrast)
    second = tv.adjust_brightness(tv.adjust_contrast(floats, contrast), brightness)
    for expected in (first, second):
        assert np.abs(ours - 255 * expected[0].numpy()).max() <= 0.51


def test_jitter_keeps_the_mean_of_the_film_as_it_is_after_equalising():
    film = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 90, (64, 80), np.uint8), (0, 0), 2)
    plan = planned(Tone(equalize=1, jitter=1, jitter_contrast=0.5), 20)
    mean = cv2.equalizeHist(film).mean()
    for index in range(20):
        curve = plan.curve(index, film)
        assert curve is not None
        assert curve[film].mean() == pytest.approx(mean, abs=1 + 0.25 * (plan.jitter[index, 1] > 1) * mean)


@pytest.mark.parametrize("threshold", [0, 100, 128, 255])
def test_solarising_is_that_of_torchvision(threshold):
    level = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = tv.solarize(torch.from_numpy(level)[None], threshold)[0].numpy()
    assert np.array_equal(solarizing_curve(threshold / 255)[level], expected)


def test_half_the_range_is_where_torchvision_and_pillow_solarise():
    view = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = tv.solarize(torch.from_numpy(view.copy())[None], 128)[0].numpy()
    planned(Tone(solarize=1), 1).disturb(0, view)
    assert np.array_equal(view, expected)


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


def test_noise_can_follow_the_mean_of_the_view():
    for level in (60, 120):
        view = np.full((200, 200), level, np.uint8)
        plan = planned(Tone(noise=1, noise_min=0.1, noise_max=0.1, noise_of_mean=1), 1)
        plan.disturb(0, view)
        assert view.std() == pytest.approx(np.sqrt((0.1 * level) ** 2 + 1 / 12), rel=0.02)


def test_ranges_that_make_no_sense_are_all_named():
    with pytest.raises(
        ConfigError, match=r"gamma 0.5, blur 2, noise_min 0.5, noise_of_mean 0.5, solarize -1"
    ):
        Tone(gamma=0.5, blur=2, noise_min=0.5, noise_of_mean=0.5, solarize=-1)


def test_salt_turns_a_share_of_the_squares_black_or_white():
    black = white = 0
    for start in range(400):
        view = np.full((120, 120), 100, np.uint8)
        add_salt(view, 0.02, squares=24, start=start * 1000)
        squares = view.reshape(24, 5, 24, 5).swapaxes(1, 2).reshape(24, 24, 25)
        assert (squares == squares[:, :, :1]).all()  # whole squares, five pixels wide
        assert set(np.unique(view)) <= {0, 100, 255}
        black, white = black + (squares[..., 0] == 0).sum(), white + (squares[..., 0] == 255).sum()
    for count in (black, white):
        assert scipy.stats.binomtest(int(count), 400 * 24**2, 0.01).pvalue > 1e-3
    plan = planned(Tone(salt=1), 3000)
    assert scipy.stats.kstest(plan.salt_grain, "uniform", (0.1, 0.1)).pvalue > 1e-3
