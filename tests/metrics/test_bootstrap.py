import numpy as np
import pytest
from sklearn import metrics as sk

from hilum.errors import ConfigError, RecordsError
from hilum.metrics import resampled
from hilum.metrics.bootstrap import METRICS, bootstrap, bootstrap_all, bootstrap_values, difference
from hilum.metrics.resampled import CHUNK, draw
from hilum.metrics.summary import two_sided

NAN = float("nan")
CUT = 0.6
FINDINGS = ("Edema", "Effusion")


def slow(metric: str, truth: np.ndarray, score: np.ndarray) -> float:
    """The metric by scikit-learn, NaN where a class that it needs is missing."""
    if metric == "brier":
        return sk.brier_score_loss(truth, score) if len(set(truth)) == 2 else NAN
    if metric == "accuracy":
        return sk.accuracy_score(truth, score >= CUT)
    if metric == "sensitivity":
        return sk.recall_score(truth, score >= CUT) if truth.any() else NAN
    if metric == "specificity":
        return sk.recall_score(truth, score >= CUT, pos_label=0) if not truth.all() else NAN
    if metric == "ppv":
        return sk.precision_score(truth, score >= CUT, zero_division=NAN)
    if metric == "npv":
        return sk.precision_score(truth, score >= CUT, pos_label=0, zero_division=NAN)
    if metric == "f1":
        return sk.f1_score(truth, score >= CUT) if truth.any() else NAN
    score_of = {"auroc": sk.roc_auc_score, "average_precision": sk.average_precision_score}[metric]
    return score_of(truth, score) if len(set(truth)) == 2 else NAN


