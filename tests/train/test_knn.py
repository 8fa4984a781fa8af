import math

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from hilum.metrics.classification import mean_auroc
from hilum.train.knn import CHOICES, TEMPERATURE, choose_neighbours, vote

NAN = float("nan")


def films(count: int, seed: int, *, unknown: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    features = chance.normal(size=(count, 6)).astype(np.float32)
    direction = np.random.default_rng(9).normal(size=(6, 3))
    labels = ((features @ direction + chance.normal(size=(count, 3))) > 0).astype(np.float32)
    labels[chance.random(labels.shape) < unknown] = NAN
    return features, labels


def by_hand(features, labels, query, finding, k):
    """Wu et al. 2018, section 3.4, with the radiographs of unknown label left out."""
    known = [i for i in range(len(features)) if not math.isnan(labels[i][finding])]
    cosine = {
        i: sum(map(float, features[i] * query)) / float(np.linalg.norm(features[i]) * np.linalg.norm(query))
        for i in known
    }
    nearest = sorted(known, key=lambda i: -cosine[i])[:k]
    weights = {i: math.exp(cosine[i] / TEMPERATURE) for i in nearest}
    return sum(weights[i] for i in nearest if labels[i][finding] == 1) / sum(weights.values())


@pytest.mark.parametrize("unknown", [0.0, 0.4])
def test_neighbours_of_known_label_vote_by_their_similarity(unknown):
    features, labels = films(40, 0, unknown=unknown)
    queries, _ = films(7, 1)
    found = vote(features, labels, queries, [1, 5, 1000])
    for place, k in enumerate((1, 5, 1000)):
        for q, query in enumerate(queries):
            for finding in range(3):
                expected = by_hand(features, labels, query, finding, k)
                assert found[place, q, finding] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_it_is_scikit_learns():
    features, labels = films(120, 0)
    queries, _ = films(30, 1)
    (found,) = vote(features, labels, queries, [9])
    for finding in range(3):
        peer = KNeighborsClassifier(
            9, metric="cosine", weights=lambda distance: np.exp((1 - distance) / TEMPERATURE)
        ).fit(features, labels[:, finding])
        assert np.allclose(found[:, finding], peer.predict_proba(queries)[:, 1], atol=1e-5)


def test_exclusive_findings_sum_to_one_and_one_that_is_known_nowhere_is_at_one_half():
    features, labels = films(30, 0)
    classes = np.eye(3, dtype=np.float32)[labels.sum(1).astype(int) % 3]
    classes[::4] = NAN
    queries, _ = films(5, 1)
    assert np.allclose(vote(features, classes, queries, [7]).sum(2), 1)
    labels[:, 1] = NAN
    assert (vote(features, labels, queries, [7])[:, :, 1] == 0.5).all()


def test_the_number_of_neighbours_is_the_best_on_validation():
    features, labels = films(150, 0)
    val_features, val_labels = films(80, 1)
    scores = {
        k: mean_auroc(val_labels, vote(features, labels, val_features, [k])[0]) for k in CHOICES if k <= 150
    }
    assert choose_neighbours(features, labels, val_features, val_labels) == max(scores, key=scores.get)
    assert choose_neighbours(features[:3], labels[:3], val_features, val_labels) == 3


def test_without_both_classes_in_validation_the_choice_is_said(caplog):
    features, labels = films(60, 0)
    choose_neighbours(features, labels, features[:5], np.ones_like(labels[:5]))
    assert "no finding has both classes in validation" in caplog.text
