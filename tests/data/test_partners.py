import itertools
import time

import numpy as np
import pandas as pd
import pytest

from hilum.data.partners import Partners, laterality_of
from hilum.errors import RecordsError
from hilum.records.table import Records

RULES = [
    {"study": study, "laterality": laterality, "same_findings": findings}
    for study, laterality in itertools.product(("any", "same", "different"), repeat=2)
    for findings in (False, True)
]


def table(seed: int, num: int = 60, *, num_patients: int = 12) -> Records:
    """Random cells, a fifth of them unknown; patients in no order."""
    random = np.random.default_rng(seed)
    films = pd.DataFrame(
        {
            "image": [f"{n}.png" for n in range(num)],
            "patient": [f"p{n}" for n in random.integers(0, num_patients, num)],
            "study": random.choice(["s1", "s2", "s3", "", "s4"], num),
            "view": random.choice(["PA", "AP", "LATERAL", "LL", ""], num),
        }
    )
    labels = random.choice(np.array([0, 1, np.nan], np.float32), (num, 2), p=[0.5, 0.4, 0.1])
    return Records(films.assign(Edema=labels[:, 0], Mass=labels[:, 1]), ("Edema", "Mass"))


def fits(records: Records, one: int, other: int, rules: dict) -> bool:
    """The rules in words, of two films."""
    a, b = records.table.iloc[one], records.table.iloc[other]
    if one == other or a["patient"] != b["patient"]:
        return False
    cells = []
    if rules["study"] != "any":
        cells.append((rules["study"], a["study"], b["study"]))
    if rules["laterality"] != "any":
        of = {"PA": "frontal", "AP": "frontal", "LATERAL": "lateral", "LL": "lateral", "": ""}
        cells.append((rules["laterality"], of[a["view"]], of[b["view"]]))
    if any(not x or not y or (x == y) != (mode == "same") for mode, x, y in cells):
        return False
    mine, its = records.labels[one], records.labels[other]
    return not rules["same_findings"] or bool((mine == its).all())  # NaN equals nothing, itself included


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: "-".join(map(str, rules.values())))
def test_candidates_and_missing_are_those_of_a_slow_search(rules):
    for seed, num_patients in ((0, 12), (1, 3), (2, 60)):
        records = table(seed, num_patients=num_patients)
        partners = Partners(records, **rules)
        missing = 0
        for row in range(len(records)):
            expected = [other for other in range(len(records)) if fits(records, row, other, rules)]
            assert sorted(partners.candidates(row).tolist()) == expected
            missing += not expected
        assert partners.missing == missing


@pytest.mark.parametrize("rules", RULES[::3], ids=lambda rules: "-".join(map(str, rules.values())))
def test_a_partner_is_another_film_of_the_patient_or_the_film_itself(rules):
    records = table(3)
    partners = Partners(records, **rules)
    rows = np.tile(np.arange(len(records)), 5)
    chosen = partners.of(rows, np.repeat(np.arange(5), len(records)), seed=1)
    assert (records.patients[rows] == records.patients[chosen]).all()
    for row, other in zip(rows.tolist(), chosen.tolist(), strict=True):
        found = partners.candidates(row).tolist()
        assert other in found if found else other == row


def test_draws_depend_on_seed_epoch_and_row_alone():
    partners = Partners(table(4, num_patients=4))
    rows, epochs = np.arange(60), np.full(60, 2)
    chosen = partners.of(rows, epochs, seed=5)
    order = np.random.default_rng(0).permutation(60)
    assert (partners.of(rows[order], epochs[order], seed=5) == chosen[order]).all()
    assert (rows == np.arange(60)).all()
    assert (partners.of(rows, epochs, seed=6) != chosen).any()
    assert (partners.of(rows, epochs + 1, seed=5) != chosen).any()


def test_draws_are_uniform_over_the_candidates():
    films = pd.DataFrame({"image": [f"{n}.png" for n in range(7)], "patient": ["a"] * 6 + ["b"]})
    partners = Partners(Records(films, ()))
    assert partners.missing == 1
    counts = np.zeros((6, 6))
    epochs = np.arange(5000)
    for row in range(6):
        chosen = partners.of(np.full(5000, row), epochs, seed=0)
        counts[row] = np.bincount(chosen, minlength=6)
    assert (counts.diagonal() == 0).all()
    expected = 1000
    chi_squared = ((counts[~np.eye(6, dtype=bool)] - expected) ** 2 / expected).sum()
    assert chi_squared < 51.2  # the 0.1 % point of 24 degrees of freedom


def test_a_column_that_a_rule_reads_and_the_table_lacks_is_named():
    records = table(0)
    bare = Records(records.table[["image", "patient"]], ())
    assert Partners(bare).missing == Partners(records).missing
    for rules, word in (
        ({"study": "same"}, "'study'.*--columns study=NAME"),
        ({"laterality": "different"}, "'view'.*--columns view=NAME"),
        ({"same_findings": True}, "need labels"),
    ):
        with pytest.raises(RecordsError, match=word):
            Partners(bare, **rules)


@pytest.mark.parametrize(
    ("word", "laterality"),
    [
        *dict.fromkeys(
            ("AP", "PA", "Frontal", "AP AXIAL", "AP-horizontal", "AP LLD", "PA RLD"), "frontal"
        ).items(),
        *dict.fromkeys(
            ("LATERAL", "LL", "L", "Lateral ", "XTABLE LATERAL", "xtable_lateral"), "lateral"
        ).items(),
        *dict.fromkeys(("", "LPO", "COSTAL", "SWIMMERS", "unknown", "RAO"), "").items(),
    ],
)
def test_the_projections_of_public_data_sets_are_understood(word, laterality):
    assert laterality_of(pd.Series([word])).tolist() == [laterality]


def test_a_table_of_300_000_rows_is_ready_in_seconds():
    num = 300_000
    random = np.random.default_rng(0)
    films = pd.DataFrame(
        {
            "image": "a.png",
            "patient": random.integers(0, num // 4, num).astype(str),
            "study": random.integers(0, 3, num).astype(str),
            "view": random.choice(["PA", "LATERAL"], num),
        }
    )
    labels = random.choice(np.array([0, 1], np.float32), (num, 14), p=[0.9, 0.1])
    findings = tuple(f"f{n}" for n in range(14))
    records = Records(pd.concat([films, pd.DataFrame(labels, columns=list(findings))], axis=1), findings)
    start = time.process_time()
    partners = Partners(records, study="same", laterality="different", same_findings=True)
    partners.of(random.integers(0, num, 256), np.zeros(256, np.int64), seed=0)
    assert time.process_time() - start < 10  # about 1 on one core
    assert 0 < partners.missing < num
