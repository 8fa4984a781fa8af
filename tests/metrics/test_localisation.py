import numpy as np
import pytest

from hilum.metrics import localisation as metrics
from hilum.metrics.localisation import (
    LEVELS,
    area_share,
    best_threshold,
    box_mask,
    centre_map,
    energy,
    iou,
    levels,
    localisation,
    mean_estimates,
    pointing,
    uniform_map,
)

RANDOM = np.random.default_rng(0)


def heat(height=9, width=12, *, unseen=True):
    """A map with columns that the encoder did not see."""
    made = RANDOM.normal(size=(height, width))
    if unseen:
        made[:, :2] = np.nan
    return made


def mask(height=9, width=12):
    return RANDOM.random((height, width)) < 0.3


def seen(one):
    return [(i, j) for i in range(one.shape[0]) for j in range(one.shape[1]) if not np.isnan(one[i, j])]


def test_a_box_is_the_pixels_whose_middles_it_holds():
    for _ in range(50):
        x1, y1 = RANDOM.uniform(0, 10, 2)
        x2, y2 = x1 + RANDOM.uniform(1, 5), y1 + RANDOM.uniform(1, 5)
        made = box_mask(np.array([[x1, y1, x2, y2]]), (12, 14))
        for i in range(12):
            for j in range(14):
                assert made[i, j] == (x1 <= j + 0.5 < x2 and y1 <= i + 0.5 < y2)


def test_boxes_are_joined_and_the_smallest_has_a_pixel():
    assert box_mask(np.array([[3.2, 4.1, 3.4, 4.2]]), (8, 8)).nonzero() == (4, 3)
    both = box_mask(np.array([[0, 0, 2, 2], [1, 1, 3, 3]]), (4, 4))
    assert both.sum() == 7
    assert box_mask(np.array([[6, 6, 30, 30]]), (8, 8)).sum() == 4  # cut at the film's edge
    assert box_mask(np.zeros((0, 4)), (3, 3)).sum() == 0


@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.5])
def test_pointing_is_whether_the_maximum_is_in_the_mask(tolerance):
    for _ in range(30):
        one, truth = heat(), mask()
        row, column = max(seen(one), key=lambda place: one[place])
        near = any(
            (row - i) ** 2 + (column - j) ** 2 <= tolerance**2 for i, j in zip(*truth.nonzero(), strict=True)
        )
        assert pointing(one, truth, tolerance=tolerance) == near


def test_a_flat_map_scores_as_a_random_point_does():
    truth = mask()
    flat = uniform_map(heat())
    share = np.mean([truth[place] for place in seen(flat)])
    assert pointing(flat, truth) == pytest.approx(share)
    assert energy(flat, truth) == pytest.approx(share)
    assert energy(flat - 1, truth) == pytest.approx(share)
    assert area_share(flat, truth) == pytest.approx(share)
    two = np.zeros((1, 4))
    two[0, :2] = 1
    assert pointing(two, np.array([[True, False, True, False]])) == 0.5


def test_energy_is_the_positive_part_in_the_mask():
    for _ in range(20):
        one, truth = heat(), mask()
        inside = sum(max(one[place], 0) for place in seen(one) if truth[place])
        assert energy(one, truth) == pytest.approx(inside / sum(max(one[place], 0) for place in seen(one)))


def test_iou_counts_pixels():
    for threshold in (0.2, 0.55, 1.0):
        one, truth = heat(), mask()
        values = [one[place] for place in seen(one)]
        found = {p for p in seen(one) if (one[p] - min(values)) / np.ptp(values) >= threshold}
        true = set(zip(*(axis.tolist() for axis in truth.nonzero()), strict=True))
        expected = len(found & true) / len(found | true)
        assert iou(one, truth, threshold=threshold) == pytest.approx(expected)
    assert levels(np.array([[np.nan, 2.0, 4.0]]))[0, 1:].tolist() == [0, 1]


def test_the_best_threshold_is_that_of_the_largest_mean_overlap():
    maps, masks = [heat() for _ in range(6)], [mask() for _ in range(6)]
    chosen = best_threshold(maps, masks)
    means = {}
    for level in LEVELS:
        means[level] = np.mean([iou(m, t, threshold=level) for m, t in zip(maps, masks, strict=True)])
    assert means[chosen] == max(means.values())
    assert best_threshold([], []) is None


def test_a_map_of_the_truth_is_perfect_and_its_opposite_the_worst():
    truth = box_mask(np.array([[2, 3, 7, 8]]), (9, 12))
    good = localisation([truth.astype(float)], [truth], threshold=0.5)
    assert {name: values.tolist() for name, values in good.items()} == {key: [1.0] for key in metrics.METRICS}
    bad = localisation([1.0 - truth], [truth], threshold=0.5)
    assert {name: values.tolist() for name, values in bad.items()} == {key: [0.0] for key in metrics.METRICS}
    assert set(localisation([truth.astype(float)], [truth], threshold=None)) == {"pointing", "energy"}


def test_the_centre_floor_is_highest_in_the_middle_and_unseen_where_the_map_is():
    hill = centre_map(heat(9, 13))
    assert np.unravel_index(np.nanargmax(hill), hill.shape) == (4, 6)
    assert np.isnan(hill[:, :2]).all()
    assert hill[0, 6] == pytest.approx(np.exp(-((4 / 9 / 0.25) ** 2) / 2))


def test_intervals_come_from_patients_drawn_with_all_their_films():
    patients = np.array(["a", "a", "a", "b", "c", "c", "d", "e", "f", "g", "h", "i", "j", "k"])
    score = RANDOM.random(len(patients))
    (found,) = mean_estimates({"energy": score}, finding="Edema", patients=patients, replicates=4000)
    assert found.value == pytest.approx(score.mean())
    assert (found.images, found.patients, found.finding) == (14, 11, "Edema")
    names = np.unique(patients)
    chance = np.random.default_rng(1)
    means = []
    for _ in range(4000):
        drawn = [score[patients == name] for name in chance.choice(names, len(names))]
        means.append(np.concatenate(drawn).mean())
    low, high = np.quantile(means, [0.025, 0.975])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.015), pytest.approx(high, abs=0.015))


def test_one_patient_has_no_interval_and_few_are_said():
    (alone,) = mean_estimates({"iou": np.ones(3)}, finding="Edema", patients=np.array(["a"] * 3))
    assert (alone.low, alone.note) == (None, "only 1 patient; no interval from a single patient")
    (few,) = mean_estimates({"iou": np.arange(3.0)}, finding="Edema", patients=np.array(["a", "b", "c"]))
    assert few.note.startswith("only 3 patients")
