import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from hilum.train.heads import PENALTIES, fit_heads


def films(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    features = (chance.normal(size=(count, 12)) * 3 + 5).astype(np.float32)
    direction = np.random.default_rng(99).normal(size=(12, 2))
    labels = (((features - 5) @ direction + chance.normal(size=(count, 2)) * 6) > 0).astype(np.float32)
    return features, labels


def test_a_head_is_scikit_learns_at_the_penalty_that_is_best_on_validation():
    features, labels = films(150, 0)
    val_features, val_labels = films(80, 1)
    ((weight, bias),) = fit_heads(
        features, labels, val_features, val_labels, subsets=np.ones((1, 150), bool), exclusive=False
    )
    scaler = StandardScaler().fit(features)
    for f in range(2):
        models = [
            LogisticRegression(C=c, max_iter=5000, tol=1e-8).fit(scaler.transform(features), labels[:, f])
            for c in PENALTIES
        ]
        scores = [
            roc_auc_score(val_labels[:, f], m.decision_function(scaler.transform(val_features)))
            for m in models
        ]
        expected = models[int(np.argmax(scores))].decision_function(scaler.transform(val_features))
        assert np.corrcoef(expected, val_features @ weight[f] + bias[f])[0, 1] > 0.999
        assert roc_auc_score(val_labels[:, f], val_features @ weight[f] + bias[f]) == pytest.approx(
            max(scores), abs=2e-3
        )


def test_a_penalty_that_is_given_is_that_of_every_finding():
    features, labels = films(150, 0)
    val_features, val_labels = films(80, 1)
    every = np.ones((1, 150), bool)
    ((weight, bias),) = fit_heads(
        features, labels, val_features, val_labels, subsets=every, exclusive=False, penalty=0.0327
    )
    scaler = StandardScaler().fit(features)
    for f in range(2):
        peer = LogisticRegression(C=0.0327, max_iter=5000, tol=1e-8)
        peer.fit(scaler.transform(features), labels[:, f])
        expected = peer.decision_function(scaler.transform(val_features))
        assert np.allclose(val_features @ weight[f] + bias[f], expected, atol=2e-3)
    classes = np.stack([labels[:, 0], 1 - labels[:, 0]], 1)
    val_classes = np.stack([val_labels[:, 0], 1 - val_labels[:, 0]], 1)
    ((weight, bias),) = fit_heads(
        features, classes, val_features, val_classes, subsets=every, exclusive=True, penalty=0.316
    )
    # Two classes are one logistic regression on the difference, whose two halves share the penalty.
    peer = LogisticRegression(C=2 * 0.316, max_iter=5000, tol=1e-8)
    peer.fit(scaler.transform(features), labels[:, 0])
    expected = peer.decision_function(scaler.transform(val_features))
    assert np.allclose(val_features @ (weight[0] - weight[1]) + bias[0] - bias[1], expected, atol=5e-3)


def test_unknown_rows_of_exclusive_findings_weigh_nothing():
    features, labels = films(90, 0)
    exclusive = np.stack([labels[:, 0], 1 - labels[:, 0]], 1)
    val_features, val_labels = films(60, 1)
    val_exclusive = np.stack([val_labels[:, 0], 1 - val_labels[:, 0]], 1)
    some = exclusive.copy()
    some[60:] = np.nan
    every = fit_heads(
        features, some, val_features, val_exclusive, subsets=np.ones((1, 90), bool), exclusive=True
    )
    subset = fit_heads(
        features, exclusive, val_features, val_exclusive, subsets=(np.arange(90) < 60)[None], exclusive=True
    )
    assert np.allclose(every[0][0], subset[0][0], atol=1e-3)
