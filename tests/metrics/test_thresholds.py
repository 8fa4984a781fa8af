import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from hilum.metrics.thresholds import Criterion

NAN = float("nan")


def films(seed: int, *, num: int = 60, decimals: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = (rng.random(num) < 0.3).astype(float)
    return truth, (rng.random(num) * 0.7 + 0.3 * truth).round(decimals)


def rates(truth, score, cut) -> tuple[float, float]:
    called = score >= cut
    return recall_score(truth, called), recall_score(truth, called, pos_label=0)


def rates_at_all(truth, score) -> dict[float, tuple[float, float]]:
    return {cut: rates(truth, score, cut) for cut in set(score)}


@pytest.mark.parametrize("decimals", [1, 12])
def test_f1_and_youden_are_the_highest_of_the_best_of_all_scores(decimals):
    for seed in range(15):
        truth, score = films(seed, decimals=decimals)
        for name, gain in (
            ("f1", lambda cut: f1_score(truth, score >= cut)),  # noqa: B023
            ("youden", lambda cut: sum(rates(truth, score, cut))),  # noqa: B023
        ):
            gains = {cut: gain(cut) for cut in set(score)}
            best = max(gains.values())
            expected = max(cut for cut, value in gains.items() if value > best - 1e-12)
            assert Criterion.parse(name).threshold(truth, score) == expected


@pytest.mark.parametrize("target", [0.5, 0.8, 0.9, 0.95, 1 - 1e-9])
@pytest.mark.parametrize("decimals", [1, 12])
def test_a_target_is_reached_at_the_least_cost(target, decimals):
    for seed in range(10):
        truth, score = films(seed, decimals=decimals)
        known = rates_at_all(truth, score)
        for place, name in enumerate(("sensitivity", "specificity")):
            allowed = [cut for cut in known if known[cut][place] >= target]
            found = Criterion(name, target).threshold(truth, score)
            if not allowed:
                assert np.isnan(found)
                continue
            best = max(known[cut][1 - place] for cut in allowed)
            assert found == max(cut for cut in allowed if known[cut][1 - place] == best)


def test_a_target_that_is_reached_exactly_counts():
    truth, score = np.repeat([1.0, 0.0], 10), np.r_[np.arange(11, 21), np.arange(1, 11)] / 20
    assert Criterion("sensitivity", 0.9).threshold(truth, score) == 12 / 20
    assert Criterion("specificity", 0.9).threshold(truth, score) == 11 / 20
    assert Criterion("specificity", 0.7).threshold(truth, score) == 11 / 20


def test_no_threshold_without_both_classes_or_beyond_all_scores():
    score = np.array([0.1, 0.5, 0.5])
    for name in ("youden", "f1", "sensitivity=0.9", "specificity=0.9"):
        for labels in ([0, 0, 0], [1, 1, 1], [NAN, NAN, 1]):
            assert np.isnan(Criterion.parse(name).threshold(np.array(labels, float), score))
    assert np.isnan(Criterion("specificity", 0.9).threshold(np.array([0.0, 1, 0]), score))


def test_unknown_labels_weigh_nothing():
    truth, score = films(0)
    more = np.r_[truth, NAN, NAN], np.r_[score, 0.9, 0.1]
    for name in ("youden", "f1", "sensitivity=0.9", "specificity=0.9"):
        assert Criterion.parse(name).threshold(*more) == Criterion.parse(name).threshold(truth, score)
