import hashlib

import numpy as np
import pandas as pd
import pytest

from hilum.errors import ConfigError, MissingError, RecordsError
from hilum.records.ranking import ranking, states_of
from hilum.records.splits import patient_folds, read_split, split_patients, write_split
from hilum.records.table import Records

PREVALENCE = np.array([0.01, 0.03, 0.1, 0.25, 0.5])


def records_of(patients, labels, findings=None):
    names = findings or [f"F{i}" for i in range(labels.shape[1])]
    table = pd.DataFrame(
        {
            "image": [f"/films/{i}.png" for i in range(len(patients))],
            "patient": pd.Series(list(patients), dtype="str"),
            "split": "",
        }
    )
    return Records(
        pd.concat([table, pd.DataFrame(labels.astype(np.float32), columns=names)], axis=1), tuple(names)
    )


def simulated(num_patients, *, seed=0, films=3):
    rng = np.random.default_rng(seed)
    patients = np.repeat([f"p{i:05d}" for i in range(num_patients)], rng.integers(1, films + 1, num_patients))
    labels = (rng.random((len(patients), len(PREVALENCE))) < PREVALENCE).astype(np.float32)
    labels[rng.random(labels.shape) < 0.1] = np.nan
    return records_of(patients, labels)


def positives(records):
    _, states = states_of(records.patients, records.labels)
    return (states == 2).sum(axis=0)


def test_the_state_of_a_patient_is_the_strongest_of_the_films():
    patients = np.array(["b", "a", "b", "a", "c"], object)
    labels = np.array([[0, np.nan], [0, np.nan], [1, 0], [np.nan, np.nan], [np.nan, 1]], np.float32)
    names, states = states_of(patients, labels)
    assert names.tolist() == ["a", "b", "c"]
    assert states.tolist() == [[1, 0], [2, 1], [0, 2]]


@pytest.mark.parametrize("seed", range(20))
def test_shares_of_one_seed_are_nested_whole_patients_and_of_the_right_size(seed):
    records = simulated(400, seed=seed)
    before: set[str] = set()
    for fraction in (0.001, 0.01, 0.03, 0.1, 0.25, 0.5, 0.9, 1):
        share = records.share(fraction, seed=seed)
        patients = set(share.patients)
        assert before <= patients
        assert len(patients) == max(1, round(fraction * 400))
        assert len(share) == np.isin(records.patients.astype(str), list(patients)).sum()
        before = patients
    pd.testing.assert_frame_equal(share.table, records.table)


def test_a_share_does_not_depend_on_the_order_of_rows_and_does_on_the_seed():
    records = simulated(300)
    shuffled = records.take(np.random.default_rng(1).permutation(len(records)))
    chosen = [set(r.share(0.1, seed=s).patients) for r, s in ((records, 0), (shuffled, 0), (records, 1))]
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize("seed", range(5))
def test_a_share_has_its_share_of_every_finding(seed):
    records = simulated(5000, seed=seed)
    whole = positives(records)
    for fraction in (0.05, 0.1, 1 / 3):
        expected = fraction * whole
        off = np.abs(positives(records.share(fraction, seed=seed)) - expected)
        assert (off <= 5).all(), off  # by chance alone 10 % of 2,000 are off by 13 as often as not
        assert (off <= 3 + 0.02 * expected).all(), off


def test_a_tiny_share_covers_positives_and_negatives_of_every_finding():
    records = simulated(2000, seed=3)
    for seed in range(10):
        _, states = states_of(*(lambda s: (s.patients, s.labels))(records.share(0.005, seed=seed)))
        assert len(states) == 10
        assert (states == 2).any(axis=0).all()
        assert (states == 1).any(axis=0).all()


def test_every_patient_is_ranked_once_whatever_the_number():
    for count in (*range(1, 40), 127, 128, 129):
        patients = np.array([f"{i}" for i in range(count)], object)
        labels = np.random.default_rng(count).integers(0, 2, (count, 3)).astype(np.float32)
        ranked = ranking(patients, labels, seed=count)
        assert sorted(ranked) == sorted(patients)


def test_shares_without_labels_are_random_patients():
    records = records_of([f"{i}" for i in range(100)], np.empty((100, 0)))
    assert len(records.share(0.2, seed=0)) == 20
    assert set(records.share(0.2, seed=0).patients) != set(records.share(0.2, seed=1).patients)


@pytest.mark.parametrize("seed", range(10))
def test_a_patient_is_never_in_two_splits(seed):
    split = split_patients(simulated(200, seed=seed), seed=seed).table
    assert (split.groupby("patient")["split"].nunique() == 1).all()
    counts = split.groupby("split")["patient"].nunique().to_dict()
    assert counts == {"train": 140, "val": 20, "test": 40}


