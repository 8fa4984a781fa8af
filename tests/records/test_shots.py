import logging
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from hilum.errors import ConfigError, RecordsError
from hilum.records.table import Records

NAN = np.nan


def records_of(patients, labels, findings=None):
    labels = np.asarray(labels, np.float32)
    findings = tuple(findings or "ABCDEFGH"[: labels.shape[1]])
    base = pd.DataFrame(
        {
            "image": pd.Series([f"/films/{p}-{i:03}.png" for i, p in enumerate(patients)], dtype="str"),
            "patient": pd.Series(list(patients), dtype="str"),
            "split": pd.Series(["train"] * len(labels), dtype="str"),
        }
    )
    return Records(pd.concat([base, pd.DataFrame(labels, columns=list(findings))], axis=1), findings)


def simulated(num=300, seed=0):
    """One to four films per patient, three findings of 5, 30 and 60 %, a tenth unknown."""
    random = np.random.default_rng(seed)
    patients = [f"p{i}" for i in range(num) for _ in range(random.integers(1, 5))]
    labels = (random.random((len(patients), 3)) < (0.05, 0.3, 0.6)).astype(np.float32)
    labels[random.random(labels.shape) < 0.1] = NAN
    return records_of(patients, labels)


def images(records):
    return set(records.table["image"])


@pytest.mark.parametrize("k", [1, 2, 5, 10])
def test_every_finding_has_its_positives_and_negatives_of_different_patients(k):
    shots = simulated().shots(k, seed=3)
    for column in range(3):
        for label in (0, 1):
            of = shots.patients[shots.labels[:, column] == label]
            assert len(of) >= k
            assert len(set(of)) >= k
    assert len(shots) <= 2 * 3 * k


def test_fewer_shots_lie_within_more():
    records = simulated()
    for seed in (0, 1):
        chosen = [images(records.shots(k, seed=seed)) for k in (1, 2, 5, 10)]
        assert all(few < more for few, more in pairwise(chosen))
    assert images(records.shots(5, seed=0)) != images(records.shots(5, seed=1))


def test_the_choice_does_not_depend_on_the_order_of_rows_nor_on_the_folder():
    records = simulated()
    chosen = images(records.shots(4, seed=0))
    order = np.random.default_rng(1).permutation(len(records))
    assert images(records.take(order).shots(4, seed=0)) == chosen
    moved = Records(
        records.table.assign(image=records.table["image"].str.replace("/films", "/mnt/z/more")),
        records.findings,
    )
    assert {image.replace("/mnt/z/more", "/films") for image in images(moved.shots(4, seed=0))} == chosen


def test_rows_stay_in_order_with_all_their_labels():
    records = simulated()
    shots = records.shots(3, seed=0)
    rows = np.flatnonzero(records.table["image"].isin(shots.table["image"]))
    np.testing.assert_array_equal(shots.labels, records.labels[rows])
    assert shots.table["image"].tolist() == records.table["image"].iloc[rows].tolist()


def test_exclusive_findings_get_their_shots_and_no_more():
    random = np.random.default_rng(0)
    for shares in ([1 / 3] * 3, [0.9, 0.06, 0.04], [0.5, 0.5]):
        classes = random.choice(len(shares), 400, p=shares)
        records = records_of([f"p{i}" for i in range(400)], np.eye(len(shares))[classes])
        for k in (1, 5):
            assert records.shots(k, seed=0).labels.sum(0).tolist() == [k] * len(shares)


def test_a_patients_second_film_is_used_only_where_there_is_no_other_patient(caplog):
    caplog.set_level(logging.INFO)
    patients = ["a", "a", "a", "b", "c", "d", "d"]
    records = records_of(patients, [[1], [1], [1], [1], [0], [0], [0]])
    for seed in range(5):
        two = records.shots(2, seed=seed)
        assert sorted(two.patients) == ["a", "b", "c", "d"]
        three = records.shots(3, seed=seed)
        assert sorted(three.patients) == ["a", "a", "b", "c", "d", "d"]
        assert len(records.shots(4, seed=seed)) == 7
    assert "3 shots: 6 radiographs; A 3 negative, A 3 positive" in caplog.text
    assert "A: only 3 of 4 negative shots" in caplog.text
    assert "only 2" not in caplog.text


def test_a_film_that_was_passed_over_for_its_patient_is_found_later():
    # Patient a comes in by film 0, which both findings need; her other film is then the last of finding A.
    records = records_of(["a", "a"], [[1, 1], [1, 0]])
    assert len(records.shots(2, seed=0)) == 2


def test_seeds_choose_every_patient_alike():
    records = records_of([f"p{i}" for i in range(20)], [[i % 2] for i in range(20)])
    chosen = [patient for seed in range(2000) for patient in records.shots(1, seed=seed).patients]
    counts = pd.Series(chosen).value_counts()
    assert len(counts) == 20
    assert abs(counts - 200).max() < 5 * np.sqrt(200)


def test_shots_that_cannot_be_are_refused():
    records = records_of("abc", [[1], [1], [0]])
    with pytest.raises(ConfigError, match="shots is 0; expected 1 or more"):
        records.shots(0, seed=0)
    with pytest.raises(
        ConfigError, match="shots is 3, and no finding has so many: the most are 2 positive of 'A'"
    ):
        records.shots(3, seed=0)
    with pytest.raises(RecordsError, match="no radiograph has a label of A"):
        records_of("abc", [[NAN]] * 3).shots(1, seed=0)
    with pytest.raises(RecordsError, match="no radiograph has a label of any finding"):
        Records(records.table, ()).shots(1, seed=0)
