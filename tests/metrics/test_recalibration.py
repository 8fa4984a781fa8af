import numpy as np
import pytest
from scipy.special import expit, logit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from hilum.metrics.calibration import calibration_in_the_large, calibration_line
from hilum.metrics.classification import auroc
from hilum.metrics.recalibration import FITS, Isotonic, Platt, SoftmaxTemperature, Temperature


def films(seed: int, *, num: int = 400, decimals: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities that are too sure and too high."""
    rng = np.random.default_rng(seed)
    right = rng.normal(-1, 1.2, num)
    return (rng.random(num) < expit(right)).astype(float), expit(2 * right + 1).round(decimals)


class Given(ClassifierMixin, BaseEstimator):
    """A model whose decision function is its input."""

    def fit(self, x, y):
        self.classes_ = np.array([0, 1])
        self.fitted_ = True
        return self

    def decision_function(self, x):
        return x[:, 0]

    def predict(self, x):
        return (x[:, 0] > 0).astype(int)


def test_platt_is_scikit_learns_sigmoid():
    for seed in range(3):
        truth, value = films(seed)
        x = logit(value)[:, None]
        theirs = CalibratedClassifierCV(FrozenEstimator(Given().fit(x, truth)), method="sigmoid")
        expected = theirs.fit(x, truth).predict_proba(x)[:, 1]
        np.testing.assert_allclose(Platt.fit(truth, value)(value), expected, atol=1e-4)


@pytest.mark.parametrize("decimals", [1, 2, 9])
def test_isotonic_is_scikit_learns_between_the_steps_and_beyond_them(decimals):
    for seed in range(5):
        truth, value = films(seed, decimals=decimals)
        theirs = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(value, truth)
        ask = np.r_[0.0, 1.0, value, np.random.default_rng(seed).random(200)]
        np.testing.assert_allclose(Isotonic.fit(truth, value)(ask), theirs.predict(ask), atol=1e-9)


def test_a_temperature_is_the_inverse_of_a_slope_through_the_origin():
    for seed in range(5):
        truth, value = films(seed)
        theirs = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-12).fit(
            logit(value)[:, None], truth
        )
        assert Temperature.fit(truth, value).temperature == pytest.approx(1 / theirs.coef_[0, 0], rel=1e-4)


def test_a_softmax_temperature_undoes_the_one_that_was_put_in():
    rng = np.random.default_rng(0)
    right = rng.normal(size=(4000, 3)) * 1.5
    truth = np.stack([rng.multinomial(1, row) for row in softmax(right, axis=1)]).astype(float)
    given = softmax(2.5 * right, axis=1)
    fitted = SoftmaxTemperature.fit(truth, given)
    assert fitted.temperature == pytest.approx(2.5, rel=0.05)

    def loss(t: float) -> float:
        return -np.sum(truth * np.log(softmax(np.log(given) / t, axis=1)))

    grid = np.linspace(2, 3, 1001)
    assert fitted.temperature == pytest.approx(grid[np.argmin([loss(t) for t in grid])], abs=2e-3)
    np.testing.assert_allclose(fitted(given).sum(axis=1), 1)
    assert (fitted(given).argmax(axis=1) == given.argmax(axis=1)).all()


def test_a_recalibrated_model_is_calibrated_on_its_own_films():
    truth, value = films(1, num=4000)
    platt = Platt.fit(truth, value)(value)
    assert calibration_line(truth, platt) == pytest.approx((0, 1), abs=0.01)
    isotonic = Isotonic.fit(truth, value)(value)
    assert isotonic.mean() == pytest.approx(truth.mean())
    assert calibration_in_the_large(truth, platt) == pytest.approx(0, abs=0.01)


def test_order_is_kept_by_temperature_and_platt():
    truth, value = films(2)
    for name in ("temperature", "platt"):
        assert auroc(truth, FITS[name](truth, value)(value)) == pytest.approx(auroc(truth, value))


@pytest.mark.parametrize("name", list(FITS))
def test_extreme_validation_splits_still_give_probabilities(name):
    for truth, value in (
        ([0.0, 1], [0.2, 0.8]),
        ([0.0, 1], [0.8, 0.2]),
        ([0.0, 1, 0], [0.5, 0.5, 0.5]),
        ([0.0, 1, 1], [0.0, 1.0, 0.0]),
    ):
        curve = FITS[name](np.array(truth), np.array(value))
        asked = curve(np.linspace(0, 1, 101))
        assert np.isfinite(asked).all()
        assert asked.min() >= 0
        assert asked.max() <= 1
