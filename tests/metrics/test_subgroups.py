from math import erfc, sqrt

import numpy as np
import pytest
from sklearn import metrics as sk

from hilum.metrics.resampled import draw
from hilum.metrics.subgroups import METRICS, MINIMUM, Grouped, each_finding, score_groups

NAMES = ("g0", "g1", "g2")


def films(
    rng: np.random.Generator,
    *,
    patients: int = 120,
    most: int = 3,
    shares: tuple[float, ...] = (0.3, 0.5, 0.2),
    strength: float = 1.2,
    alike: float = 0.4,
    mixed: bool = False,
    worse: float = 0.0,
) -> tuple[np.ndarray, ...]:
    """Labels, scores, owners and groups; films of a patient are alike, and the first group may be worse."""
    owner = np.repeat(np.arange(patients), rng.integers(1, most + 1, patients))
    size = len(owner)
    group = rng.choice(len(shares), size=size if mixed else patients, p=shares)
    group = group if mixed else group[owner]
    apart = sqrt(1 - alike**2)
    truth = (alike * rng.normal(size=patients)[owner] + apart * rng.normal(size=size) > 0.5).astype(float)
    noise = alike * rng.normal(size=patients)[owner] + apart * rng.normal(size=size)
    score = (strength - worse * (group == 0)) * truth + noise
    return truth, score, owner, np.array(NAMES, object)[group]


def cells(metric: str, found: tuple[np.ndarray, ...], *, cut: float = 0.6) -> Grouped:
    truth, score, owner, group = found
    return Grouped(metric, "Edema", truth, score if metric == "auroc" else (score >= cut) * 1.0, owner, group)


def slow(metric: str, truth: np.ndarray, score: np.ndarray) -> float:
    if metric == "auroc":
        return sk.roc_auc_score(truth, score)
    return sk.recall_score(truth, score, pos_label=int(metric == "sensitivity"))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("mixed", [False, True])
def test_scores_and_differences_are_those_of_loops_over_the_drawn_radiographs(metric, mixed):
    truth, _, owner, group = found = films(np.random.default_rng(1), mixed=mixed)
    some = cells(metric, found)
    scores, differences, (gap,) = score_groups(some, NAMES, replicates=40, seed=3)
    times = draw(120, 0, seed=3)[owner].astype(int)  # a patient has the same times in every group

    def replicates(rows: np.ndarray) -> np.ndarray:
        drawn = [np.repeat(np.flatnonzero(rows), times[rows, r]) for r in range(40)]
        return np.array([slow(metric, truth[one], some.score[one]) for one in drawn])

    values = {name: slow(metric, truth[group == name], some.score[group == name]) for name in NAMES}
    for one in scores:
        rows = group == one.group
        assert one.value == pytest.approx(values[one.group])
        np.testing.assert_allclose((one.low, one.high), np.quantile(replicates(rows), [0.025, 0.975]))
        assert (one.images, one.patients) == (rows.sum(), len(set(owner[rows])))
        assert (one.positives, one.negatives) == ((truth[rows] == 1).sum(), (truth[rows] == 0).sum())
    for one in differences:
        rows, rest = group == one.group, group != one.group
        expected = slow(metric, truth[rows], some.score[rows]) - slow(metric, truth[rest], some.score[rest])
        assert (one.value, one.against) == (pytest.approx(expected), "the rest")
        error = slow_error(some, rows, rest, replicates)
        step = slow_step(some, rows) + slow_step(some, rest)
        assert one.p == pytest.approx(erfc(max(0, abs(expected) - step) / error / sqrt(2)))
        assert one.high - one.low == pytest.approx(2 * (1.959964 * error + step), rel=1e-5)
    assert gap.value == pytest.approx(max(values.values()) - min(values.values()))
    assert (values[gap.highest], values[gap.lowest]) == (max(values.values()), min(values.values()))
    assert 0 <= gap.low <= gap.value <= gap.high <= 1


