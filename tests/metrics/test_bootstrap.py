import numpy as np
import pytest
from sklearn import metrics as sk

from hilum.errors import ConfigError, RecordsError
from hilum.metrics.bootstrap import METRICS, bootstrap, bootstrap_values, difference, multiclass_accuracy
from hilum.metrics.resample import BLOCK, Counts, draw, number

CUT = np.array([0.6, 0.4, 0.5])
SLOW = {  # of truth, probability, threshold, weights
    "auroc": lambda t, s, c, w: sk.roc_auc_score(t, s, sample_weight=w),
    "average_precision": lambda t, s, c, w: sk.average_precision_score(t, s, sample_weight=w),
    "accuracy": lambda t, s, c, w: sk.accuracy_score(t, s >= c, sample_weight=w),
    "sensitivity": lambda t, s, c, w: sk.recall_score(t, s >= c, sample_weight=w),
    "specificity": lambda t, s, c, w: sk.recall_score(1 - t, s < c, sample_weight=w),
    "brier": lambda t, s, c, w: sk.brier_score_loss(t, s, sample_weight=w),
}


def case(seed=0, *, num=400, patients=150):
    """Three findings of clustered radiographs; the first score has ties, a fifth of the labels is unknown."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((num, 3)) < 0.3).astype(float)
    score = 1 / (1 + np.exp(-rng.normal(size=(num, 3)) - truth))
    score[:, 0] = np.round(score[:, 0], 1)
    truth[rng.random(truth.shape) < 0.2] = np.nan
    owner = np.array([f"p{n}" for n in rng.integers(0, patients, num)])
    return truth, score, owner


@pytest.mark.parametrize("metric", METRICS)
def test_every_replicate_is_the_weighted_metric_of_the_same_patients(metric):
    truth, score, owner = case()
    fast = bootstrap_values(metric, truth, score, patients=owner, replicates=40, seed=3, thresholds=CUT)
    numbers = number(owner)
    weights = np.concatenate([draw(numbers.max() + 1, block, seed=3) for block in range(2)])[:40, numbers]
    for row in range(40):
        for f in range(3):
            known = ~np.isnan(truth[:, f]) & (weights[row] > 0)
            slow = SLOW[metric](truth[known, f], score[known, f], CUT[f], weights[row, known])
            assert fast[row, f] == pytest.approx(slow, abs=1e-12)


@pytest.mark.parametrize("metric", ["auroc", "average_precision"])
def test_weights_are_repetitions(metric):
    truth, score, owner = case(1)
    fast = bootstrap_values(metric, truth, score, patients=owner, replicates=1, seed=0)
    numbers = number(owner)
    times = draw(numbers.max() + 1, 0, seed=0)[0][numbers]
    repeated = np.repeat(np.arange(len(truth)), times)
    labels, scores = truth[repeated, 1], score[repeated, 1]
    known = ~np.isnan(labels)
    function = {"auroc": sk.roc_auc_score, "average_precision": sk.average_precision_score}[metric]
    assert fast[0, 1] == pytest.approx(function(labels[known], scores[known]), abs=1e-12)


def test_a_replicate_draws_as_many_patients_as_there_are():
    counts = draw(57, 2, seed=0)
    assert counts.shape == (BLOCK, 57)
    assert (counts.sum(1) == 57).all()


@pytest.mark.parametrize("most", [1, 5_000, 10**9])
def test_packed_counts_sum_exactly_however_large(most):
    counts = np.random.default_rng(0).integers(0, 50, (7, 40))
    packed = Counts.pack(counts, images=most)
    owner, starts = np.random.default_rng(1).integers(0, 40, 300), np.array([0, 10, 11, 200])
    assert packed.bits == {1: 16, 5_000: 32, 10**9: 64}[most]
    np.testing.assert_array_equal(packed.each, counts)
    np.testing.assert_array_equal(
        packed.sums(owner, starts), np.add.reduceat(counts[:, owner], starts, axis=1)
    )


def test_sums_beyond_sixteen_bits_are_exact():
    counts = np.full((3, 2), 40_000)
    packed = Counts.pack(counts, images=1)
    np.testing.assert_array_equal(packed.sums(np.array([0, 1]), np.array([0])), np.full((3, 1), 80_000))


def test_replicates_depend_on_neither_threads_nor_their_number():
    truth, score, owner = case()
    one, two, fewer = (
        bootstrap_values("auroc", truth, score, patients=owner, replicates=r, seed=5, workers=w)
        for r, w in ((90, 1), (90, 2), (33, 2))
    )
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one[:33], fewer)
    assert not np.array_equal(
        one, bootstrap_values("auroc", truth, score, patients=owner, replicates=90, seed=6)
    )


def test_an_estimate_counts_what_stands_behind_it():
    truth, score, owner = case()
    found = bootstrap("auroc", truth, score, patients=owner, findings=["A", "B", "C"], replicates=200)
    assert [e.finding for e in found] == ["A", "B", "C", "macro"]
    for f, estimate in enumerate(found[:3]):
        known = ~np.isnan(truth[:, f])
        assert estimate.value == pytest.approx(sk.roc_auc_score(truth[known, f], score[known, f]))
        assert estimate.low < estimate.value < estimate.high
        assert (estimate.images, estimate.patients) == (known.sum(), len(set(owner[known])))
        assert estimate.positives == (truth[known, f] == 1).sum()
        assert estimate.note == ""
    assert found[3].value == pytest.approx(np.mean([e.value for e in found[:3]]))


def test_the_interval_holds_the_percentiles_of_the_replicates():
    truth, score, owner = case()
    drawn = bootstrap_values("auroc", truth, score, patients=owner, replicates=300)
    found = bootstrap(
        "auroc", truth, score, patients=owner, findings=["A", "B", "C"], replicates=300, level=0.9
    )
    assert (found[1].low, found[1].high) == tuple(np.quantile(drawn[:, 1], [0.05, 0.95]))
    assert (found[3].low, found[3].high) == pytest.approx(np.quantile(drawn.mean(1), [0.05, 0.95]))


def test_a_finding_of_one_class_is_undefined_and_not_averaged():
    truth, score, owner = case()
    truth[:, 1] = 0
    truth[:, 2] = np.nan
    a, b, c, macro = bootstrap("auroc", truth, score, patients=owner, findings=["A", "B", "C"], replicates=50)
    assert (b.value, b.low, b.high) == (None, None, None)
    assert b.note == "n/a: 0 positives of 400 known labels"
    assert c.note == "n/a: 0 positives of 0 known labels"
    assert (macro.value, macro.low) == (a.value, a.low)
    assert macro.note == "without B, C (undefined)"


def test_one_class_leaves_accuracy_defined():
    truth, score, owner = np.zeros((20, 1)), np.linspace(0, 1, 20)[:, None], np.arange(20)
    (e,) = bootstrap("accuracy", truth, score, patients=owner, findings=["A"], thresholds=np.array([0.5]))
    assert (e.value, e.note) == (0.5, "")


def test_few_positives_and_lost_resamples_are_said():
    truth = np.zeros((60, 1))
    truth[:2] = 1
    score = np.random.default_rng(0).random((60, 1))
    (e,) = bootstrap("auroc", truth, score, patients=np.arange(60), findings=["A"])
    assert e.note.startswith("only 2 positives; undefined in 1")  # exp(-2) = 13.5 % of resamples have neither
    assert e.low is not None
    (e,) = bootstrap("auroc", truth, score, patients=np.arange(60) // 20, findings=["A"])
    assert e.value is not None
    (e,) = bootstrap("auroc", truth, score, patients=np.zeros(60), findings=["A"])
    assert (e.low, e.high) == (None, None)
    assert e.note == "only 2 positives; no interval: one patient"


def test_a_perfect_score_says_that_its_interval_is_no_measure():
    truth = np.repeat([[0.0], [1.0]], 20, axis=0)
    (e,) = bootstrap("auroc", truth, truth, patients=np.arange(40), findings=["A"], replicates=100)
    assert (e.value, e.low, e.high) == (1.0, 1.0, 1.0)
    assert "no measure of certainty" in e.note


def test_the_difference_is_of_the_same_resamples():
    truth, score, owner = case()
    other = np.random.default_rng(9).random(score.shape)
    found = difference("auroc", truth, score, other, patients=owner, findings=["A", "B", "C"], replicates=300)
    ours, theirs = (
        bootstrap_values("auroc", truth, s, patients=owner, replicates=300) for s in (score, other)
    )
    assert (found[0].low, found[0].high) == pytest.approx(
        np.quantile(ours[:, 0] - theirs[:, 0], [0.025, 0.975])
    )
    assert found[3].finding == "macro"
    rarer = min(((ours - theirs).mean(1) <= 0).sum(), ((ours - theirs).mean(1) >= 0).sum())
    assert found[3].p == pytest.approx(2 * (rarer + 1) / 301)


def test_a_run_does_not_differ_from_itself():
    truth, score, owner = case()
    for e in difference(
        "auroc", truth, score, score, patients=owner, findings=["A", "B", "C"], replicates=60
    ):
        assert (e.value, e.low, e.high, e.p) == (0.0, 0.0, 0.0, 1.0)


def simulated(seed, *, each, num=120):
    """Radiographs whose score and label share an effect of the patient, so that they are not independent."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(num), each)
    effect = rng.normal(size=num)[owner]
    truth = (0.7 * effect + rng.normal(size=len(owner)) > 0.5).astype(float)
    score = truth + 0.7 * rng.normal(size=num)[owner] + rng.normal(size=len(owner))
    return truth[:, None], score[:, None], owner


