"""DeLong's test against the paper's formula in loops, against permutations, and against the bootstrap."""

import numpy as np
import pytest
from scipy.stats import permutation_test, rankdata
from sklearn.metrics import roc_auc_score

from hilum.errors import RecordsError
from hilum.metrics.bootstrap import difference as bootstrap_difference
from hilum.metrics.delong import auroc_interval, contrast, delong, placements


def kernel(x: float, y: float) -> float:
    return 1.0 if y < x else 0.5 if y == x else 0.0


def looped(truth, scores, patients):
    """Obuchowski 1997 in loops: with one film per patient its S11 is 0, and it is DeLong 1988, equation 5."""
    names = sorted(set(patients))
    pos = [i for i in range(len(truth)) if truth[i] == 1]
    neg = [i for i in range(len(truth)) if truth[i] == 0]
    m, n, kinds = len(pos), len(neg), range(len(scores))
    area = [sum(kernel(s[i], s[j]) for i in pos for j in neg) / (m * n) for s in scores]
    sums = []
    for s, a in zip(scores, area, strict=True):
        x = [
            sum(sum(kernel(s[i], s[j]) for j in neg) / n - a for i in pos if patients[i] == p) for p in names
        ]
        y = [
            sum(sum(kernel(s[i], s[j]) for i in pos) / m - a for j in neg if patients[j] == p) for p in names
        ]
        sums.append((x, y))
    i10, i01 = len({patients[i] for i in pos}), len({patients[j] for j in neg})
    whole = len({patients[i] for i in (*pos, *neg)})
    covariance = np.zeros((len(scores), len(scores)))
    for r in kinds:
        for t in kinds:
            s10 = i10 / ((i10 - 1) * m) * sum(a * b for a, b in zip(sums[r][0], sums[t][0], strict=True))
            s01 = i01 / ((i01 - 1) * n) * sum(a * b for a, b in zip(sums[r][1], sums[t][1], strict=True))
            s11 = whole / (whole - 1) * sum(a * b for a, b in zip(sums[r][0], sums[t][1], strict=True))
            s11 += whole / (whole - 1) * sum(a * b for a, b in zip(sums[t][0], sums[r][1], strict=True))
            covariance[r, t] = s10 / m + s01 / n + s11 / (m * n)
    return area, covariance


def delong_1988(truth, scores):
    """Equations 4 to 6 with matrices of all pairs."""
    x, y = scores[:, truth == 1], scores[:, truth == 0]
    psi = (y[:, None, :] < x[:, :, None]) + 0.5 * (y[:, None, :] == x[:, :, None])
    return np.cov(psi.mean(axis=2)) / x.shape[1] + np.cov(psi.mean(axis=1)) / y.shape[1]


