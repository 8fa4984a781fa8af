"""Any two initialisations, several metrics, shots as a budget, and runs that cannot be compared."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from hilum.errors import ConfigError, RecordsError
from hilum.metrics.delong import delong
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.report.compare import Cell, compare, holm
from hilum.report.evaluate import evaluate
from tests.report.samples import sample
from tests.report.test_compare import FINDINGS, cell
from tests.report.test_page import checked

INITS = {"pixels": 0.4, "imagenet": 1.2, "moco": 1.3, "simclr": 3.0}


@pytest.fixture(scope="module")
def records() -> Records:
    return sample(patients=100)[0]


def sweep(records: Records, inits=INITS, *, seeds=2, shots=(0,), **more) -> list[Cell]:
    return [
        replace(
            cell(records, init, strength=strength + k / 10, fraction=1.0, seed=seed),
            run=f"runs/{init}-{k}-{seed}",
            shots=k,
            settings={"init": init if init == "pixels" else f"runs/{init}", "fit": "logistic", "lr": 0.1},
            **more,
        )
        for init, strength in inits.items()
        for k in shots
        for seed in range(seeds)
    ]


def scored(records: Records, cells: list[Cell], **settings) -> list[Cell]:
    """The cells with the report of each: what its thresholds are."""
    reports = [evaluate(one.predictions, records, replicates=2, **settings) for one in cells]
    return [replace(c, report=json.loads(r.to_json())) for c, r in zip(cells, reports, strict=True)]


def test_against_all_compares_any_two_and_corrects_for_all_of_them(records):
    cells = sweep(records)
    found = compare(cells, records, baseline="imagenet", against="all", replicates=400)
    primary = [d for d in found.differences if d.finding == "macro"]
    assert {frozenset((d.init, d.baseline)) for d in primary} == {
        frozenset((a, b)) for a in INITS for b in INITS if a != b
    }
    assert len(primary) == 6
    assert {d.baseline for d in primary if "imagenet" in (d.init, d.baseline)} == {"imagenet"}
    assert [d.p_holm for d in primary] == pytest.approx(holm([d.p for d in primary]))
    means = {m.init: m.value for m in found.means if m.finding == "macro"}
    for pair in primary:
        assert pair.value == pytest.approx(means[pair.init] - means[pair.baseline])
    alone = compare(cells, records, baseline="imagenet", replicates=400)
    same = {(d.init, d.finding): d for d in alone.differences}
    for pair in found.differences:
        if pair.baseline == "imagenet":
            other = same[pair.init, pair.finding]
            assert (pair.value, pair.low, pair.high, pair.p) == (other.value, other.low, other.high, other.p)
    with pytest.raises(ConfigError, match="expected baseline or all"):
        compare(cells, records, baseline="imagenet", against="each", replicates=9)


def test_delong_is_that_of_the_mean_over_seeds_and_of_single_findings_only(records):
    cells = sweep(records, {"imagenet": 1.0, "moco": 1.6}, seeds=1)
    found = compare(
        cells, records, baseline="imagenet", metrics=["auroc", "average_precision"], replicates=60
    )
    test = (records.table["split"] == "test").to_numpy()
    ours, theirs = cells[1].predictions.scores[test], cells[0].predictions.scores[test]
    singles = [d for d in found.differences if d.metric == "auroc" and d.finding in FINDINGS]
    for pair in singles:
        column = FINDINGS.index(pair.finding)
        expected = delong(
            records.labels[test, column],
            ours[:, column],
            theirs[:, column],
            patients=records.patients[test],
        )
        assert pair.p_delong == pytest.approx(expected.p)
    assert [d.p_delong_holm for d in singles] == pytest.approx(holm([d.p_delong for d in singles]))
    assert all(d.p_delong is None for d in found.differences if d not in singles)
    twice = [replace(c, seed=1, run=f"{c.run}-again") for c in cells]  # the same models: the same test
    again = compare([*cells, *twice], records, baseline="imagenet", replicates=60)
    assert [d.p_delong for d in again.differences if d.finding in FINDINGS] == pytest.approx(
        [d.p_delong for d in singles]
    )


def test_several_metrics_are_those_of_each_alone(records):
    cells = scored(records, sweep(records, {"imagenet": 1.0, "moco": 1.6}))
    metrics = ["average_precision", "auroc", "accuracy"]
    found = compare(cells, records, baseline="imagenet", metrics=metrics, replicates=60)
    assert (found.metric, found.metrics) == ("average_precision", tuple(metrics))
    for metric in metrics:
        alone = compare(cells, records, baseline="imagenet", metrics=[metric], replicates=60)
        assert [m for m in found.means if m.metric == metric] == list(alone.means)
        assert [d for d in found.differences if d.metric == metric] == list(alone.differences)
    with pytest.raises(ConfigError, match="no metric is called 'f2'"):
        compare(cells, records, baseline="imagenet", metrics=["f2"])


def test_accuracy_is_at_the_thresholds_that_each_run_chose_on_validation(records):
    cells = scored(records, sweep(records, {"imagenet": 1.0, "moco": 1.6}))
    found = compare(cells, records, baseline="imagenet", metrics=["accuracy"], replicates=60)
    test = (records.table["split"] == "test").to_numpy()
    for mean in (m for m in found.means if m.finding in FINDINGS):
        column = FINDINGS.index(mean.finding)
        expected = [
            accuracy_score(
                records.labels[test, column],
                c.predictions.scores[test, column] >= c.report["thresholds"][column]["value"],
            )
            for c in cells
            if c.init == mean.init
        ]
        assert mean.seeds == pytest.approx(expected)
        reported = [e for e in cells[0].report["estimates"] if e["metric"] == "accuracy"]
        assert {e["value"] for e in reported} >= {mean.seeds[0]} or mean.init == "moco"
    bare = [replace(c, report={}) for c in cells]
    with pytest.raises(ConfigError, match=r"imagenet-0-0: its report names no thresholds"):
        compare(bare, records, baseline="imagenet", metrics=["accuracy"])


def test_a_finding_without_a_threshold_is_said_and_in_no_mean(records):
    table = records.table.copy()
    table.loc[table["split"] == "val", "Edema"] = 0
    other = Records(table, FINDINGS)
    cells = scored(other, sweep(other, {"imagenet": 1.0, "moco": 1.6}))
    found = compare(cells, other, baseline="imagenet", metrics=["accuracy"], replicates=60)
    at = {(m.init, m.finding): m for m in found.means}
    assert at["moco", "Edema"].value is None
    assert "validation split has 0 positives" in at["moco", "Edema"].note
    assert at["moco", "macro"].value == at["moco", "Effusion"].value
    assert any("without what is undefined: Edema (no threshold" in note for note in found.notes)


def test_accuracy_of_exclusive_findings_is_that_of_the_choice(records):
    table = records.table.copy()
    table["Effusion"] = 1 - table["Edema"]
    other = Records(table, FINDINGS)
    cells = scored(other, sweep(other, {"imagenet": 1.0, "moco": 1.6}), exclusive=True)
    found = compare(cells, other, baseline="imagenet", metrics=["auroc", "accuracy"], replicates=60)
    test = (table["split"] == "test").to_numpy()
    (mean,) = [m for m in found.means if (m.metric, m.init) == ("accuracy", "moco")]
    truth = other.labels[test].argmax(axis=1)
    assert mean.finding == found.primaries["accuracy"] == "all"
    assert mean.seeds == pytest.approx(
        [(c.predictions.scores[test].argmax(axis=1) == truth).mean() for c in cells if c.init == "moco"]
    )
    mixed = [*cells[:2], *(replace(c, report={**c.report, "exclusive": False}) for c in cells[2:])]
    with pytest.raises(ConfigError, match="accuracies are of different things"):
        compare(mixed, other, baseline="imagenet", metrics=["accuracy"])


def test_shots_are_a_budget_of_their_own(records, tmp_path):
    cells = sweep(records, {"imagenet": 1.0, "moco": 1.6}, shots=(1, 5, 0))
    found = compare(cells, records, baseline="imagenet", replicates=60)
    assert [m.budget.words for m in found.means if (m.init, m.finding) == ("moco", "macro")] == [
        "1 shot",
        "5 shots",
        "100\u202f%",
    ]
    assert found.shots == tuple(c.shots for c in cells)
    for pair in found.differences:
        sides = [m for m in found.means if (m.budget, m.finding) == (pair.budget, pair.finding)]
        assert pair.value == pytest.approx(sides[1].value - sides[0].value)
    found.write_page(tmp_path / "compare.html")
    text = "".join(checked(tmp_path / "compare.html").text)
    assert "fig-efficiency-shots" in (tmp_path / "compare.html").read_text()
    assert "at 1 and 5 shots and at 100\u202f% of the labels" in text


def test_a_test_patient_of_one_run_in_the_training_of_another_is_refused(records):
    cells = sweep(records, {"imagenet": 1.0, "moco": 1.6}, seeds=1)
    patients = records.table["patient"].unique()
    by_patient = np.array([["train", "val", "test"][int(p[1:]) % 3] for p in records.table["patient"]])
    whole = Records(records.table.assign(split=by_patient), FINDINGS)
    turned = np.roll(["train", "val", "test"], 1)
    other = np.array([turned[int(p[1:]) % 3] for p in records.table["patient"]])

    def split(one: Cell, splits: np.ndarray) -> Cell:
        table = one.predictions.table.assign(split=splits)
        return replace(
            one, predictions=Predictions(table[splits != "train"].reset_index(drop=True), FINDINGS)
        )

    apart = [split(cells[0], by_patient), split(cells[1], other)]
    with pytest.raises(RecordsError, match=r"is tested on \d+ patients .* that are no test patients of"):
        compare(apart, whole, baseline="imagenet")
    assert len(patients) == 100
    # A table without a split gets that of the runs, which transfer made.
    blank = Records(records.table.assign(split=""), FINDINGS)
    together = [split(one, by_patient) for one in cells]
    named = compare(together, whole, baseline="imagenet", replicates=20)
    assert compare(together, blank, baseline="imagenet", replicates=20).means == named.means
    assert named.images == int((by_patient == "test").sum())


def test_a_table_that_changed_between_the_runs_is_said(records):
    cells = sweep(records, {"imagenet": 1.0, "moco": 1.6}, seeds=1)
    cells = [replace(c, report={"provenance": {"records_sha256": c.init}}) for c in cells]
    assert "table of records was changed" in compare(cells, records, baseline="moco", replicates=99).notes[0]


def test_settings_that_differ_are_named_with_how_each_run_was_fitted(records, tmp_path):
    cells = sweep(records, {"imagenet": 1.0, "moco": 1.6}, seeds=1)
    cells[1] = replace(
        cells[1],
        settings={**cells[1].settings, "fit": "finetune", "view": {"flip": 0.5}, "out": "/home/ada/x"},
    )
    found = compare(cells, records, baseline="imagenet", replicates=60)
    assert found.settings == {
        "init": {"imagenet": "runs/imagenet", "moco": "runs/moco"},
        "fit": {"imagenet": "logistic", "moco": "finetune"},
        "view": {"imagenet": None, "moco": {"flip": 0.5}},
    }
    found.write_page(tmp_path / "compare.html")
    text = "".join(checked(tmp_path / "compare.html").text)
    assert "What differs" in text
    assert "flip=0.5" in text
    assert "/home/ada" not in text


def test_places_are_by_value_and_the_clearly_worse_are_apart(records, tmp_path):
    cells = [replace(c, parameters=5) for c in sweep(records, shots=(0, 5))]
    found = compare(cells, records, baseline="imagenet", replicates=1000)
    assert [s.budget.words for s in found.standings] == ["100\u202f%"] * 4 + ["5 shots"] * 4
    first = found.standings[:4]
    assert [s.rank for s in first] == [1, 2, 3, 4]
    assert [s.value for s in first] == sorted((s.value for s in first), reverse=True)
    assert all(s.rank_low <= s.rank <= s.rank_high <= s.among == 4 for s in first)
    at = {s.init: s for s in first}
    assert (at["simclr"].rank, at["simclr"].rank_low, at["simclr"].rank_high, at["simclr"].apart) == (
        1,
        1,
        1,
        False,
    )
    assert (at["pixels"].apart, at["pixels"].floor, at["pixels"].rank_low) == (True, True, 4)
    assert not at["moco"].floor
    assert at["moco"].parameters == 5
    mean = {m.init: m for m in found.means if m.finding == "macro" and not m.shots}
    assert (at["moco"].low, at["moco"].high) == (mean["moco"].low, mean["moco"].high)
    found.write_leaderboard(tmp_path / "leaderboard.html")
    page = checked(tmp_path / "leaderboard.html")
    text = " ".join("".join(page.text).split())
    assert "with 100 % of the labels: simclr is higher than every other" in text
    assert f"{at['moco'].value:.3f} ({at['moco'].low:.3f} to {at['moco'].high:.3f})" in text
    assert "http" not in (tmp_path / "leaderboard.html").read_text()


def test_equal_runs_share_the_first_place_and_none_is_apart(records):
    cells = sweep(records, {"imagenet": 1.0})
    twins = [replace(c, init="twin", run=f"{c.run}-twin") for c in cells]
    found = compare([*cells, *twins], records, baseline="imagenet", replicates=200)
    assert [(s.rank, s.rank_low, s.rank_high, s.apart) for s in found.standings] == [(1, 1, 1, False)] * 2


def test_too_few_replicates_to_tell_any_from_the_best_are_said(records, tmp_path):
    cells = sweep(records)
    compare(cells, records, baseline="imagenet", replicates=50).write_leaderboard(tmp_path / "l.html")
    assert (
        "50 replicates are too few to tell any from the best. Ask for 120"
        in (tmp_path / "l.html").read_text()
    )


def test_the_mean_auroc_is_unchanged_by_what_else_is_asked(records):
    cells = sweep(records, {"imagenet": 1.0, "moco": 1.6}, seeds=1)
    test = (records.table["split"] == "test").to_numpy()
    found = compare(
        cells, records, baseline="imagenet", metrics=["average_precision", "auroc"], replicates=20
    )
    (mean,) = [m for m in found.means if (m.metric, m.init, m.finding) == ("auroc", "moco", "macro")]
    scores = cells[1].predictions.scores[test]
    assert mean.value == pytest.approx(
        np.mean([roc_auc_score(records.labels[test, i], scores[:, i]) for i in range(2)])
    )