def coverage(simulations, *, each, owner=None):
    """How often the interval holds the truth: a difference of positive and negative scores of N(1, 2 * 1.49)."""
    aim = 0.5 * (1 + np.vectorize(__import__("math").erf)(1 / np.sqrt(2 * 1.49) / np.sqrt(2)))
    hits = 0
    for seed in range(simulations):
        truth, score, patients = simulated(seed, each=each)
        groups = patients if owner is None else np.arange(len(patients))
        (e,) = bootstrap("auroc", truth, score, patients=groups, findings=["A"], replicates=400, workers=1)
        hits += e.low <= aim <= e.high
    return hits / simulations


def test_intervals_over_patients_cover_and_those_over_images_do_not():
    assert coverage(300, each=6) == pytest.approx(0.95, abs=0.03)
    assert coverage(300, each=6, owner="image") < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("each", [1, 4, 10])
def test_intervals_cover_in_95_of_100(each):
    assert coverage(1500, each=each) == pytest.approx(0.95, abs=0.02)


def test_under_no_difference_p_is_small_as_often_as_it_says():
    small = 0
    for seed in range(200):
        truth, score, patients = simulated(seed, each=3, num=80)
        noise = np.random.default_rng(1000 + seed).normal(size=(2, *score.shape))
        (e,) = difference(
            "auroc", truth, score + noise[0], score + noise[1], patients=patients, findings=["A"],
            replicates=300, workers=1,
        )  # fmt: skip
        small += e.p <= 0.05
    assert 0.01 <= small / 200 <= 0.1