def films(rng, num, *, per_patient=1, share=0.4, shift=(1.0, 1.2), places=None):
    """Two correlated scores of films; those of a patient share noise and tend to share their label."""
    owner = np.repeat(np.arange(-(-num // per_patient)), per_patient)[:num]
    ill = rng.random(owner.max() + 1) < share
    truth = np.where(rng.random(num) < 0.75, ill[owner], rng.random(num) < share).astype(float)
    noise = rng.normal(size=(3, owner.max() + 1))[:, owner] + 0.5 * rng.normal(size=(3, num))
    scores = np.stack([shift[k] * truth + 0.6 * noise[k] + 0.8 * noise[2] for k in range(2)])
    return truth, scores if places is None else scores.round(places), owner


@pytest.mark.parametrize("per_patient", [1, 3])
@pytest.mark.parametrize("places", [None, 0])
def test_areas_and_covariance_are_those_of_the_papers_formula_in_loops(per_patient, places):
    truth, scores, owner = films(np.random.default_rng(3), 60, per_patient=per_patient, places=places)
    truth[[5, 17]] = np.nan
    found = placements(truth, scores, patients=owner)
    area, covariance = looped(truth, scores, owner)
    assert found.auroc == pytest.approx(area)
    assert found.covariance() == pytest.approx(covariance, rel=1e-10)
    known = ~np.isnan(truth)
    assert found.auroc == pytest.approx([roc_auc_score(truth[known], s[known]) for s in scores])


def test_with_one_film_per_patient_it_is_delong_1988():
    truth, scores, owner = films(np.random.default_rng(0), 200, places=1)
    found = placements(truth, scores, patients=owner).covariance()
    assert found == pytest.approx(delong_1988(truth, scores), rel=1e-12)
    # Whatever the patients are called, and in whatever order they come.
    names = np.array([f"p{997 * i % 1009}" for i in owner])
    assert placements(truth, scores, patients=names).covariance() == pytest.approx(found, rel=1e-12)


def test_the_mean_over_seeds_is_a_contrast_of_all_their_areas():
    rng = np.random.default_rng(1)
    truth, scores, owner = films(rng, 120)
    six = np.concatenate([scores[[0]] + rng.normal(size=(3, 120)), scores[[1]] + rng.normal(size=(3, 120))])
    found = placements(truth, six, patients=owner)
    weights = np.array([1, 1, 1, -1, -1, -1]) / 3
    once = contrast(found.combined(weights[None]))
    assert once.difference == pytest.approx(weights @ found.auroc)
    assert once.error**2 == pytest.approx(weights @ found.covariance() @ weights)


@pytest.mark.parametrize("shift", [(1.0, 1.0), (0.8, 1.25)])
def test_p_is_near_that_of_a_permutation_test(shift):
    truth, scores, owner = films(np.random.default_rng(6), 300, shift=shift)
    # Ranks in place of scores: both scores are then on one scale, and may be exchanged film by film.
    ranks = scores.argsort(axis=1).argsort(axis=1).astype(float)

    def area(score, axis):
        above = rankdata(score, axis=axis)[..., truth == 1].sum(axis=axis)
        num = int(truth.sum())
        return (above - num * (num + 1) / 2) / (num * (len(truth) - num))

    exact = permutation_test(
        (ranks[0], ranks[1]),
        lambda a, b, axis: area(a, axis) - area(b, axis),
        permutation_type="samples",
        n_resamples=4000,
        vectorized=True,
        rng=0,
    )
    found = delong(truth, *ranks, patients=owner)
    assert found.difference == pytest.approx(exact.statistic)
    assert found.p == pytest.approx(exact.pvalue, abs=0.04)


def test_interval_and_p_are_those_of_a_bootstrap_over_patients():
    truth, scores, owner = films(np.random.default_rng(4), 900, per_patient=3, share=0.5)
    found = delong(truth, *scores, patients=owner)
    (drawn,) = bootstrap_difference(
        "auroc", truth[:, None], *scores[:, :, None], patients=owner, findings=["Edema"], replicates=4000
    )
    assert found.difference == pytest.approx(drawn.value)
    width = found.high - found.low
    assert (found.low, found.high) == pytest.approx((drawn.low, drawn.high), abs=0.1 * width)
    alone = delong(truth, *scores, patients=np.arange(900))
    assert alone.error < 0.85 * found.error  # films of a patient taken for independent: too sure


@pytest.mark.parametrize("per_patient", [1, 3])
def test_false_alarms_are_five_per_cent(per_patient):
    rng = np.random.default_rng(11)
    p_values = []
    for _ in range(800):
        truth, scores, owner = films(rng, 240, per_patient=per_patient, shift=(1.0, 1.0))
        p_values.append(delong(truth, *scores, patients=owner).p)
    # Of 800 draws at 5 %, 3.1 to 7.1 % with 99 %.
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.02)


def test_the_interval_of_one_area_covers_it():
    rng = np.random.default_rng(2)
    truth, scores, _ = films(rng, 200_000, shift=(1.2, 1.2))
    area = roc_auc_score(truth, scores[0])  # of so many films: that of the distribution
    hits = 0
    for _ in range(600):
        truth, scores, owner = films(rng, 150, per_patient=2, shift=(1.2, 1.2))
        low, high = auroc_interval(truth, scores[0], patients=owner)
        assert 0 < low < high < 1
        hits += low <= area <= high
    assert hits / 600 == pytest.approx(0.95, abs=0.025)


def test_what_leaves_no_spread_to_judge_by_is_said():
    truth = np.array([0.0, 0, 0, 1, 1, 1])
    perfect, constant = np.arange(6.0), np.zeros(6)
    same = delong(truth, perfect, perfect, patients=np.arange(6))
    assert (same.difference, same.error, same.p) == (0, 0, 1)
    apart = delong(truth, perfect, constant, patients=np.arange(6))
    assert (apart.difference, apart.error) == (0.5, 0)
    assert np.isnan(apart.p)
    assert np.isnan(auroc_interval(truth, perfect, patients=np.arange(6))).all()
    for labels, owner in (
        (np.array([0.0, 0, 0, 0, 0, 1]), np.arange(6)),
        (truth, np.array([0, 1, 2, 3, 3, 3])),
        (np.zeros(6), np.arange(6)),
        (np.full(6, np.nan), np.arange(6)),
    ):
        found = delong(labels, perfect, constant, patients=owner)
        assert np.isnan([found.error, found.low, found.high, found.p]).all()


def test_a_score_that_is_not_finite_is_refused_where_the_label_is_known():
    truth = np.array([0.0, 1, np.nan, 0, 1])
    score = np.array([0.1, 0.2, np.nan, 0.3, 0.4])
    delong(truth, score, score, patients=np.arange(5))
    with pytest.raises(RecordsError, match="not finite"):
        delong(np.array([0.0, 1, 1, 0, 1]), score, score, patients=np.arange(5))
