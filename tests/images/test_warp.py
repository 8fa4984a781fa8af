from dataclasses import replace

import cv2
import numpy as np
import pytest
import scipy.stats
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from hilum.errors import ConfigError
from hilum.images.chance import uniforms
from hilum.images.warp import MAX_DISTORTION, NUM_UNIFORMS, Geometry, warp, warp_boxes

AFFINE = Geometry(crop_min=0.3, crop_max=0.9, ratio=1.4, shift=1, flip=0.5, rotate=40, shear=15, zoom=1.3)
WILD = replace(AFFINE, flip_vertical=0.5, translate=0.2, perspective=0.7, distortion=0.3, stretch=1.2)


def noise(height: int, width: int, *, smooth: float = 0) -> np.ndarray:
    pixels = np.random.default_rng(height * width).integers(0, 256, (height, width), np.uint8)
    return cv2.GaussianBlur(pixels, (0, 0), smooth) if smooth else pixels


def drawn(geometry: Geometry, num: int, *, size: tuple[int, int], side: int, fit: str = "crop") -> np.ndarray:
    u = uniforms(0, 0, np.arange(num), view=0, count=NUM_UNIFORMS)
    return geometry.matrices(u, sizes=np.array([size] * num), side=side, fit=fit)


def slow_warp(image: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    """Bilinear sampling pixel by pixel, from the definition."""
    height, width = image.shape
    out = np.zeros((side, side))
    for row in range(side):
        for column in range(side):
            x, y, w = matrix @ (column + 0.5, row + 0.5, 1)
            x, y = x / w - 0.5, y / w - 0.5
            left, top = int(np.floor(x)), int(np.floor(y))
            for i in (0, 1):
                for j in (0, 1):
                    if 0 <= top + i < height and 0 <= left + j < width:
                        weight = (1 - abs(y - top - i)) * (1 - abs(x - left - j))
                        out[row, column] += weight * image[top + i, left + j]
    return out


def test_the_whole_square_film_at_its_own_size_is_unchanged():
    film = noise(32, 32)
    for fit in ("crop", "squash", "pad"):
        (matrix,) = drawn(Geometry(), 1, size=film.shape, side=32, fit=fit)
        assert np.array_equal(warp(film, matrix, 32), film)


@pytest.mark.parametrize("side", [40, 48, 90])
def test_a_plain_view_is_a_bilinear_resize(side):
    film = noise(60, 60, smooth=2)
    (matrix,) = drawn(Geometry(), 1, size=film.shape, side=side)
    inner = slice(2, -2)  # at the border cv2.resize repeats pixels where a view fades to black
    difference = (
        warp(film, matrix, side)[inner, inner].astype(int) - cv2.resize(film, (side, side))[inner, inner]
    )
    assert np.abs(difference).max() <= 1


def test_crop_takes_the_central_square_and_pad_the_whole_film_with_black_borders():
    film = noise(32, 48)
    (crop,) = drawn(Geometry(), 1, size=film.shape, side=32, fit="crop")
    assert np.array_equal(warp(film, crop, 32), film[:, 8:40])
    (pad,) = drawn(Geometry(), 1, size=film.shape, side=48, fit="pad")
    padded = warp(film, pad, 48)
    assert np.array_equal(padded[8:40], film)
    assert not padded[:8].any()
    assert not padded[40:].any()


def test_random_views_are_what_a_slow_bilinear_sampler_gives():
    film = noise(50, 70, smooth=1)
    matrices = drawn(WILD, 12, size=film.shape, side=48)
    assert 3 < np.count_nonzero(matrices[:, 2, 0]) < 12  # some are tilted
    for matrix in matrices:
        difference = warp(film, matrix, 48) - slow_warp(film, matrix, 48)
        assert np.abs(difference).max() <= 2


def test_a_view_is_written_in_its_place():
    film = noise(50, 70)
    batch = np.zeros((3, 24, 24), np.uint8)
    (matrix,) = drawn(WILD, 1, size=film.shape, side=24)
    warp(film, matrix, 24, out=batch[1])
    assert np.array_equal(batch[1], warp(film, matrix, 24))
    assert not batch[[0, 2]].any()


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_film_much_larger_than_the_view_is_averaged_not_skipped(factor):
    film = noise(24 * factor, 24 * factor)
    (matrix,) = drawn(Geometry(), 1, size=film.shape, side=24)
    means = film.reshape(24, factor, 24, factor).mean((1, 3))
    assert np.abs(warp(film, matrix, 24) - means).max() <= 1


def test_averaging_only_the_part_that_is_seen_gives_the_same_view():
    """A stripe pattern of one pixel is grey in every large enough reduction, wherever the crop lies."""
    film = np.tile(np.array([0, 255], np.uint8), (600, 300))
    for matrix in drawn(Geometry(crop_min=0.45, crop_max=0.55, shift=1), 10, size=film.shape, side=100):
        assert np.abs(warp(film, matrix, 100)[2:-2, 2:-2].astype(int) - 127).max() <= 2


def test_a_shrunk_view_lies_where_the_full_one_lies():
    """A bright disc's centre of mass follows the matrix, whatever the reduction."""
    film = np.zeros((403, 517), np.uint8)
    cv2.circle(film, (260, 200), 60, 255, -1)
    for matrix in drawn(Geometry(crop_min=0.9, rotate=20, shear=5), 8, size=film.shape, side=80):
        view = warp(film, matrix, 80).astype(float)
        places = np.arange(80) + 0.5
        centre = np.array([(view.sum(0) * places).sum(), (view.sum(1) * places).sum()]) / view.sum()
        expected = np.linalg.solve(matrix[:2, :2], np.array([260.5, 200.5]) - matrix[:2, 2])
        assert np.abs(centre - expected).max() < 0.1


def test_a_tilted_view_of_a_large_film_is_averaged_where_its_pixels_lie():
    film = noise(420, 500, smooth=4)
    num = 6
    ranges = Geometry(crop_min=0.5, crop_max=0.5, perspective=1, distortion=0.2)
    for matrix in drawn(ranges, 8, size=film.shape, side=100):
        places = (np.arange(100 * num) + 0.5) / num
        points = np.stack([*np.meshgrid(places, places), np.ones((100 * num, 100 * num))])
        x, y, w = np.einsum("ij,jrc->irc", matrix, points)
        x, y = np.floor(x / w).astype(int), np.floor(y / w).astype(int)
        inside = (x >= 0) & (y >= 0) & (x < 500) & (y < 420)
        fine = np.where(inside, film[np.clip(y, 0, 419), np.clip(x, 0, 499)], 0)
        expected = fine.reshape(100, num, 100, num).mean((1, 3))
        difference = np.abs(warp(film, matrix, 100) - expected)
        assert difference.mean() < 1
        assert np.quantile(difference, 0.99) < 4


def test_what_is_outside_the_film_is_black_even_with_a_bright_curve():
    film = np.full((30, 30), 100, np.uint8)
    beside = np.array([[1.0, 0, 40], [0, 1, 0], [0, 0, 1]])
    assert not warp(film, beside, 30, curve=np.full(256, 200, np.uint8)).any()
    far = np.array([[3.0, 0, 4000], [0, 3, 0], [0, 0, 1]])
    assert not warp(film, far, 30).any()
    far[2, 0] = 1e-3
    assert not warp(film, far, 30).any()


def test_crops_have_the_drawn_area_and_stay_inside_the_film():
    geometry = Geometry(crop_min=0.4, crop_max=0.8, ratio=2, shift=1)
    for fit, area in (("crop", 300 * 300), ("squash", 300 * 400)):
        matrix = drawn(geometry, 500, size=(300, 400), side=100, fit=fit)
        share = np.abs(np.linalg.det(matrix)) * 100**2 / area
        assert share.min() > 0.4 - 1e-9
        assert share.max() < 0.8 + 1e-9
        assert share.std() > 0.1
        corners = matrix[:, :2] @ np.array([[0, 100], [0, 100], [1, 1]])
        assert corners.min() > -1e-6
        assert corners[:, 0].max() < 400 + 1e-6
        assert corners[:, 1].max() < 300 + 1e-6


def test_flips_are_off_unless_asked_for():
    ranges = Geometry(crop_min=0.5, ratio=1.3, shift=1, rotate=30, shear=10, zoom=1.2)
    upright = drawn(ranges, 2000, size=(300, 300), side=64)
    assert (np.linalg.det(upright) > 0).all()
    assert (upright[:, 0, 0] > 0).all()  # nor upside down
    for ranges, axis in ((Geometry(flip=0.25), 0), (Geometry(flip_vertical=0.25), 1)):
        flipped = drawn(ranges, 4000, size=(300, 300), side=64)[:, axis, axis] < 0
        assert scipy.stats.binomtest(int(flipped.sum()), 4000, 0.25).pvalue > 1e-3


def test_a_flip_mirrors_left_and_right_and_a_vertical_one_up_and_down():
    film = noise(20, 20)
    (matrix,) = drawn(Geometry(flip=1), 1, size=(20, 20), side=20)
    assert np.array_equal(warp(film, matrix, 20), film[:, ::-1])
    (matrix,) = drawn(Geometry(flip_vertical=1), 1, size=(20, 20), side=20)
    assert np.array_equal(warp(film, matrix, 20), film[::-1])


def test_rotation_scale_and_move_are_those_of_torchvision_s_affine():
    film = noise(64, 64, smooth=2)
    num = 10
    u = uniforms(0, 0, np.arange(num), view=0, count=NUM_UNIFORMS)
    matrices = drawn(Geometry(rotate=20, translate=0.1, zoom=1.05), num, size=film.shape, side=64)
    signed = 2 * u - 1
    for matrix, one in zip(matrices, signed, strict=True):
        expected = tv.affine(
            torch.from_numpy(film)[None].float(),
            angle=-20 * one[4],
            translate=[6.4 * one[9], 6.4 * one[10]],
            scale=1.05 ** one[6],
            shear=[0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        assert np.abs(warp(film, matrix, 64) - expected[0].numpy()).max() <= 2


def test_moves_reach_as_far_as_asked_for_in_every_direction():
    matrix = drawn(Geometry(translate=0.1), 2000, size=(300, 300), side=100)
    moves = -matrix[:, :2, 2] / 300  # of the square film's centre, as a share
    assert np.abs(moves).max() == pytest.approx(0.1, abs=2e-4)
    for axis in moves.T:
        assert scipy.stats.kstest(axis, "uniform", (-0.1, 0.2)).pvalue > 1e-3


def test_a_tilt_is_torchvision_s_perspective_with_the_same_corners():
    film = noise(64, 64, smooth=2)
    num, distortion = 10, 0.4
    pull = 32 * distortion * uniforms(0, 0, np.arange(num), view=0, count=NUM_UNIFORMS)[:, 12:20]
    corners = np.array([[0, 0], [64, 0], [64, 64], [0, 64]])
    inward = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    matrices = drawn(Geometry(perspective=1, distortion=distortion), num, size=film.shape, side=64)
    for matrix, one in zip(matrices, pull, strict=True):
        shown = corners + inward * one.reshape(4, 2)
        expected = tv.perspective(torch.from_numpy(film)[None].float(), corners.tolist(), shown.tolist())
        assert np.abs(warp(film, matrix, 64) - expected[0].numpy()).max() <= 2


def test_views_are_tilted_as_often_as_asked_for_and_never_past_the_horizon():
    for share in (0.0, 0.3, 1.0):
        ranges = Geometry(perspective=share, distortion=MAX_DISTORTION)
        matrix = drawn(ranges, 4000, size=(300, 300), side=64)
        tilted = matrix[:, 2, :2].any(1)
        assert scipy.stats.binomtest(int(tilted.sum()), 4000, share).pvalue > 1e-3
        nearness = matrix[:, 2] @ np.array([[0, 64, 0, 64], [0, 0, 64, 64], [1, 1, 1, 1]])
        assert nearness.min() > 0.1


def test_ranges_that_make_no_sense_are_all_named():
    with pytest.raises(ConfigError, match=r"crop_min 0, flip 2, translate -1, distortion 0.5"):
        Geometry(crop_min=0, flip=2, translate=-1, distortion=0.5)


def test_boxes_go_where_their_pixels_go():
    film_size, side = (200, 260), 128
    box = np.array([[60.0, 50, 150, 140]])
    for matrix in drawn(WILD, 40, size=film_size, side=side):
        mask = np.zeros(film_size, np.uint8)
        mask[50:140, 60:150] = 255
        seen = np.argwhere(slow_or_fast(mask, matrix, side) > 127)
        (moved,) = warp_boxes(box, matrix, side)
        if not len(seen):
            assert (moved[2] - moved[0]) * (moved[3] - moved[1]) < 40
            continue
        inside = (moved > 0) & (moved < side)  # a cut corner of the box hides the pixels that reach an edge
        found = np.array([seen[:, 1].min(), seen[:, 0].min(), seen[:, 1].max() + 1, seen[:, 0].max() + 1])
        if inside.all():
            assert np.abs(found - moved).max() <= 1.5
        assert (found[:2] >= moved[:2] - 1).all()
        assert (found[2:] <= moved[2:] + 1).all()


def slow_or_fast(mask: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    """The mask sampled at each view pixel's centre: exact, no interpolation."""
    places = np.stack([*np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5), np.ones((side, side))])
    x, y, w = np.einsum("ij,jrc->irc", matrix, places)
    x, y = x / w, y / w
    inside = (x >= 0) & (y >= 0) & (x < mask.shape[1]) & (y < mask.shape[0])
    sampled = mask[np.clip(y.astype(int), 0, mask.shape[0] - 1), np.clip(x.astype(int), 0, mask.shape[1] - 1)]
    return np.where(inside, sampled, 0)


def test_a_box_that_left_the_view_keeps_its_place_without_area():
    shifted = np.array([[1.0, 0, 100], [0, 1, 100], [0, 0, 1]])
    outside, inside = warp_boxes(np.array([[0, 0, 50, 50], [110, 120, 130, 140]]), shifted, 64)
    assert outside[0] == outside[2]
    assert inside.tolist() == [10, 20, 30, 40]
    assert warp_boxes(np.empty((0, 4)), shifted, 64).shape == (0, 4)


def test_a_box_that_reaches_past_the_horizon_of_a_tilted_view_goes_to_its_edges():
    """View (x, y) shows film (x, y) / (1 + y / 50): the film's line y = 50 is infinitely far down."""
    tilted = np.array([[1.0, 0, 0], [0, 1, 0], [0, 1 / 50, 1]])
    before, across, behind = warp_boxes(
        np.array([[10, 10, 20, 25], [10, 25, 20, 70], [10, 60, 20, 90]]), tilted, 200
    )
    # film y = 10 is view y = 12.5, enlarged 1.25 times; y = 25 is 50, enlarged twice
    assert before == pytest.approx([12.5, 12.5, 40, 50])
    assert across == pytest.approx([20, 50, 200, 200])
    assert (behind[2] - behind[0]) * (behind[3] - behind[1]) == 0


def test_random_numbers_are_uniform_and_uncorrelated_with_their_keys():
    u = uniforms(5, 2, np.arange(4000), view=1, count=4)
    for column in u.T:
        assert scipy.stats.kstest(column, "uniform").pvalue > 1e-4
        assert abs(np.corrcoef(column[1:], column[:-1])[0, 1]) < 0.06
    assert np.abs(np.corrcoef(u.T) - np.eye(4)).max() < 0.06


def test_neighbouring_keys_share_no_random_number():
    everything = [
        uniforms(seed, epoch, np.arange(50), view=view, count=10)
        for seed in (0, 1, -1)
        for epoch in (0, 1, 2)
        for view in (0, 1, 2)
    ]
    assert len(np.unique(everything)) == 27 * 50 * 10


def test_random_numbers_do_not_depend_on_order_or_company():
    rows = np.random.default_rng(0).permutation(100)
    together = uniforms(3, 4, np.arange(100), view=0, count=5)
    assert np.array_equal(uniforms(3, 4, rows, view=0, count=5), together[rows])
    assert np.array_equal(uniforms(3, np.full(100, 4), np.arange(100), view=0, count=9)[:, :5], together)


def test_zoom_and_stretch_of_equal_size_make_both_scales_independent():
    found = drawn(Geometry(zoom=1.2, stretch=1.2), 4000, size=(64, 64), side=64)
    across, down = np.log(found[:, 0, 0]), np.log(found[:, 1, 1])
    assert abs(np.corrcoef(across, down)[0, 1]) < 0.05
    for scale in (across, down):  # two even draws of half width log 1.2
        assert scale.std() == pytest.approx(np.log(1.2) * np.sqrt(2 / 3), rel=0.05)
