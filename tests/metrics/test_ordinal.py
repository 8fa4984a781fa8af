import warnings

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from hilum.errors import ConfigError, RecordsError
from hilum.metrics.ordinal import bootstrap_kappa, grades, quadratic_kappa
from hilum.metrics.resampled import draw

NAN = float("nan")


def graded(seed, num=200, highest=3, patients=60):
    random = np.random.default_rng(seed)
    truth = random.integers(0, highest + 1, num).astype(float)
    decided = np.clip(truth + random.integers(-1, 2, num), 0, highest)
    return truth, decided, np.array([f"p{i}" for i in random.integers(0, patients, num)])


def slow_kappa(truth, decided, highest):
    """scikit-learn's, told of all grades: without, it numbers those that are there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cohen_kappa_score(
            truth.astype(int), decided.astype(int), labels=range(highest + 1), weights="quadratic"
        )


@pytest.mark.parametrize("highest", [1, 2, 3, 6])
def test_kappa_is_that_of_scikit_learn(highest):
    for seed in range(5):
        truth, decided, _ = graded(seed, highest=highest)
        assert quadratic_kappa(truth, decided) == pytest.approx(
            slow_kappa(truth, decided, highest), abs=1e-12
        )
    unlike = np.array([3.0, 0, 0, 3]), np.array([0.0, 3, 3, 0])
    assert quadratic_kappa(*unlike) == pytest.approx(-1)


def test_a_grade_that_is_missing_keeps_its_distance():
    truth, decided = np.array([0.0, 0, 1, 3, 3]), np.array([0.0, 1, 1, 3, 1])
    assert quadratic_kappa(truth, decided) == pytest.approx(slow_kappa(truth, decided, 3))
    assert quadratic_kappa(truth, decided) != pytest.approx(
        cohen_kappa_score(truth.astype(int), decided.astype(int), weights="quadratic")
    )


def test_kappa_leaves_unknown_grades_out_and_is_undefined_without_any_difference():
    truth, decided, _ = graded(0)
    truth[::3] = NAN
    known = ~np.isnan(truth)
    assert quadratic_kappa(truth, decided) == quadratic_kappa(truth[known], decided[known])
    for lost in (np.full(200, NAN), np.full(200, 2.0)):
        assert np.isnan(quadratic_kappa(lost, np.full(200, 2.0)))
    assert np.isnan(quadratic_kappa(truth, np.full(200, NAN)))
    assert quadratic_kappa(np.full(4, 2.0), np.array([0.0, 1, 2, 2])) == 0  # chance does as well


def test_grades_undo_the_cumulative_coding():
    true = np.array([0, 3, 1, 2])
    labels = (true[:, None] >= np.arange(1, 4)).astype(np.float32)
    assert grades(labels).tolist() == true.tolist()
    labels[1, 2] = NAN
    assert np.isnan(grades(labels)).tolist() == [False, True, False, False]


def test_the_interval_is_that_of_kappa_on_resampled_patients():
    truth, decided, patients = graded(1)
    truth[:20] = NAN
    estimate = bootstrap_kappa(truth, decided, patients=patients, finding="edema", replicates=64, seed=5)
    known = ~np.isnan(truth)
    names, owner = np.unique(patients[known], return_inverse=True)
    drawn = []
    for times in draw(len(names), 0, seed=5).T.astype(int):
        rows = np.concatenate([np.flatnonzero(owner == p) for p, n in enumerate(times) for _ in range(n)])
        drawn.append(slow_kappa(truth[known][rows], decided[known][rows], 3))
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert estimate.value == pytest.approx(slow_kappa(truth[known], decided[known], 3))
    assert (estimate.low, estimate.high) == (pytest.approx(low), pytest.approx(high))
    counts = (estimate.images, estimate.patients, estimate.positives)
    assert counts == (180, len(names), int((truth[known] > 0).sum()))
    assert (estimate.metric, estimate.finding, estimate.note) == ("quadratic_kappa", "edema", "")


def test_an_undefined_kappa_says_why():
    truth, decided, patients = graded(2)
    for true, called, why in (
        (np.full(200, NAN), decided, "no grade is known"),
        (truth, np.full(200, NAN), "no threshold"),
        (np.ones(200), np.ones(200), "all grades, true and decided, are the same"),
    ):
        estimate = bootstrap_kappa(true, called, patients=patients, finding="edema", replicates=10)
        assert (estimate.value, estimate.low, estimate.note) == (None, None, f"undefined: {why}")
    with pytest.raises(RecordsError, match=r"a true grade is \d.5; expected an integer"):
        bootstrap_kappa(truth + 0.5, decided, patients=patients, finding="edema")
    with pytest.raises(ConfigError, match="0 replicates"):
        bootstrap_kappa(truth, decided, patients=patients, finding="edema", replicates=0)
