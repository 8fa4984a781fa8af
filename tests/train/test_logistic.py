import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from hilum.errors import NumericalError
from hilum.metrics.classification import auroc
from hilum.train.logistic import fit_logistic, fit_softmax

PENALTIES = np.logspace(-4, 1, 6)
TIGHT = 1e-12


def cohort(num: int, width: int, *, unknown: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(num, width)) @ (np.eye(width) + 0.3 * rng.normal(size=(width, width)))
    x = (mixed + 1).astype(np.float32)
    liability = (x[:, :3] - x[:, :3].mean(0)) / x[:, :3].std(0) + 1.5 * rng.normal(size=(num, 3))
    y = (liability > np.array([1.5, 0.5, 0.0])).astype(np.float32)
    y[rng.random(y.shape) < unknown] = np.nan
    return x, y


def exclusive_cohort(num: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    x, _ = cohort(num, width)
    noise = np.random.default_rng(1).normal(size=(num, 3))
    return x, np.eye(3, dtype=np.float32)[(x[:, :3] + 3 * noise).argmax(1)]


def reference(x: np.ndarray, y: np.ndarray, penalty: float) -> LogisticRegression:
    return LogisticRegression(C=penalty, tol=1e-9, max_iter=100_000).fit(x.astype(np.float64), y)


def assert_same(weights: np.ndarray, bias: np.ndarray, model: LogisticRegression) -> None:
    scale = np.abs(model.coef_).max()
    wanted = model.coef_.reshape(weights.shape)
    np.testing.assert_allclose(weights / scale, wanted / scale, rtol=0, atol=1e-3)
    np.testing.assert_allclose(bias, model.intercept_.reshape(bias.shape), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("num", "width"), [(300, 20), (60, 100)], ids=["tall", "wide"])
@pytest.mark.parametrize("unknown", [0.0, 0.2])
def test_every_head_is_the_one_of_scikit_learn(num, width, unknown):
    x, y = cohort(num, width, unknown=unknown)
    fit = fit_logistic(x, y, PENALTIES, tol=TIGHT)
    weights, bias = np.asarray(fit.weights), np.asarray(fit.bias)
    assert weights.shape == (1, 6, 3, width)
    assert bias.shape == (1, 6, 3)
    for p, penalty in enumerate(PENALTIES):
        for f in range(3):
            known = ~np.isnan(y[:, f])
            assert_same(weights[0, p, f], bias[0, p, f], reference(x[known], y[known, f], penalty))


def test_a_subset_has_the_heads_of_its_rows_alone():
    x, y = cohort(200, 30, unknown=0.1)
    rng = np.random.default_rng(2)
    subsets = np.stack([np.ones(200, bool), rng.random(200) < 0.5, np.arange(200) < 25])
    fit = fit_logistic(x, y, PENALTIES[1:4], row_weights=subsets, tol=TIGHT)
    for s, rows in enumerate(subsets):
        for p, penalty in enumerate(PENALTIES[1:4]):
            known = rows & ~np.isnan(y[:, 2])
            model = reference(x[known], y[known, 2], penalty)
            assert_same(np.asarray(fit.weights)[s, p, 2], np.asarray(fit.bias)[s, p, 2], model)


def test_a_finding_of_one_class_is_undefined_and_leaves_the_others_alone():
    x, y = cohort(80, 10)
    alone = fit_logistic(x, y[:, 1:2], PENALTIES, tol=TIGHT)
    y[:, 0], y[:, 2] = 0, np.nan
    fit = fit_logistic(x, y, PENALTIES, tol=TIGHT)
    assert np.asarray(fit.undefined).tolist() == [[True, False, True]]
    assert not np.asarray(fit.weights)[:, :, [0, 2]].any()
    bias = np.asarray(fit.bias)
    assert np.isfinite(bias).all()
    assert (bias[:, :, 0] < 0).all()
    assert np.ptp(bias[:, :, 0]) == 0
    np.testing.assert_allclose(
        np.asarray(fit.weights)[:, :, 1], np.asarray(alone.weights)[:, :, 0], atol=1e-4
    )


def test_a_finding_can_be_undefined_in_one_subset_only():
    x, y = cohort(80, 10)
    subsets = np.stack([np.ones(80, bool), y[:, 0] == 0])
    fit = fit_logistic(x, y, PENALTIES, row_weights=subsets)
    assert np.asarray(fit.undefined).tolist() == [[False] * 3, [True, False, False]]


@pytest.mark.parametrize(("num", "width"), [(200, 12), (40, 60)], ids=["tall", "wide"])
def test_softmax_is_the_multinomial_regression_of_scikit_learn(num, width):
    x, y = exclusive_cohort(num, width)
    fit = fit_softmax(x, y, PENALTIES[:5], tol=TIGHT, max_iter=2000)
    for p, penalty in enumerate(PENALTIES[:5]):
        model = reference(x, y.argmax(1), penalty)
        model.intercept_ -= model.intercept_.mean()
        bias = np.asarray(fit.bias)[0, p]
        assert_same(np.asarray(fit.weights)[0, p], bias - bias.mean(), model)


def test_softmax_of_an_absent_finding_is_the_softmax_of_the_others():
    x, y = exclusive_cohort(90, 8)
    present = y[:, 2] == 0
    fit = fit_softmax(x, y, PENALTIES[:4], row_weights=present[None], tol=TIGHT)
    assert np.asarray(fit.undefined).tolist() == [[False, False, True]]
    assert np.isfinite(np.asarray(fit.bias)).all()
    assert not np.asarray(fit.weights)[:, :, 2].any()
    for p, penalty in enumerate(PENALTIES[:4]):
        # two classes halve the squared weight of the one logistic head: twice its C
        model = reference(x[present], y[present].argmax(1), 2 * penalty)
        weights = np.asarray(fit.weights)[0, p]
        scale = np.abs(model.coef_).max()
        np.testing.assert_allclose((weights[1] - weights[0]) / scale, model.coef_[0] / scale, atol=1e-3)


def test_default_tolerances_give_the_auroc_of_a_converged_fit():
    rng = np.random.default_rng(3)
    spread = np.arange(1, 61) ** -0.7
    turn = np.linalg.qr(rng.normal(size=(60, 60)))[0]
    x = ((rng.normal(size=(1500, 60)) * spread) @ turn).astype(np.float32)
    x = (x - x.mean(0)) / x.std(0)
    signal = x[:, :10].sum(1)
    y = (signal / signal.std() + rng.normal(size=1500) > 2.2).astype(np.float32)
    train = np.arange(1500) < 500
    fit = fit_logistic(x[train], y[train, None], PENALTIES)
    assert np.asarray(fit.converged).all()
    for p, penalty in enumerate(PENALTIES):
        expected = auroc(y[~train], x[~train] @ reference(x[train], y[train], penalty).coef_[0])
        assert auroc(y[~train], x[~train] @ np.asarray(fit.weights)[0, p, 0]) == pytest.approx(
            expected, abs=2e-3
        )


def test_converged_is_false_where_the_steps_ran_out(caplog):
    x, y = cohort(300, 20)
    fit = fit_logistic(x, y, PENALTIES[3:], tol=TIGHT, max_iter=2)
    assert not np.asarray(fit.converged).any()
    assert "9 of 9 heads" in caplog.text


@pytest.mark.parametrize("solve", [fit_logistic, fit_softmax])
def test_a_feature_that_is_not_finite_is_named(solve):
    x, y = exclusive_cohort(30, 5)
    x[17, 2] = np.nan
    with pytest.raises(NumericalError, match="17"):
        solve(x, y, PENALTIES)


def test_the_arguments_are_left_as_they_were():
    x, y = cohort(50, 10, unknown=0.2)
    before = x.copy(), y.copy()
    fit_logistic(x, y, PENALTIES, row_weights=np.arange(50)[None] < 30)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])
