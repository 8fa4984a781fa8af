"""Boxes against slow loops written from the definitions, and against pycocotools."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hilum.metrics.boxes import Boxes, centred, finders, overlap
from hilum.metrics.detection import (
    COCO_IOUS,
    FALSE_ALARMS,
    RSNA_IOUS,
    average_precision,
    mean_score,
    rsna_scores,
    sensitivity_at_false_alarms,
    surest,
)

THRESHOLDS = np.array([0.0, 0.2, 0.45, 0.7, 0.99])


def boxes_of(films, film, box, score, true_film, true_box, **most):
    return Boxes.of(
        films,
        np.array(film, np.int64),
        np.array(box, np.float64).reshape(-1, 4),
        np.array(score, np.float64),
        np.array(true_film, np.int64),
        np.array(true_box, np.float64).reshape(-1, 4),
        **most,
    )


def sample(seed=0, films=40, *, ties=False):
    """Normal films, films without detections, near misses, and two detections on one true box."""
    random = np.random.default_rng(seed)
    true_film, true_box, film, box, score = [], [], [], [], []
    for number in range(films):
        for _ in range(int(random.choice([0, 0, 1, 2, 3]))):
            x, y, w, h = random.uniform(0, 60, 2).tolist() + random.uniform(10, 40, 2).tolist()
            true_film.append(number)
            true_box.append([x, y, x + w, y + h])
            for _ in range(int(random.integers(0, 3))):
                film.append(number)
                box.append(np.array(true_box[-1]) + random.normal(0, 3, 4))
        for _ in range(int(random.choice([0, 0, 1, 4]))):
            x, y = random.uniform(0, 60, 2)
            film.append(number)
            box.append([x, y, x + 20, y + 25])
    score = random.integers(1, 6, len(film)) / 5 if ties else random.random(len(film))
    order = random.permutation(len(film))
    return films, np.array(film)[order], np.array(box)[order], score[order], true_film, np.array(true_box)


def by_hand(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def slow_rsna(given, true, order):
    """The score of one film: given are (score, box), surest first."""
    if not given and not true:
        return None
    values = []
    for iou in RSNA_IOUS:
        free, tp = list(range(len(true))), 0
        if order == "score":
            for _, box in given:
                best = max(free, key=lambda g: by_hand(box, true[g]), default=None)
                if best is not None and by_hand(box, true[best]) >= iou:
                    free.remove(best)
                    tp += 1
        else:
            left = list(range(len(given)))
            for goal in true:
                hit = next((d for d in left if by_hand(given[d][1], goal) >= iou), None)
                if hit is not None:
                    left.remove(hit)
                    tp += 1
        values.append(tp / (len(given) + len(true) - tp))
    return float(np.mean(values))


@pytest.mark.parametrize("order", ["score", "truth"])
@pytest.mark.parametrize("seed", range(4))
def test_the_rsna_score_is_that_of_its_triple_loop(seed, order):
    films, film, box, score, true_film, true_box = sample(seed)
    boxes = boxes_of(films, film, box, score, true_film, true_box)
    found = rsna_scores(boxes, THRESHOLDS, order=order)
    ranked = np.argsort(-score, kind="stable")
    for number in range(films):
        true = [tuple(b) for f, b in zip(true_film, true_box, strict=True) if f == number]
        for column, cut in enumerate(THRESHOLDS):
            given = [(score[d], tuple(box[d])) for d in ranked if film[d] == number and score[d] >= cut]
            expected = slow_rsna(given, true, order)
            if expected is None:
                assert np.isnan(found[number, column])
            else:
                assert found[number, column] == pytest.approx(expected, abs=1e-12)


def test_who_chooses_matters_where_two_detections_want_one_box():
    true = [[0, 0, 10, 10], [0, 4, 10, 14]]
    box, score = [[0, 2, 10, 12], [0, 0, 10, 10]], [0.9, 0.8]
    boxes = boxes_of(1, [0, 0], box, score, [0, 0], true)
    # The surer one overlaps both alike. Of its own choice it takes the last, the other then has its own; if
    # true boxes choose, the first takes it, and what is left for the second overlaps by 6/14.
    assert finders(boxes, np.array([0.5]), order="score").tolist() == [[1, 0]]
    assert finders(boxes, np.array([0.5]), order="truth").tolist() == [[0, -1]]


def test_films_without_boxes_count_as_the_challenge_says():
    boxes = boxes_of(3, [1], [[0, 0, 5, 5]], [0.3], [2], [[0, 0, 5, 5]])
    scores = rsna_scores(boxes, np.array([0.2, 0.4]))
    np.testing.assert_array_equal(scores, [[np.nan, np.nan], [0, np.nan], [0, 0]])
    np.testing.assert_array_equal(mean_score(scores, np.ones((3, 1))), [[0], [0]])
    weights = np.array([[1.0, 1], [1, 0], [0, 0]])
    np.testing.assert_array_equal(mean_score(scores, weights), [[0, np.nan], [np.nan, np.nan]])


def coco(boxes):
    """pycocotools' precision of each IoU, of the same boxes."""
    truth = {
        "images": [{"id": i + 1} for i in range(boxes.films)],
        "categories": [{"id": 1}],
        "annotations": [
            {
                "id": k + 1, "image_id": int(f) + 1, "category_id": 1, "iscrowd": 0,
                "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]], "area": (b[2] - b[0]) * (b[3] - b[1]),
            }
            for k, (f, b) in enumerate(zip(boxes.true_film, boxes.true_box, strict=True))
        ],
    }  # fmt: skip
    found = [
        {
            "image_id": int(f) + 1,
            "category_id": 1,
            "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]],
            "score": s,
        }
        for f, b, s in zip(boxes.film, boxes.box, boxes.score, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO()
        api.dataset = truth
        api.createIndex()
        judge = COCOeval(api, api.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][:, :, 0, 0, -1]  # IoU, recall; all areas, 100 detections
    return precision.mean(axis=1)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_pycocotools(seed, ties):
    films, film, box, score, true_film, true_box = sample(seed, ties=ties)
    boxes = boxes_of(films, film, box, score, true_film, true_box, most=100)
    mine = average_precision(boxes, np.ones((films, 1)))[:, 0]
    np.testing.assert_allclose(mine, coco(boxes), atol=1e-9)
    assert len(mine) == len(COCO_IOUS)


@pytest.mark.parametrize("seed", range(3))
def test_of_a_film_the_hundred_surest_detections_count_as_for_pycocotools(seed):
    random = np.random.default_rng(seed)
    low = random.uniform(0, 60, (260, 2))
    box = np.concatenate([low, low + random.uniform(10, 40, (260, 2))], 1)
    film, score = random.integers(0, 2, 260), random.integers(1, 40, 260) / 40
    true = [[5, 5, 30, 35], [40, 40, 70, 75], [10, 50, 40, 90]]
    all_of = boxes_of(2, film, box, score, [0, 0, 1], true)
    assert (all_of.detected > 100).all()
    mine = boxes_of(2, film, box, score, [0, 0, 1], true, most=100)
    np.testing.assert_allclose(average_precision(mine, np.ones((2, 1)))[:, 0], coco(all_of), atol=1e-9)


def test_a_film_that_counts_twice_is_as_two_films():
    films, film, box, score, true_film, true_box = sample(3, films=12)
    boxes = boxes_of(films, film, box, score, true_film, true_box)
    times = np.array([0, 2, 1, 0, 3, 1, 1, 1, 0, 1, 2, 0])
    rows = np.repeat(np.arange(films), times)
    parts = [(new, np.flatnonzero(film == old)) for new, old in enumerate(rows)]
    goals = [(new, np.flatnonzero(np.array(true_film) == old)) for new, old in enumerate(rows)]
    copied = boxes_of(
        len(rows),
        np.concatenate([np.full(len(d), new) for new, d in parts]),
        np.concatenate([box[d] for _, d in parts]),
        np.concatenate([score[d] for _, d in parts]),
        np.concatenate([np.full(len(g), new) for new, g in goals]),
        np.concatenate([true_box[g] for _, g in goals]),
    )
    weights, ones = times[:, None].astype(float), np.ones((len(rows), 1))
    for metric in (average_precision, sensitivity_at_false_alarms):
        np.testing.assert_allclose(metric(boxes, weights), metric(copied, ones), atol=1e-9)
    np.testing.assert_allclose(
        mean_score(rsna_scores(boxes, THRESHOLDS), weights),
        mean_score(rsna_scores(copied, THRESHOLDS), ones),
    )


@pytest.mark.parametrize("iou", [None, 0.4])
def test_sensitivity_at_false_alarms_is_the_best_that_a_threshold_allows(iou):
    films, film, box, score, true_film, true_box = sample(5)
    boxes = boxes_of(films, film, box, score, true_film, true_box)
    found = sensitivity_at_false_alarms(boxes, np.ones((films, 1)), iou=iou)[:, 0]
    if iou is None:
        right, best = centred(boxes)
    else:
        finder = finders(boxes, np.array([iou]))[0]
        right = np.isin(np.arange(len(boxes.score)), finder)
        best = np.where(finder >= 0, boxes.score[finder], -np.inf)
    for rate, value in zip(FALSE_ALARMS, found, strict=True):
        shares = [0.0]
        for cut in np.unique(boxes.score):
            if (boxes.score[~right] >= cut).sum() <= rate * films:
                shares.append(float((best >= cut).mean()))
        assert value == pytest.approx(max(shares))
    assert (np.diff(found) >= 0).all()


def test_a_middle_is_in_a_box_or_not():
    boxes = boxes_of(
        2, [0, 0, 1], [[0, 0, 4, 4], [9, 9, 11, 11], [0, 0, 4, 4]], [0.5, 0.9, 1.0], [0], [[1, 1, 3, 3]]
    )
    right, best = centred(boxes)
    assert right.tolist() == [False, True, False]
    assert best.tolist() == [0.5]
    assert surest(boxes).tolist() == [0.9, 1.0]


def test_without_boxes_of_one_kind_metrics_are_undefined_or_zero():
    none = boxes_of(2, [], np.empty((0, 4)), [], [0], [[0, 0, 5, 5]])
    one = np.ones((2, 1))
    assert average_precision(none, one).tolist() == [[0.0]] * 10
    assert sensitivity_at_false_alarms(none, one).tolist() == [[0.0]] * 7
    empty = boxes_of(2, [0], [[0, 0, 5, 5]], [0.5], [], np.empty((0, 4)))
    assert np.isnan(average_precision(empty, one)).all()
    assert np.isnan(sensitivity_at_false_alarms(empty, one)).all()
    assert surest(none).tolist() == [0, 0]


def test_boxes_that_are_turned_inside_out_overlap_nothing():
    assert overlap(np.array([[5.0, 5, 1, 1]]), np.array([[0.0, 0, 9, 9]])).tolist() == [0]
    assert overlap(np.array([[2.0, 2, 2, 2]]), np.array([[2.0, 2, 2, 2]])).tolist() == [0]
