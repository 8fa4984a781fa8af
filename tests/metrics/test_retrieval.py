import numpy as np
import pytest

from hilum.metrics.resampled import draw
from hilum.metrics.retrieval import precision_at, ranks, recall_at, retrieval, retrieval_intervals


def slow_ranks(similarity, right):
    """The mean, over random orders of equal keys, of where the first right key stands among the wrong."""
    found = []
    for row, good in zip(similarity, right, strict=True):
        if not good.any():
            found.append(np.nan)
            continue
        best = max(value for value, ok in zip(row, good, strict=True) if ok)
        place = 1.0
        for value, ok in zip(row, good, strict=True):
            if not ok and value > best:
                place += 1
            elif not ok and value == best:
                place += 0.5
        found.append(place)
    return np.array(found)


def slow_precision(similarity, right, k, orders=4000):
    """Over many random orders of the keys, sorted stably by similarity."""
    random = np.random.default_rng(0)
    shares = []
    for _ in range(orders):
        order = random.permutation(similarity.shape[1])
        for row, good in zip(similarity, right, strict=True):
            if good.any():
                best = sorted(order.tolist(), key=lambda key, row=row: -row[key])[:k]
                shares.append(sum(bool(good[key]) for key in best) / k)
    return np.mean(shares)


@pytest.mark.parametrize("levels", [3, 10**6], ids=["many ties", "no ties"])
def test_ranks_are_those_of_a_loop(levels):
    random = np.random.default_rng(levels)
    similarity = random.integers(0, levels, (20, 12)).astype(float)
    right = random.random((20, 12)) < 0.2
    assert not right.any(1).all()
    assert np.array_equal(ranks(similarity, right), slow_ranks(similarity, right), equal_nan=True)


@pytest.mark.parametrize("k", [1, 3, 9])
def test_precision_is_the_mean_over_orders_of_equal_keys(k):
    random = np.random.default_rng(k)
    similarity = random.integers(0, 4, (5, 9)).astype(float)
    right = random.random((5, 9)) < 0.4
    right[0] = False
    assert precision_at(similarity, right, k) == pytest.approx(slow_precision(similarity, right, k), abs=0.01)


def test_all_alike_is_chance():
    numbers = retrieval(np.ones((11, 11)), np.arange(11))
    assert numbers["image_to_text_median_rank"] == 6
    assert numbers["text_to_image_recall@1"] == 0


def test_films_with_the_same_text_find_it_in_each_other():
    similarity = np.array([[0.1, 0.9, 0.0], [0.8, 0.2, 0.0], [0.5, 0.6, 0.4]])
    alone = retrieval(similarity, np.arange(3), at=[1])
    shared = retrieval(similarity, np.array([0, 0, 1]), at=[1])
    assert (alone["image_to_text_recall@1"], shared["image_to_text_recall@1"]) == (0, pytest.approx(2 / 3))
    assert shared["image_to_text_median_rank"] == 1


def test_both_directions_are_told_apart():
    similarity = np.array([[0.9, 0.1], [0.95, 0.2]])
    numbers = retrieval(similarity, np.arange(2), at=[1])
    assert numbers["image_to_text_recall@1"] == 0.5  # film 1 prefers the text of film 0
    assert numbers["text_to_image_recall@1"] == 0.5  # text 0 prefers film 1
    assert recall_at(np.array([1.0, 2.0, np.nan]), 1) == 0.5
    assert np.isnan(recall_at(np.array([np.nan]), 1))


def test_intervals_draw_patients_as_queries():
    random = np.random.default_rng(5)
    same, patient = random.integers(0, 20, 40), np.repeat(np.arange(16), [3] * 12 + [1] * 4)
    similarity = random.normal(size=(40, 40)) + 1.5 * (same[:, None] == same[None])
    found = retrieval_intervals(similarity, same, patient=patient, at=[1, 5], replicates=64)
    values = retrieval(similarity, same, at=[1, 5])
    places = ranks(similarity, same[:, None] == same[None])
    recalls, medians = [], []
    for times in draw(16, 0, seed=0).T.astype(int):
        queries = np.repeat(np.arange(40), times[patient])
        recalls.append((places[queries] <= 5).mean())
        medians.append(np.sort(places[queries])[(len(queries) - 1) // 2])
    for name, drawn in (("recall@5", recalls), ("median_rank", medians)):
        one = found[f"image_to_text_{name}"]
        assert one["value"] == values[f"image_to_text_{name}"]
        assert (one["low"], one["high"]) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


def test_chance_of_recall_is_that_of_random_orders():
    random = np.random.default_rng(6)
    same = np.array([0, 0, 0, 1, 1, 2, 3, 4])
    found = retrieval_intervals(np.zeros((8, 8)), same, patient=np.arange(8), at=[2], replicates=8)
    hits = []
    for _ in range(4000):
        similarity = random.random((8, 8))
        hits.append(recall_at(ranks(similarity, same[:, None] == same[None]), 2))
    assert found["image_to_text_recall@2"]["chance"] == pytest.approx(np.mean(hits), abs=0.01)
