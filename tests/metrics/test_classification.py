import numpy as np
import pytest
from sklearn import metrics as sk

from hilum.metrics.classification import (
    accuracy,
    auroc,
    average_precision,
    brier,
    confusion_matrix,
    mean_auroc,
    multiclass_accuracy,
    precision_recall_curve,
    roc_curve,
    sensitivity,
    specificity,
    youden_threshold,
)

NAN = float("nan")


def films(seed: int, *, num: int = 200, decimals: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels of 1 and 0 with scores; one decimal ties nearly all of them."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(num) < 0.3).astype(float)
    return truth, (rng.random(num) * 0.7 + 0.3 * truth).round(decimals)


@pytest.mark.parametrize("decimals", [1, 2, 12])
@pytest.mark.parametrize("weighted", [False, True])
def test_areas_are_those_of_scikit_learn_with_ties_and_weights(decimals, weighted):
    for seed in range(5):
        truth, score = films(seed, decimals=decimals)
        weight = np.random.default_rng(seed).integers(0, 4, len(truth)) if weighted else None
        same = {"sample_weight": weight}
        assert auroc(truth, score, weight=weight) == pytest.approx(
            sk.roc_auc_score(truth, score, **same), abs=1e-12
        )
        assert average_precision(truth, score, weight=weight) == pytest.approx(
            sk.average_precision_score(truth, score, **same), abs=1e-12
        )


def test_auroc_is_the_share_of_pairs_in_order_with_half_of_every_tie():
    truth, score = films(0)
    pairs = np.subtract.outer(score[truth == 1], score[truth == 0])
    assert auroc(truth, score) == pytest.approx(((pairs > 0) + (pairs == 0) / 2).mean(), abs=1e-14)


def test_auroc_of_equal_scores_is_a_half():
    assert auroc(np.array([0, 1, 1]), np.full(3, 0.2)) == 0.5


def test_a_rank_survives_any_increasing_map():
    truth, score = films(1)
    assert auroc(truth, np.exp(5 * score)) == auroc(truth, score)
    assert auroc(truth, -score) == pytest.approx(1 - auroc(truth, score))


@pytest.mark.parametrize("kind", [bool, np.int64, np.float32, np.float64])
def test_labels_of_any_type_give_the_same(kind):
    truth, score = films(2)
    assert auroc(truth.astype(kind), score) == auroc(truth, score)
    assert confusion_matrix(truth.astype(kind), score, threshold=0.5).sum() == len(truth)


def test_curves_are_those_of_scikit_learn():
    truth, score = films(3)
    for weight in (None, np.random.default_rng(3).integers(1, 4, len(truth))):
        expected = sk.roc_curve(truth, score, sample_weight=weight, drop_intermediate=False)
        for ours, theirs in zip(roc_curve(truth, score, weight=weight), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-14)
        expected = sk.precision_recall_curve(truth, score, sample_weight=weight)
        for ours, theirs in zip(precision_recall_curve(truth, score, weight=weight), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-14)


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.3, 0.55, 1.0, 2.0])
def test_decisions_are_those_of_scikit_learn_at_a_threshold(threshold):
    truth, score = films(4)
    called = score >= threshold
    expected = sk.confusion_matrix(truth, called, labels=[0, 1])
    np.testing.assert_array_equal(confusion_matrix(truth, score, threshold=threshold), expected)
    assert accuracy(truth, score, threshold=threshold) == pytest.approx(sk.accuracy_score(truth, called))
    assert sensitivity(truth, score, threshold=threshold) == pytest.approx(sk.recall_score(truth, called))
    assert specificity(truth, score, threshold=threshold) == pytest.approx(
        sk.recall_score(truth, called, pos_label=0)
    )


def test_brier_is_that_of_scikit_learn():
    truth, score = films(5, decimals=8)
    assert brier(truth, score) == pytest.approx(sk.brier_score_loss(truth, score))


def test_the_youden_threshold_is_the_highest_of_the_best_of_all_scores():
    for seed in range(20):
        truth, score = films(seed, num=40)
        gained = {
            cut: (score[truth == 1] >= cut).mean() + (score[truth == 0] < cut).mean() for cut in set(score)
        }
        best = max(gained.values())
        assert youden_threshold(truth, score) == max(c for c, g in gained.items() if g > best - 1e-12)


def test_multiclass_accuracy_is_that_of_scikit_learn_over_known_rows():
    rng = np.random.default_rng(6)
    truth, scores = rng.integers(-1, 4, 100), rng.random((100, 4))
    known = truth >= 0
    expected = sk.accuracy_score(truth[known], scores[known].argmax(axis=1))
    assert multiclass_accuracy(truth, scores) == pytest.approx(expected)
    assert np.isnan(multiclass_accuracy(np.full(3, -1), scores[:3]))


def test_unknown_labels_weigh_nothing_whatever_their_score():
    truth, score = films(7)
    with_unknown = np.r_[truth, NAN, NAN], np.r_[score, 0.9, NAN]
    for metric in (auroc, average_precision, brier, youden_threshold):
        assert metric(*with_unknown) == metric(truth, score)
    np.testing.assert_array_equal(
        confusion_matrix(*with_unknown, threshold=0.5), confusion_matrix(truth, score, threshold=0.5)
    )


@pytest.mark.parametrize("truth", [[], [NAN, NAN, NAN], [0, 0, 0], [1, 1, 1]])
def test_without_both_classes_ranking_is_undefined(truth):
    labels, score = np.array(truth, float), np.array([0.1, 0.5, 0.9])[: len(truth)]
    for metric in (auroc, average_precision, youden_threshold):
        assert np.isnan(metric(labels, score))


def test_a_share_of_nothing_is_undefined():
    zeros, ones, unknown, score = np.zeros(2), np.ones(2), np.full(2, NAN), np.array([0.2, 0.8])
    assert np.isnan(sensitivity(zeros, score, threshold=0.5))
    assert np.isnan(specificity(ones, score, threshold=0.5))
    assert np.isnan(accuracy(unknown, score, threshold=0.5))
    assert np.isnan(brier(unknown, score))
    assert specificity(zeros, score, threshold=0.5) == 0.5


def test_the_mean_auroc_is_over_defined_findings():
    truth, score = films(8)
    labels = np.stack([truth, np.zeros_like(truth), 1 - truth, np.full_like(truth, NAN)], axis=1)
    scores = np.stack([score] * 4, axis=1)
    assert mean_auroc(labels, scores) == pytest.approx(0.5)
    assert mean_auroc(labels[:, :2], scores[:, :2]) == auroc(truth, score)
    assert np.isnan(mean_auroc(labels[:, [1, 3]], scores[:, [1, 3]]))


def test_a_score_that_is_nan_is_no_high_score():
    with pytest.raises(AssertionError, match="NaN"):
        auroc(np.array([0.0, 1.0]), np.array([0.5, NAN]))
