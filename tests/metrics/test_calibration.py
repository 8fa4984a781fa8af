import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from hilum.metrics.calibration import (
    bins,
    calibration_error,
    calibration_in_the_large,
    calibration_line,
)
from hilum.metrics.calibration_intervals import reliability, wilson
from hilum.metrics.calibration_null import null_error, shared_chance
from hilum.metrics.resampled import draw

NAN = float("nan")


def films(
    seed: int, *, num: int = 1000, slope: float = 1.0, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities whose logits are right but for a slope and a shift."""
    rng = np.random.default_rng(seed)
    right = rng.normal(-1, 1.2, num)
    return (rng.random(num) < expit(right)).astype(float), expit((right - shift) / slope)


def patients_alike(rng: np.random.Generator, *, patients: int, images: int) -> tuple[np.ndarray, ...]:
    """A perfectly calibrated model; patients keep their probability and, half of them, their label."""
    owner = np.repeat(np.arange(patients), images)
    value = expit(rng.normal(-0.5, 1, patients))[owner]
    same = (rng.random(patients) < 0.5)[owner]
    number = np.where(same, rng.random(patients)[owner], rng.random(len(owner)))
    return (number < value).astype(float), value, owner


@pytest.mark.parametrize(("equal", "theirs"), [("mass", "quantile"), ("width", "uniform")])
def test_the_calibration_error_is_the_weighted_gap_of_scikit_learns_curve(equal, theirs):
    truth, value = films(0)
    place = bins(value, equal=equal)
    share, mean = calibration_curve(truth, value, n_bins=10, strategy=theirs)
    sizes = np.bincount(place, minlength=10)
    expected = (sizes[sizes > 0] / len(value)) @ np.abs(share - mean)
    assert calibration_error(truth, value, equal=equal) == pytest.approx(expected, abs=1e-12)
    assert np.ptp(sizes) == 0 or equal == "width"


def test_the_calibration_error_by_hand():
    truth, value = np.array([0, 1, 1, 1, NAN]), np.array([0.1, 0.3, 0.6, 0.8, 0.9])
    # Bins {0.1, 0.3} and {0.6, 0.8}: |0.2 - 0.5| and |0.7 - 1|, half of the films each.
    for equal in ("mass", "width"):
        assert calibration_error(truth, value, num=2, equal=equal) == pytest.approx(0.3)
    assert np.isnan(calibration_error(np.array([NAN]), np.array([0.5])))


def test_equal_probabilities_share_a_bin_in_any_order():
    value = np.random.default_rng(0).random(500).round(1)
    place = bins(value)
    assert all(len(set(place[value == level])) == 1 for level in set(value))
    order = np.random.default_rng(1).permutation(500)
    np.testing.assert_array_equal(bins(value[order]), place[order])
    assert len(set(bins(np.full(7, 0.2)))) == 1


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (0.6, 0.0), (2.0, -0.7), (1.0, 1.5)])
def test_slope_and_intercept_are_those_of_scikit_learn_without_a_penalty(slope, shift):
    for seed in range(3):
        truth, value = films(seed, slope=slope, shift=shift)
        theirs = LogisticRegression(C=np.inf, tol=1e-12, solver="newton-cholesky").fit(
            logit(value)[:, None], truth
        )
        expected = (theirs.intercept_[0], theirs.coef_[0, 0])
        assert calibration_line(truth, value) == pytest.approx(expected, abs=1e-6)


def test_the_intercept_at_slope_1_makes_the_mean_the_prevalence():
    for seed in range(5):
        truth, value = films(seed, shift=0.8)
        expected = brentq(lambda a: expit(logit(value) + a).mean() - truth.mean(), -9, 9)  # noqa: B023
        assert calibration_in_the_large(truth, value) == pytest.approx(expected, abs=1e-9)


def test_what_has_no_slope_is_undefined():
    value = np.array([0.1, 0.2, 0.6, 0.7])
    for labels in ([0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [NAN, NAN, NAN, 1]):
        assert np.isnan(calibration_line(np.array(labels), value)).all()
    assert np.isnan(calibration_line(np.array([0.0, 1, 0, 1]), np.full(4, 0.5))).all()
    assert np.isnan(calibration_in_the_large(np.zeros(4), value))
    # Certain probabilities have a logit too.
    assert np.isfinite(calibration_line(np.array([0, 1, 0, 1.0]), np.array([0.0, 0.3, 1.0, 1.0]))).all()


def test_the_null_is_the_error_of_labels_drawn_from_the_probabilities():
    truth, value = films(1, num=400)
    (null,) = null_error(truth[:, None], value[:, None], patients=np.arange(400), seed=3)
    rng = np.random.default_rng(0)
    slow = [calibration_error((rng.random(400) < value).astype(float), value) for _ in range(2000)]
    assert null.mean == pytest.approx(np.mean(slow), rel=0.03)
    assert null.high == pytest.approx(np.quantile(slow, 0.95), rel=0.04)
    assert null.shared == 0


def test_the_null_shrinks_as_films_become_many():
    means = [
        null_error(*(a[:, None] for a in films(2, num=num)), patients=np.arange(num))[0].mean
        for num in (100, 1600)
    ]
    assert means[0] / means[1] == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("images", [1, 4, 10])
def test_one_calibrated_model_in_twenty_is_above_the_null(images):
    rng = np.random.default_rng(images)
    above = 0
    for _ in range(200):
        truth, value, owner = patients_alike(rng, patients=120, images=images)
        (null,) = null_error(truth[:, None], value[:, None], patients=owner, simulations=100)
        above += calibration_error(truth, value) > null.high
    assert above / 200 == pytest.approx(0.05, abs=0.04)


def test_the_shared_chance_is_found():
    truth, value, owner = patients_alike(np.random.default_rng(0), patients=3000, images=4)
    assert shared_chance(truth, value, owner, place=bins(value)) == pytest.approx(0.5, abs=0.05)
    alone = (np.random.default_rng(1).random(len(value)) < value).astype(float)
    assert shared_chance(alone, value, owner, place=bins(value)) < 0.05
    assert shared_chance(alone, value, np.arange(len(value)), place=bins(value)) == 0


def test_a_null_ignores_unknown_labels_and_is_none_without_any():
    truth, value = films(3, num=300)
    some = np.r_[truth, np.full(50, NAN)]
    values = np.r_[value, np.full(50, 0.99)]
    (null, none) = null_error(
        np.stack([some, np.full(350, NAN)], axis=1), np.stack([values] * 2, axis=1), patients=np.arange(350)
    )
    (alone,) = null_error(truth[:, None], value[:, None], patients=np.arange(300))
    assert none is None
    assert null.mean == pytest.approx(alone.mean, rel=0.05)


def test_estimates_are_the_metrics_and_intervals_those_of_a_bootstrap_that_fits_anew():
    truth, value = films(4, num=600, slope=0.7)
    owner = np.arange(600) // 3
    (found,) = reliability(
        truth[:, None], value[:, None], patients=owner, findings=["x"], replicates=256, seed=1
    )
    brier, slope, intercept = found.estimates
    assert brier.value == pytest.approx(brier_score_loss(truth, value))
    assert slope.value == calibration_line(truth, value)[1]
    assert intercept.value == calibration_in_the_large(truth, value)
    anew = []
    for chunk in range(4):
        for times in draw(200, chunk, seed=1).T.astype(int):
            rows = np.repeat(np.arange(600), times[owner])
            anew.append(
                (
                    brier_score_loss(truth[rows], value[rows]),
                    calibration_line(truth[rows], value[rows])[1],
                    calibration_in_the_large(truth[rows], value[rows]),
                )
            )
    edges = np.quantile(anew, [0.025, 0.975], axis=0)
    np.testing.assert_allclose((brier.low, brier.high), edges[:, 0], atol=1e-12)
    width = edges[1] - edges[0]
    np.testing.assert_allclose((slope.low, slope.high), edges[:, 1], atol=0.1 * width[1])
    np.testing.assert_allclose((intercept.low, intercept.high), edges[:, 2], atol=0.1 * width[2])
    assert (slope.images, slope.patients, slope.positives) == (600, 200, truth.sum())


def test_bins_hold_all_films_and_their_intervals_are_of_patients():
    truth, value = films(5, num=500)
    owner = np.arange(500) // 5
    (found,) = reliability(
        truth[:, None], value[:, None], patients=owner, findings=["x"], replicates=200, seed=0
    )
    assert sum(b.images for b in found.bins) == 500
    for number, part in enumerate(found.bins):
        inside = bins(value) == number
        assert part.share == truth[inside].mean()
        assert part.probability == pytest.approx(value[inside].mean())
        assert part.patients == len(set(owner[inside]))
        assert part.low <= part.share <= part.high
        assert part.low < part.high


def test_a_bin_that_agrees_has_wilsons_interval():
    truth, value = np.zeros(40), np.linspace(0.01, 0.4, 40)
    (found,) = reliability(
        truth[:, None], value[:, None], patients=np.arange(40), findings=["x"], replicates=50, seed=0, num=2
    )
    assert all((b.low, b.high) == wilson(0.0, 20, level=0.95) for b in found.bins)
    brier, slope, intercept = found.estimates
    assert brier.value == pytest.approx((value**2).mean())
    assert (slope.value, slope.note) == (None, "undefined: no positives among 40 known labels")
    assert intercept.value is None


def test_wilson_is_the_published_interval():
    # Newcombe, Statistics in Medicine 17, 857 (1998), table I: 81 of 263 and 15 of 148.
    assert wilson(81 / 263, 263, level=0.95) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15 / 148, 148, level=0.95) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0.0, 20, level=0.95) == pytest.approx((0.0, 0.1611), abs=5e-5)


@pytest.mark.slow
@pytest.mark.parametrize("images", [1, 4])
def test_95_percent_of_intervals_hold_the_slope(images):
    held, rng = np.zeros(2), np.random.default_rng(images)
    for study in range(500):
        truth, value, owner = patients_alike(rng, patients=200, images=images)
        (found,) = reliability(
            truth[:, None], value[:, None], patients=owner, findings=["x"], replicates=512, seed=study
        )
        for place, (estimate, right) in enumerate(zip(found.estimates[1:], (1, 0), strict=True)):
            held[place] += estimate.low <= right <= estimate.high
    assert held / 500 == pytest.approx(0.95, abs=0.03)