def test_every_split_has_its_share_of_every_finding():
    records = split_patients(simulated(5000), val=0.1, test=0.2, seed=1)
    whole = positives(records)
    for name, fraction in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        assert (np.abs(positives(records.where(name)) - fraction * whole) <= 6).all()


def test_a_finding_of_three_patients_is_in_all_splits():
    labels = np.zeros((100, 2), np.float32)
    labels[:3, 0] = 1
    labels[:50, 1] = 1
    for seed in range(10):
        records = split_patients(records_of([f"{i}" for i in range(100)], labels), seed=seed)
        for name in ("train", "val", "test"):
            assert positives(records.where(name))[0] == 1


def test_splits_that_cannot_be_made_are_refused():
    records = simulated(200)
    for val, test in ((0.5, 0.5), (-0.1, 0.2), (0.9, 0.2)):
        with pytest.raises(ConfigError, match="less than 1"):
            split_patients(records, val=val, test=test)
    few = records_of(["a", "b"], np.ones((2, 1)))
    with pytest.raises(RecordsError, match="2 patients cannot fill 3 splits"):
        split_patients(few)
    assert set(split_patients(few, val=0, test=0.5).table["split"]) == {"train", "test"}
    three = split_patients(records_of("abc", np.ones((3, 1))), val=0.3, test=0.6)
    assert sorted(three.table["split"]) == ["test", "train", "val"]


def test_a_written_split_has_its_hash_beside_it_and_gives_the_same_splits(tmp_path):
    records = split_patients(simulated(50))
    path = tmp_path / "split.csv"
    digest = write_split(records, path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (tmp_path / "split.csv.sha256").read_text() == f"{digest}  split.csv\n"
    shuffled = records.take(np.random.default_rng(0).permutation(len(records)))
    unsplit = Records(shuffled.table.assign(split=""), records.findings)
    pd.testing.assert_frame_equal(read_split(unsplit, path).table, shuffled.table)
    again = Records.read(path, check_files=False)
    pd.testing.assert_frame_equal(again.table, records.table[["image", "patient", "split"]])
    assert write_split(split_patients(records, seed=1), path) != digest


def test_a_split_that_was_changed_afterwards_is_refused(tmp_path):
    records = split_patients(simulated(50))
    path = tmp_path / "split.csv"
    write_split(records, path)
    path.write_text(path.read_text().replace(",test", ",train"))
    for read in (lambda: read_split(records, path), lambda: Records.read(path, check_files=False)):
        with pytest.raises(RecordsError, match="changed after it was written"):
            read()
    records.write(path)
    Records.read(path, check_files=False)
    path.write_text(path.read_text().replace(",test", ",train"))
    (tmp_path / "split.csv.sha256").unlink()
    assert not (read_split(records, path).table["split"] == "test").any()


def test_a_split_file_with_defects_names_them_all(tmp_path):
    path = tmp_path / "split.csv"
    path.write_text("patient,split\na,train\na,test\nb,fold\nc,\n")
    with pytest.raises(RecordsError) as caught:
        read_split(records_of("abcd", np.ones((4, 1))), path)
    for expected in ("line 3", "patient 'a' is in test and train", "found 'fold'", "line 5", "patient 'd'"):
        assert expected in str(caught.value)
    with pytest.raises(MissingError):
        read_split(records_of("a", np.ones((1, 1))), tmp_path / "no.csv")
    with pytest.raises(RecordsError, match="in no split"):
        write_split(records_of("a", np.ones((1, 1))), path)


def test_folds_are_whole_patients_in_equal_shares_of_every_finding():
    records = simulated(400)
    fold = patient_folds(records.patients, records.labels, 4, seed=3)
    assert all(len(set(fold[records.patients == patient])) == 1 for patient in set(records.patients))
    parts = [records.take(fold == number) for number in range(4)]
    assert [len(set(part.patients)) for part in parts] == [100] * 4
    counts = np.array([positives(part) for part in parts])
    assert (counts.max(axis=0) - counts.min(axis=0) <= 4).all(), counts
    # The order of rows says nothing, the seed does.
    order = np.random.default_rng(0).permutation(len(records))
    shuffled = patient_folds(records.patients[order], records.labels[order], 4, seed=3)
    assert np.array_equal(shuffled, fold[order])
    assert not np.array_equal(patient_folds(records.patients, records.labels, 4, seed=4), fold)
    with pytest.raises(RecordsError, match="400 patients cannot fill 401 folds"):
        patient_folds(records.patients, records.labels, 401)