def slow_error(some: Grouped, rows: np.ndarray, rest: np.ndarray, replicates) -> float:
    """The variance of the difference, written out film by film."""
    everybody = np.ones(len(some.truth), bool)

    def films_of(label: int, part: np.ndarray) -> np.ndarray:
        return np.flatnonzero(part & (some.truth == label))

    def independent(part: np.ndarray) -> float:
        if some.metric != "auroc":
            p = slow(some.metric, some.truth, some.score)
            return p * (1 - p) / len(films_of(int(some.metric == "sensitivity"), part))
        total = 0.0
        for label in (0, 1):
            placed = []
            for i in films_of(label, everybody):
                others = films_of(1 - label, everybody)
                wins = [
                    (some.score[i] > some.score[j]) + 0.5 * (some.score[i] == some.score[j]) for j in others
                ]
                placed.append(np.mean(wins))
            total += np.var(placed, ddof=1) / len(films_of(label, part))
        return total

    scale = np.var(replicates(everybody)) / independent(everybody)
    one, other = replicates(rows), replicates(rest)
    seen = np.var(one - other)
    shared = set(some.patients[rows]) & set(some.patients[rest])
    joint = seen / (np.var(one) + np.var(other)) if shared else 1.0
    labels = {"auroc": (0, 1), "sensitivity": (1,), "specificity": (0,)}[some.metric]
    few = min(len(set(some.patients[films_of(label, part)])) for label in labels for part in (rows, rest))
    weight = few / (few + MINIMUM)
    return sqrt(weight * seen + (1 - weight) * joint * scale * (independent(rows) + independent(rest)))


def slow_step(some: Grouped, part: np.ndarray) -> float:
    if some.metric == "auroc":
        return 0.0
    p, num = (
        slow(some.metric, some.truth, some.score),
        (some.truth[part] == (some.metric == "sensitivity")).sum(),
    )
    return 0.5 / num if num * min(p, 1 - p) < 5 else 0.0


def test_two_groups_are_compared_once():
    truth, score, owner, group = films(np.random.default_rng(2))
    two = np.where(group == "g2", "g1", group)
    _, differences, gaps = score_groups(
        cells("auroc", (truth, score, owner, two)), NAMES[:2], replicates=50, seed=0
    )
    assert [(d.group, d.against) for d in differences] == [("g0", "g1")]
    assert gaps[0].value == pytest.approx(abs(differences[0].value))
    assert gaps[0].p == pytest.approx(differences[0].p, abs=0.02)


def test_a_group_with_too_few_patients_of_a_class_is_counted_and_not_scored():
    rng = np.random.default_rng(3)
    truth, score, owner, group = films(rng, patients=200)
    small = np.flatnonzero(group == "g2")
    truth[small] = 0
    truth[small[:9]] = 1
    owner[small] = 1000 + np.arange(len(small))
    for metric in METRICS:
        scores, differences, gaps = score_groups(
            cells(metric, (truth, score, owner, group)), NAMES, replicates=20, seed=0
        )
        last = scores[-1]
        assert (last.group, last.images, last.positives) == ("g2", len(small), 9)
        if metric == "specificity":
            assert last.value is not None
        else:
            assert (last.value, last.low) == (None, None)
            assert last.note == "too few patients: 9 with a positive film"
            assert "g2" not in {d.group for d in differences}
            assert "g2" not in (gaps[0].highest, gaps[0].lowest)


def test_ten_films_of_one_patient_are_not_ten_patients():
    truth, score, owner, group = films(np.random.default_rng(4), patients=200)
    owner[group == "g2"] = 5
    scores, _, _ = score_groups(cells("auroc", (truth, score, owner, group)), NAMES, replicates=20, seed=0)
    assert scores[-1].note == "too few patients: 1 with a positive film and 1 with a negative film"


