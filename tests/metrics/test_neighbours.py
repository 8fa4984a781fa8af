import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors

from hilum.metrics import neighbours
from hilum.metrics.neighbours import deal, nearest, tell


def sample(num=60, seed=0, shift=1.5):
    random = np.random.default_rng(seed)
    patient = np.sort(random.integers(0, num // 2, num))
    side = (patient % 2).astype(np.int64)
    features = random.normal(size=(num, 5)).astype(np.float32) + 0.3
    features[:, 0] += shift * side
    return features, patient, side


def slow_neighbours(features, patient, k):
    """One film at a time, as one would say it."""
    found = []
    for i in range(len(features)):
        others = []
        for j in range(len(features)):
            if patient[i] != patient[j]:
                a, b = features[i].astype(np.float64), features[j].astype(np.float64)
                others.append((-(a @ b) / np.sqrt((a @ a) * (b @ b)), j))
        found.append([j for _, j in sorted(others)[:k]])
    return np.array(found)


def test_nearest_films_are_those_of_a_slow_loop_without_the_own_patient():
    features, patient, _ = sample()
    places, similarity = nearest(features, patient, k=4)
    np.testing.assert_array_equal(places, slow_neighbours(features, patient, 4))
    assert (np.diff(similarity, axis=1) <= 0).all()


def test_nearest_films_to_other_queries_are_those_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(neighbours, "ROWS", 7)
    features, patient, _ = sample()
    asked = np.random.default_rng(9).normal(size=(20, 5)).astype(np.float32)
    places, similarity = nearest(features, patient, k=3, queries=asked, query_group=np.full(20, -1))
    theirs = NearestNeighbors(n_neighbors=3, metric="cosine").fit(features.astype(np.float64))
    distance, known = theirs.kneighbors(asked.astype(np.float64))
    np.testing.assert_array_equal(places, known)
    np.testing.assert_allclose(1 - similarity, distance, atol=1e-12)


def test_where_too_few_films_are_left_the_places_are_empty():
    places, similarity = nearest(np.eye(3) + 0.1, np.array([0, 0, 1]), k=5)
    assert places.tolist() == [[2, -1, -1, -1, -1], [2, -1, -1, -1, -1], [0, 1, -1, -1, -1]]
    assert np.isnan(similarity[:2, 1:]).all()


def test_two_values_are_told_by_auroc_more_by_balanced_accuracy_numbers_by_ranks():
    features, patient, side = sample(80)
    three = np.where(features[:, 1] > 0.8, 2, side)
    age = (features[:, 0] * 10 + patient).astype(np.float64)
    told = tell(features, {"side": side, "three": three, "age": age}, patient=patient, replicates=100)
    near = slow_neighbours(features, patient, 10)
    share = np.array([side[row].mean() for row in near])
    assert told["side"].value == pytest.approx(roc_auc_score(side, share))
    votes = []
    for row in near:
        said = three[row].tolist()
        most = max(map(said.count, said))
        winners = {one for one in said if said.count(one) == most}
        # Of equally many votes those whose films are nearer: the smallest sum of places.
        votes.append(
            min(winners, key=lambda one: (sum(place for place, v in enumerate(said) if v == one), one))
        )
    assert told["three"].value == pytest.approx(balanced_accuracy_score(three, votes))
    assert told["age"].value == pytest.approx(spearmanr(age, [age[row].mean() for row in near])[0])
    assert [one.metric for one in told.values()] == ["AUROC", "balanced accuracy", "rank correlation"]
    for one in told.values():
        assert one.low < one.value < one.high


def test_chance_is_what_permuted_labels_give():
    features, patient, side = sample(120, shift=0.0)
    told = tell(features, {"side": side}, patient=patient, replicates=200)["side"]
    assert told.chance == pytest.approx(0.5, abs=0.03)
    assert told.chance_low < told.value < told.chance_high
    assert not told.is_told
    features, patient, side = sample(120, shift=6.0)
    told = tell(features, {"side": side}, patient=patient, replicates=200)["side"]
    assert told.value > 0.95
    assert told.is_told
    three = (patient % 3).astype(np.int64)
    other = tell(features, {"three": three}, patient=patient, replicates=50)["three"]
    assert other.chance == pytest.approx(1 / 3, abs=0.05)


def test_a_patients_films_alike_do_not_look_like_a_shortcut():
    """Each patient has eight nearly equal films; random labels by patient are then told by none of them."""
    random = np.random.default_rng(0)
    patient = np.arange(30).repeat(8)
    features = random.normal(size=(30, 6))[patient] + 0.01 * random.normal(size=(240, 6))
    label = random.permutation(np.arange(30) % 2)[patient]
    told = tell(features, {"label": label}, patient=patient, replicates=200)["label"]
    assert not told.is_told
    # Single films dealt out would pretend to a certainty that thirty patients do not give.
    assert told.chance_high - told.chance_low > 0.2


def test_dealing_keeps_every_value_and_mostly_the_patients_together():
    random = np.random.default_rng(0)
    own = random.permutation(np.arange(20).repeat(3))
    values = own % 4
    dealt = deal(values, own, random)
    assert sorted(dealt) == sorted(values)
    assert (dealt != values).any()
    assert all(len(set(dealt[own == one].tolist())) == 1 for one in range(20))


def test_intervals_are_those_of_whole_patients():
    random = np.random.default_rng(0)
    few = np.arange(12).repeat(10)
    many = np.arange(120)
    label = (few % 2).astype(np.int64)
    features = random.normal(size=(12, 4))[few] + label[:, None] + 0.05 * random.normal(size=(120, 4))
    wide, narrow = (
        tell(features, {"x": label}, patient=patient, replicates=400)["x"] for patient in (few, many)
    )
    assert wide.high - wide.low > narrow.high - narrow.low


def test_unknown_films_neither_ask_nor_are_asked_and_what_cannot_be_told_says_why():
    features, patient, side = sample(80)
    known = np.arange(80) % 3 > 0
    told = tell(features, {"side": np.where(known, side, -1)}, patient=patient, replicates=50)["side"]
    alone = tell(features[known], {"side": side[known]}, patient=patient[known], replicates=50)["side"]
    assert told == alone
    assert told.images == known.sum()
    one, single = np.zeros(80, np.int64), np.where(patient == patient[0], 1, 0)
    told = tell(features, {"one": one, "single": single, "nan": np.full(80, np.nan)}, patient=patient)
    assert told["one"].value is None
    assert told["one"].note == "the known films do not differ in it"
    assert "single patient left out" in told["single"].note
    assert told["nan"].images == 0
