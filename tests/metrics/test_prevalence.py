import numpy as np
import pytest

from hilum.metrics.bootstrap import bootstrap, bootstrap_values
from hilum.metrics.prevalence import at_prevalence, predictive_values

NAN = float("nan")


def films(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(60), 3)
    truth = (rng.random((180, 2)) < 0.4).astype(float)
    score = rng.random(truth.shape) * 0.7 + 0.3 * truth
    truth[rng.random(truth.shape) < 0.1] = NAN
    return truth, score, owner


SETTINGS = {"findings": ("a", "b"), "thresholds": np.array([0.5, 0.6]), "replicates": 90, "seed": 3}


def test_predictive_values_are_shares_of_a_population_with_that_prevalence():
    # 1,000,000 people, 2 % ill: 18,000 of 20,000 found, 196,000 of 980,000 called falsely.
    ppv, npv = predictive_values(np.array([0.9]), np.array([0.8]), prevalence=0.02)
    assert ppv[0] == pytest.approx(18_000 / (18_000 + 196_000))
    assert npv[0] == pytest.approx(784_000 / (784_000 + 2_000))


def test_at_the_films_own_prevalence_they_are_the_predictive_values():
    truth, score, owner = films(0)
    known = ~np.isnan(truth[:, 1])
    share = truth[known, 1].mean()
    found = at_prevalence(truth, score, patients=owner, prevalence={"b": share}, **SETTINGS)
    own = [bootstrap(m, truth, score, patients=owner, **SETTINGS)[1] for m in ("ppv", "npv")]
    assert [e.metric for e in found] == ["ppv_at_prevalence", "npv_at_prevalence"]
    for ours, theirs in zip(found, own, strict=True):
        assert ours.value == pytest.approx(theirs.value)
        assert (ours.finding, ours.images, ours.positives) == ("b", theirs.images, theirs.positives)


def test_every_replicate_obeys_bayes():
    truth, score, owner = films(1)
    found = at_prevalence(truth, score, patients=owner, prevalence={"a": 0.01}, **SETTINGS)
    settings = {k: SETTINGS[k] for k in ("thresholds", "replicates", "seed")}
    sens, spec = (
        bootstrap_values(m, truth, score, patients=owner, **settings)[:, 0]
        for m in ("sensitivity", "specificity")
    )
    ppv = 0.01 * sens / (0.01 * sens + 0.99 * (1 - spec))
    npv = 0.99 * spec / (0.99 * spec + 0.01 * (1 - sens))
    for estimate, drawn in zip(found, (ppv, npv), strict=True):
        assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


def test_without_a_class_or_a_threshold_they_are_undefined_with_the_reason():
    truth, score, owner = films(2)
    truth[:, 0] = 0
    settings = {**SETTINGS, "thresholds": np.array([0.5, NAN])}
    found = at_prevalence(truth, score, patients=owner, prevalence={"a": 0.1, "b": 0.1}, **settings)
    assert [e.value for e in found] == [None] * 4
    assert "no positives" in found[0].note
    assert "no threshold" in found[2].note