def test_ten_of_ten_found_is_no_evidence_against_four_of_five():
    """Its bootstrap variance is 0: a Wald test would be sure. Fisher's exact p here is 0.21."""
    truth = np.ones(210)
    decided = np.r_[np.ones(10), np.tile([1, 1, 1, 1, 0], 40)]
    group = np.array(["small"] * 10 + ["large"] * 200, object)
    found = Grouped("sensitivity", "Edema", truth, decided, np.arange(210), group)
    _, (one,), (gap,) = score_groups(found, ("large", "small"), replicates=500, seed=0)
    assert one.value == pytest.approx(-0.2)
    assert one.p > 0.05
    assert one.low < 0 < one.high
    assert gap.p > 0.05


def test_unknown_labels_decisions_without_threshold_and_films_in_no_group_do_not_count():
    truth, score, owner, group = films(np.random.default_rng(5), patients=200)
    without = truth.copy()
    without[::5] = np.nan
    nobody = group.copy()
    nobody[1::5] = ""
    scores, _, _ = score_groups(
        cells("sensitivity", (without, score, owner, nobody)), NAMES, replicates=20, seed=0
    )
    for one in scores:
        rows = (nobody == one.group) & ~np.isnan(without)
        assert one.value == pytest.approx(slow("sensitivity", truth[rows], score[rows] >= 0.6))
    decided = np.full((len(truth), 1), np.nan)
    (none,) = each_finding(
        "sensitivity", truth[:, None], decided, patients=owner, group=group, findings=["Edema"]
    )
    scores, differences, gaps = score_groups(none, NAMES, replicates=20, seed=0)
    assert (differences, gaps) == ([], [])
    assert {(one.value, one.note) for one in scores} == {(None, "no threshold")}
    assert sum(one.images for one in scores) == len(truth)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [{"shares": (0.5, 0.5)}, {"shares": (0.12, 0.48, 0.4)}, {"shares": (0.5, 0.5), "mixed": True}]
)
def test_equal_groups_are_called_different_in_about_one_case_in_twenty(kind):
    rng = np.random.default_rng(11)
    names = NAMES[: len(kind["shares"])]
    alarms: dict[str, list[bool]] = {metric: [] for metric in METRICS}
    for repeat in range(200):
        found = films(rng, patients=220, **kind)
        for metric in METRICS:
            _, differences, _ = score_groups(cells(metric, found), names, replicates=64, seed=repeat)
            alarms[metric] += [one.p < 0.05 for one in differences]
    for metric, rates in alarms.items():
        assert 0.01 < np.mean(rates) < 0.095, metric
    assert 0.025 < np.mean([alarm for rates in alarms.values() for alarm in rates]) < 0.075


@pytest.mark.slow
def test_the_widest_of_equal_gaps_is_called_one_in_about_one_case_in_twenty():
    rng = np.random.default_rng(12)
    alarms = []
    for repeat in range(250):
        _, _, (gap,) = score_groups(
            cells("auroc", films(rng, patients=300, most=2)), NAMES, replicates=64, seed=repeat
        )
        alarms.append(gap.p < 0.05)
        assert (gap.p < 0.05) == (gap.low > 0) or abs(gap.p - 0.05) < 0.01
    assert 0.01 < np.mean(alarms) < 0.09


def test_equal_groups_are_seldom_called_different():
    """A small part of the simulations that are marked slow."""
    rng = np.random.default_rng(13)
    p = []
    for repeat in range(40):
        _, (one,), _ = score_groups(
            cells("auroc", films(rng, shares=(0.5, 0.5))), NAMES[:2], replicates=64, seed=repeat
        )
        p.append(one.p)
    assert np.mean(np.array(p) < 0.05) < 0.15
    assert 0.3 < np.median(p) < 0.7


def test_a_planted_difference_is_found_and_where_it_is():
    found = films(np.random.default_rng(6), patients=900, worse=0.9)
    _, differences, (gap,) = score_groups(cells("auroc", found), NAMES, replicates=200, seed=0)
    assert differences[0].group == "g0"
    assert differences[0].p < 0.001
    assert differences[0].high < 0
    assert (gap.lowest, gap.p < 0.001) == ("g0", True)