def test_multiclass_accuracy_is_of_the_highest_score():
    rng = np.random.default_rng(0)
    labels, score = rng.integers(0, 3, 90), rng.random((90, 3))
    truth = np.eye(3)[labels]
    truth[0] = np.nan
    estimate = multiclass_accuracy(truth, score, patients=np.arange(90), replicates=100)
    assert estimate.value == pytest.approx(sk.accuracy_score(labels[1:], score[1:].argmax(1)))
    assert (estimate.images, estimate.finding) == (89, "all")
    assert estimate.low < estimate.value < estimate.high


def test_what_does_not_fit_is_refused():
    truth, score, owner = case()
    names = {"patients": owner, "findings": ["A", "B", "C"]}
    with pytest.raises(ConfigError, match="auroc, average_precision"):
        bootstrap("auc", truth, score, **names)
    with pytest.raises(ConfigError, match="threshold"):
        bootstrap("accuracy", truth, score, **names)
    with pytest.raises(ConfigError, match="replicates"):
        bootstrap("auroc", truth, score, **names, replicates=1)
    with pytest.raises(RecordsError, match="Brier"):
        bootstrap("brier", truth, score * 2, **names)
    score[~np.isnan(truth[:, 1]).nonzero()[0][0], 1] = 0.5
    row = int((~np.isnan(truth[:, 1])).nonzero()[0][0])
    score[row, 1] = np.inf
    with pytest.raises(RecordsError, match=f"row {row}, column 1"):
        bootstrap("auroc", truth, score, **names)