def films(
    seed: int, *, patients: int = 40, most: int = 3, prevalence: float = 0.3, decimals: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, some unknown, and scores of two findings; 1 to `most` radiographs per patient, shuffled."""
    rng = np.random.default_rng(seed)
    owner = rng.permutation(np.repeat(np.arange(patients), rng.integers(1, most + 1, patients)))
    truth = (rng.random((len(owner), 2)) < prevalence).astype(float)
    score = (rng.random(truth.shape) * 0.7 + 0.3 * truth).round(decimals)
    truth[rng.random(truth.shape) < 0.1] = NAN
    return truth, score, owner


def clustered(rng: np.random.Generator, *, patients: int, images: int) -> tuple[np.ndarray, ...]:
    """One finding; the radiographs of a patient share most of what moves label and score."""
    owner = np.repeat(np.arange(patients), images)
    sick, look = rng.normal(size=patients)[owner], rng.normal(size=patients)[owner]
    truth = (0.8 * sick + 0.6 * rng.normal(size=len(owner)) > 0.3).astype(float)
    score = truth + 0.8 * look + 0.6 * rng.normal(size=len(owner))
    return truth[:, None], score[:, None], owner


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("decimals", "prevalence"), [(1, 0.3), (9, 0.3), (1, 0.8), (9, 0.8)])
def test_every_replicate_is_scikit_learn_on_the_drawn_radiographs(metric, decimals, prevalence):
    truth, score, owner = films(0, decimals=decimals, prevalence=prevalence)
    values = bootstrap_values(
        metric, truth, score, patients=owner, replicates=25, seed=3, thresholds=np.full(2, CUT)
    )
    drawn = draw(40, 0, seed=3)[owner].astype(int)
    for replicate in range(25):
        for finding in range(2):
            known = ~np.isnan(truth[:, finding])
            rows = np.repeat(np.flatnonzero(known), drawn[known, replicate])
            expected = slow(metric, truth[rows, finding], score[rows, finding])
            assert values[replicate, finding] == pytest.approx(expected, abs=1e-12)


def test_many_cuts_and_many_images_stay_exact(monkeypatch):
    truth, score, owner = films(1, patients=700, most=5, decimals=12)
    values = bootstrap_values("auroc", truth, score, patients=owner, replicates=2)
    drawn = draw(700, 0, seed=0)[owner]
    for replicate in range(2):
        known = ~np.isnan(truth[:, 0])
        expected = sk.roc_auc_score(truth[known, 0], score[known, 0], sample_weight=drawn[known, replicate])
        assert values[replicate, 0] == pytest.approx(expected, abs=1e-12)
    monkeypatch.setattr(resampled, "EXACT", 0)
    wide = bootstrap_values("auroc", truth, score, patients=owner, replicates=2)
    np.testing.assert_array_equal(values, wide)


def test_a_resample_holds_as_many_patients_as_there_are():
    drawn = draw(37, 5, seed=1)
    assert drawn.shape == (37, CHUNK)
    assert (drawn.sum(axis=0) == 37).all()
    # A patient is drawn k times with the binomial probability of k out of 37.
    assert (drawn == 0).mean() == pytest.approx((36 / 37) ** 37, abs=0.03)
    assert (draw(37, 6, seed=1) != drawn).any()
    assert (draw(37, 5, seed=2) != drawn).any()


def test_threads_and_the_number_of_replicates_change_no_replicate():
    truth, score, owner = films(2)
    once = bootstrap_values("auroc", truth, score, patients=owner, replicates=3 * CHUNK, threads=1)
    again = bootstrap_values("auroc", truth, score, patients=owner, replicates=3 * CHUNK, threads=3)
    fewer = bootstrap_values("auroc", truth, score, patients=owner, replicates=CHUNK + 5)
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(once[: CHUNK + 5], fewer)


def test_names_of_patients_and_the_order_of_rows_do_not_matter():
    truth, score, owner = films(3)
    expected = bootstrap("auroc", truth, score, patients=owner, findings=FINDINGS, replicates=100)
    named = np.array([f"p{number:03d}" for number in owner], dtype=object)
    order = np.random.default_rng(0).permutation(len(owner))
    shuffled = bootstrap(
        "auroc", truth[order], score[order], patients=named[order], findings=FINDINGS, replicates=100
    )
    assert shuffled == expected


@pytest.mark.parametrize("metric", METRICS)
def test_an_estimate_has_the_value_the_percentiles_and_the_counts(metric):
    truth, score, owner = films(4, patients=80)
    settings = {"patients": owner, "replicates": 200, "seed": 5, "thresholds": np.full(2, CUT)}
    first, second, macro = bootstrap(metric, truth, score, findings=FINDINGS, **settings)
    drawn = bootstrap_values(metric, truth, score, **settings)
    known = ~np.isnan(truth[:, 0])
    assert first.value == pytest.approx(slow(metric, truth[known, 0], score[known, 0]))
    np.testing.assert_allclose((first.low, first.high), np.quantile(drawn[:, 0], [0.025, 0.975]))
    assert (first.images, first.patients) == (known.sum(), len(set(owner[known])))
    assert first.positives == (truth[:, 0] == 1).sum()
    assert (first.finding, macro.finding, first.note) == ("Edema", "macro", "")
    assert macro.value == pytest.approx((first.value + second.value) / 2)
    np.testing.assert_allclose((macro.low, macro.high), np.quantile(drawn.mean(axis=1), [0.025, 0.975]))
    assert macro.positives == first.positives + second.positives


def test_a_wider_level_is_a_wider_interval():
    truth, score, owner = films(5)
    (narrow, *_), (wide, *_) = (
        bootstrap("auroc", truth, score, patients=owner, findings=FINDINGS, replicates=300, level=level)
        for level in (0.5, 0.99)
    )
    assert wide.low < narrow.low < narrow.high < wide.high


def test_one_finding_has_no_mean():
    truth, score, owner = films(6)
    found = bootstrap(
        "auroc", truth[:, :1], score[:, :1], patients=owner, findings=FINDINGS[:1], replicates=20
    )
    assert [estimate.finding for estimate in found] == ["Edema"]


@pytest.mark.parametrize(
    ("metric", "labels", "why"),
    [
        ("auroc", [0.0, 0.0], "undefined: no positives among 30 known labels"),
        ("auroc", [1.0, 1.0], "undefined: no negatives among 30 known labels"),
        ("average_precision", [0.0, 0.0], "undefined: no positives among 30 known labels"),
        ("sensitivity", [0.0, 0.0], "undefined: no positives among 30 known labels"),
        ("specificity", [1.0, 1.0], "undefined: no negatives among 30 known labels"),
        ("accuracy", [NAN, NAN], "undefined: no label is known"),
        ("brier", [NAN, NAN], "undefined: no label is known"),
    ],
)
def test_an_undefined_finding_says_why_and_is_in_no_mean(metric, labels, why):
    truth = np.stack([np.resize(labels, 30), np.resize([0.0, 1.0, 1.0], 30)], axis=1)
    score = np.random.default_rng(0).random((30, 2))
    settings = {"patients": np.arange(30), "replicates": 50, "thresholds": np.full(2, 0.5)}
    undefined, defined, macro = bootstrap(metric, truth, score, findings=FINDINGS, **settings)
    assert (undefined.value, undefined.low, undefined.high, undefined.note) == (None, None, None, why)
    assert (macro.value, macro.low, macro.high) == (defined.value, defined.low, defined.high)
    assert macro.note == "without Edema (undefined)"
    change, *_, mean = difference(
        metric,
        truth,
        score,
        score,
        findings=FINDINGS,
        patients=np.arange(30),
        replicates=50,
        thresholds_a=np.full(2, 0.5),
        thresholds_b=np.full(2, 0.5),
    )
    assert (change.value, change.p, change.note) == (None, None, why)
    assert (mean.value, mean.p) == (0.0, 1.0)


def test_with_nothing_defined_the_mean_is_undefined_too():
    truth, score = np.zeros((20, 2)), np.random.default_rng(0).random((20, 2))
    *_, macro = bootstrap("auroc", truth, score, patients=np.arange(20), findings=FINDINGS, replicates=10)
    assert (macro.value, macro.low, macro.high) == (None, None, None)
    assert macro.note == "no finding is defined"


def test_a_finding_without_a_threshold_is_undefined():
    truth, score, owner = films(7)
    found = bootstrap(
        "accuracy",
        truth,
        score,
        patients=owner,
        findings=FINDINGS,
        replicates=20,
        thresholds=np.array([NAN, 0.5]),
    )
    assert (found[0].value, found[0].note) == (None, "undefined: no threshold")
    assert found[2].value == found[1].value


def test_few_positives_are_said_and_replicates_without_any_are_counted():
    truth = np.zeros((50, 1))
    truth[:2] = 1
    score = np.random.default_rng(0).random((50, 1))
    (estimate,) = bootstrap(
        "auroc", truth, score, patients=np.arange(50), findings=["Hernia"], replicates=1000
    )
    drawn = np.concatenate([draw(50, chunk, seed=0)[:2].sum(axis=0) for chunk in range(16)])[:1000]
    assert f"only 2 positives; {(drawn == 0).mean():.0%} of the replicates" in estimate.note
    assert estimate.low is not None


def test_an_interval_of_a_minority_of_replicates_is_none():
    # Both positives are of one patient, who is in 1 - (1 - 1/2)^2 = 3/4 of the resamples, and the other,
    # with the negatives, too: both are in half of them.
    truth, score = np.array([[1.0], [1.0], [0.0]]), np.array([[0.9], [0.2], [0.5]])
    (estimate,) = bootstrap(
        "auroc", truth, score, patients=np.array(["a", "a", "b"]), findings=["x"], replicates=4000, seed=8
    )
    values = bootstrap_values(
        "auroc", truth, score, patients=np.array(["a", "a", "b"]), replicates=4000, seed=8
    )
    assert np.isnan(values).mean() == pytest.approx(0.5, abs=0.03)
    assert (estimate.low is None) == (np.isnan(values).mean() > 0.5)
    assert estimate.value == 0.5


def test_a_single_patient_has_no_interval():
    truth, score, _ = films(9)
    found = bootstrap("auroc", truth, score, patients=np.zeros(len(truth)), findings=FINDINGS, replicates=20)
    assert all(e.value is not None and e.low is None and "single patient" in e.note for e in found)


def test_a_perfect_score_is_not_said_to_be_certain():
    truth = np.resize([0.0, 1.0], (40, 1))
    (found,) = bootstrap("auroc", truth, truth, patients=np.arange(40), findings=["x"], replicates=50)
    assert (found.value, found.low, found.high) == (1, 1, 1)
    assert "no measure of certainty" in found.note


def test_clustering_widens_the_interval():
    truth, score, owner = clustered(np.random.default_rng(0), patients=60, images=10)
    by_patient, by_image = (
        bootstrap("auroc", truth, score, patients=p, findings=["x"], replicates=400)[0]
        for p in (owner, np.arange(len(owner)))
    )
    assert by_patient.high - by_patient.low > 1.5 * (by_image.high - by_image.low)


def coverage(images: int, *, patients: int, studies: int, replicates: int) -> float:
    """The share of studies whose interval holds the AUROC of the population."""
    rng = np.random.default_rng(images)
    truth, score, _ = clustered(rng, patients=400_000, images=1)
    population = sk.roc_auc_score(truth[:, 0], score[:, 0])
    held = 0
    for study in range(studies):
        truth, score, owner = clustered(rng, patients=patients, images=images)
        (found,) = bootstrap(
            "auroc",
            truth,
            score,
            patients=owner,
            findings=["x"],
            replicates=replicates,
            seed=study,
            threads=1,
        )
        held += found.low <= population <= found.high
    return held / studies


@pytest.mark.parametrize("images", [1, 4, 10])
def test_95_percent_of_intervals_hold_the_truth(images):
    assert coverage(images, patients=150, studies=300, replicates=4 * CHUNK) == pytest.approx(0.95, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("images", [1, 4, 10])
def test_95_percent_of_intervals_hold_the_truth_in_many_studies(images):
    assert coverage(images, patients=200, studies=2000, replicates=1000) == pytest.approx(0.95, abs=0.02)


def test_a_difference_is_paired():
    truth, score, owner = films(10, patients=80)
    other = score + 0.1 * np.random.default_rng(0).normal(size=score.shape)
    settings = {"patients": owner, "replicates": 300, "seed": 1}
    first, _, macro = difference("auroc", truth, score, other, findings=FINDINGS, **settings)
    a, b = (bootstrap("auroc", truth, s, findings=FINDINGS, **settings) for s in (score, other))
    paired = [bootstrap_values("auroc", truth, s, **settings) for s in (score, other)]
    change = paired[0] - paired[1]
    assert first.value == pytest.approx(a[0].value - b[0].value)
    assert macro.value == pytest.approx(a[2].value - b[2].value)
    np.testing.assert_allclose((first.low, first.high), np.quantile(change[:, 0], [0.025, 0.975]))
    np.testing.assert_allclose((macro.low, macro.high), np.quantile(change.mean(axis=1), [0.025, 0.975]))
    assert first.high - first.low < (a[0].high - a[0].low) / 2
    assert first.p == two_sided(change[:, 0])


def test_the_reverse_difference_has_the_other_sign_and_the_same_p():
    truth, score, owner = films(11)
    other = np.random.default_rng(0).random(score.shape)
    forth, back = (
        difference("auroc", truth, a, b, patients=owner, findings=FINDINGS, replicates=200)[0]
        for a, b in ((score, other), (other, score))
    )
    assert (back.value, back.p) == (-forth.value, forth.p)
    assert back.low == pytest.approx(-forth.high)


def test_no_difference_has_p_1_and_a_clear_one_the_least_p():
    truth, score, owner = films(12, patients=200)
    same = difference("auroc", truth, score, score, patients=owner, findings=FINDINGS, replicates=99)
    assert all((d.value, d.low, d.high, d.p) == (0, 0, 0, 1) for d in same)
    clear = difference(
        "auroc", truth, np.nan_to_num(truth), -score, patients=owner, findings=FINDINGS, replicates=99
    )
    assert all(d.p == 2 / 100 for d in clear)


def test_two_sided_counts_the_rarer_side():
    assert two_sided(np.array([-1.0, 1, 2, 3, NAN])) == pytest.approx(2 * 2 / 5)


def test_equally_good_scores_differ_significantly_in_one_study_of_twenty():
    rng = np.random.default_rng(0)
    low = 0
    for study in range(200):
        truth, score, owner = clustered(rng, patients=100, images=3)
        noise = rng.normal(size=(2, *score.shape))
        (found,) = difference(
            "auroc",
            truth,
            score + noise[0],
            score + noise[1],
            patients=owner,
            findings=["x"],
            replicates=4 * CHUNK,
            seed=study,
            threads=1,
        )
        low += found.p < 0.05
    assert low / 200 == pytest.approx(0.05, abs=0.03)


def test_what_cannot_be_scored_is_refused():
    truth, score, owner = films(13)
    settings = {"patients": owner, "findings": FINDINGS, "replicates": 10}
    with pytest.raises(ConfigError, match="no metric is called 'kappa'; there are auroc"):
        bootstrap("kappa", truth, score, **settings)
    with pytest.raises(ConfigError, match="sensitivity needs a threshold"):
        bootstrap("sensitivity", truth, score, **settings)
    with pytest.raises(ConfigError, match="0 replicates"):
        bootstrap("auroc", truth, score, **{**settings, "replicates": 0})
    with pytest.raises(RecordsError, match=r"finding 1 .* label is -1.0, expected 1, 0 or NaN"):
        bootstrap("auroc", np.c_[truth[:, 0], np.full(len(truth), -1.0)], score, **settings)
    broken = score.copy()
    broken[np.flatnonzero(truth[:, 0] == 1)[0], 0] = NAN
    with pytest.raises(RecordsError, match=r"finding 0 .* score is nan, expected a finite number; 1 such"):
        bootstrap("auroc", truth, broken, **settings)
    with pytest.raises(RecordsError, match="no row"):
        bootstrap("auroc", truth[:0], score[:0], **{**settings, "patients": owner[:0]})


def test_an_unknown_label_needs_no_score():
    truth, score, owner = films(14)
    blank = np.where(np.isnan(truth), NAN, score)
    settings = {"patients": owner, "replicates": 20, "thresholds": np.full(2, CUT)}
    for metric in METRICS:
        np.testing.assert_array_equal(
            bootstrap_values(metric, truth, blank, **settings),
            bootstrap_values(metric, truth, score, **settings),
        )


def some_known(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three findings of different prevalence, a tenth of the labels unknown."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(80), 2)
    truth = (rng.random((160, 3)) < [0.1, 0.3, 0.6]).astype(float)
    score = (rng.random(truth.shape) * 0.7 + 0.3 * truth).round(2)
    truth[rng.random(truth.shape) < 0.1] = NAN
    return truth, score, owner


THREE = ("Hernia", "Edema", "Effusion")
AREAS = {"auroc": sk.roc_auc_score, "average_precision": sk.average_precision_score}


@pytest.mark.parametrize("metric", AREAS)
def test_averages_of_complete_labels_are_those_of_scikit_learn(metric):
    truth, score, owner = some_known(0)
    complete = ~np.isnan(truth).any(axis=1)
    truth, score, owner = truth[complete], score[complete], owner[complete]
    found = bootstrap_all(
        (metric,), truth, score, patients=owner, findings=THREE, replicates=20, seed=0, averages=True
    )
    assert [e.finding for e in found] == [*THREE, "macro", "micro", "weighted"]
    for estimate in found[3:]:
        expected = AREAS[metric](truth, score, average=estimate.finding)
        assert estimate.value == pytest.approx(expected, abs=1e-12)
        assert estimate.positives == truth.sum()


@pytest.mark.parametrize("metric", AREAS)
def test_every_replicate_of_an_average_is_scikit_learn_on_the_drawn_pairs(metric):
    truth, score, owner = some_known(1)
    *_, micro, weighted = bootstrap_all(
        (metric,), truth, score, patients=owner, findings=THREE, replicates=60, seed=5, averages=True
    )
    area, known = AREAS[metric], ~np.isnan(truth)
    expected = []
    for times in draw(80, 0, seed=5).T.astype(int)[:60]:
        rows = np.repeat(np.arange(160), times[owner])
        labels, scores, there = truth[rows], score[rows], known[rows]
        each = [area(labels[there[:, f], f], scores[there[:, f], f]) for f in range(3)]
        sizes = np.nansum(labels, axis=0)
        expected.append((area(labels[there], scores[there]), sizes @ each / sizes.sum()))
    edges = np.quantile(expected, [0.025, 0.975], axis=0)
    assert (micro.low, micro.high) == pytest.approx(tuple(edges[:, 0]), abs=1e-12)
    assert (weighted.low, weighted.high) == pytest.approx(tuple(edges[:, 1]), abs=1e-12)
    assert micro.value == pytest.approx(area(truth[known], score[known]))


def test_an_undefined_finding_is_in_no_weighted_mean_but_its_labels_are_in_the_pairs():
    truth, score, owner = some_known(2)
    truth[:, 0] = 1
    found = bootstrap_all(
        ("auroc",), truth, score, patients=owner, findings=THREE, replicates=20, seed=0, averages=True
    )
    _, edema, effusion, macro, micro, weighted = found
    sizes = edema.positives, effusion.positives
    assert weighted.value == pytest.approx(np.average([edema.value, effusion.value], weights=sizes))
    assert weighted.note == macro.note == "without Hernia (undefined)"
    known = ~np.isnan(truth)
    assert micro.value == pytest.approx(sk.roc_auc_score(truth[known], score[known]))
    assert micro.note == ""


def test_metrics_from_one_pass_are_those_of_their_own_passes():
    truth, score, owner = some_known(3)
    settings = {"patients": owner, "findings": THREE, "replicates": 70, "seed": 2}
    cuts = np.array([0.4, NAN, 0.6])
    together = bootstrap_all(METRICS, truth, score, thresholds=cuts, averages=True, **settings)
    apart = [e for m in METRICS for e in bootstrap(m, truth, score, thresholds=cuts, **settings)]
    assert [e for e in together if e.finding not in ("micro", "weighted")] == apart


def test_a_predictive_value_of_no_calls_says_so():
    truth, score, owner = some_known(4)
    settings = {"patients": owner, "findings": THREE, "replicates": 20}
    none, one, *_ = bootstrap("ppv", truth, score, thresholds=np.array([2.0, 0.97, 0.5]), **settings)
    labels = int((~np.isnan(truth[:, 0])).sum())
    assert (none.value, none.note) == (None, f"undefined: no positive calls among {labels} known labels")
    assert "only" in one.note
    assert "positive call" in one.note
    everyone, *_ = bootstrap("npv", truth, score, thresholds=np.zeros(3), **settings)
    assert "no negative calls" in everyone.note
