import numpy as np
import pytest
from sklearn import metrics as sk

from hilum.errors import RecordsError
from hilum.metrics.classification import (
    auroc,
    average_precision,
    confusion_matrix,
    exclusive_confusion,
    mean_auroc,
    precision_recall_curve,
    roc_curve,
    youden_threshold,
)


def case(seed, *, decimals=None, num=500):
    rng = np.random.default_rng(seed)
    truth = (rng.random(num) < 0.2).astype(np.float32)
    score = rng.normal(size=num) + truth
    return truth, score if decimals is None else np.round(score, decimals)


CASES = [(0, None), (1, 1), (2, 0)]


@pytest.mark.parametrize(("seed", "decimals"), CASES)
def test_auroc_and_average_precision_are_scikit_learns_also_with_ties(seed, decimals):
    truth, score = case(seed, decimals=decimals)
    assert auroc(truth, score) == pytest.approx(sk.roc_auc_score(truth, score), abs=1e-12)
    assert average_precision(truth, score) == pytest.approx(
        sk.average_precision_score(truth, score), abs=1e-12
    )


def test_a_constant_score_has_an_auroc_of_one_half():
    assert auroc(np.array([0, 1, 1, 0, 0]), np.zeros(5)) == 0.5


@pytest.mark.parametrize("truth", [[1, 1], [0, 0], [np.nan, np.nan], [1, np.nan]])
def test_without_both_classes_ranking_metrics_are_undefined(truth):
    for metric in (auroc, average_precision, youden_threshold):
        assert np.isnan(metric(np.array(truth, dtype=float), np.array([0.1, 0.2])))


def test_unknown_labels_are_left_out_even_with_a_score_of_nan():
    truth, score = case(3)
    wider = np.r_[truth, np.nan, np.nan].astype(np.float32)
    assert auroc(wider, np.r_[score, 5.0, np.nan]) == auroc(truth, score)


def test_mean_auroc_is_over_the_defined_findings():
    truth, score = case(4)
    both = np.stack([truth, np.ones_like(truth)], axis=1)
    assert mean_auroc(both, np.stack([score, score], axis=1)) == auroc(truth, score)
    assert np.isnan(mean_auroc(both[:, 1:], score[:, None]))


@pytest.mark.parametrize(("seed", "decimals"), CASES)
def test_curves_are_scikit_learns(seed, decimals):
    truth, score = case(seed, decimals=decimals)
    for ours, theirs in zip(
        roc_curve(truth, score), sk.roc_curve(truth, score, drop_intermediate=False), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    ours = precision_recall_curve(truth, score)
    precision, recall, thresholds = sk.precision_recall_curve(truth, score)
    np.testing.assert_allclose(ours.precision[::-1], np.r_[precision], atol=1e-12)
    np.testing.assert_allclose(ours.recall[::-1], recall, atol=1e-12)
    np.testing.assert_array_equal(ours.thresholds[:0:-1], thresholds)


def test_the_confusion_matrix_is_scikit_learns():
    truth, score = case(5)
    ours = confusion_matrix(np.r_[truth, np.nan], np.r_[score, 9], threshold=0.4)
    np.testing.assert_array_equal(ours, sk.confusion_matrix(truth, score >= 0.4))


def test_a_score_equal_to_the_threshold_is_called_present():
    assert confusion_matrix(np.array([1, 0]), np.array([0.5, 0.5]), threshold=0.5).tolist() == [
        [0, 1],
        [0, 1],
    ]


def test_the_exclusive_confusion_is_scikit_learns():
    rng = np.random.default_rng(6)
    labels, score = rng.integers(0, 3, 200), rng.random((200, 3))
    ours = exclusive_confusion(np.eye(3)[labels], score)
    np.testing.assert_array_equal(ours, sk.confusion_matrix(labels, score.argmax(1)))


def test_a_radiograph_with_two_findings_has_no_exclusive_one():
    with pytest.raises(RecordsError, match="row 1"):
        exclusive_confusion(np.array([[1, 0], [1, 1]]), np.zeros((2, 2)))


@pytest.mark.parametrize(("seed", "decimals"), CASES)
def test_the_youden_threshold_is_the_best_of_all_scores(seed, decimals):
    truth, score = case(seed, decimals=decimals, num=120)

    def gain(cut):
        return (score[truth == 1] >= cut).mean() + (score[truth == 0] < cut).mean()

    cut = youden_threshold(truth, score)
    assert cut in score
    assert gain(cut) == pytest.approx(max(gain(s) for s in score), abs=1e-12)


def test_a_label_of_minus_one_is_refused_by_value():
    with pytest.raises(RecordsError, match=r"-1\.0.*1, 0 or NaN"):
        auroc(np.array([1.0, 0.0, -1.0]), np.zeros(3))


def test_a_score_of_nan_is_refused():
    with pytest.raises(RecordsError, match="1 scores are NaN"):
        auroc(np.array([1.0, 0.0]), np.array([np.nan, 1.0]))


def test_lengths_must_agree():
    with pytest.raises((RecordsError, TypeError), match=r"."):
        auroc(np.array([1.0, 0.0]), np.array([1.0]))
