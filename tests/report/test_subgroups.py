from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hilum.metrics.groups import GroupScore, Subgroups
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.report.evaluate import Report, evaluate
from hilum.report.page import write_page
from hilum.report.replicates import holm
from hilum.report.subgroup_figure import by_group
from hilum.report.subgroups import section
from tests.report.samples import predicted, sample, table
from tests.report.test_page import checked


def planted(seed: int = 0, *, worse: float = 1.6, findings: tuple[str, ...] = ("Edema", "Effusion")):
    """Edema is told worse in women; sites and views make no difference, and two patients are at site D."""
    rng = np.random.default_rng(seed)
    patients, films = 420, 2
    owner = np.repeat(np.arange(patients), films)
    sex = rng.choice(["female", "male"], patients)[owner]
    site = rng.choice(["A", "B", "C"], patients)
    site[:2] = "D"
    truth = (rng.random((len(owner), len(findings))) < 0.35).astype(np.float32)
    strength = np.full(truth.shape, 2.0)
    strength[sex == "female", 0] -= worse
    score = 1 / (1 + np.exp(-(strength * (truth - 0.5) + rng.normal(size=truth.shape))))
    base = pd.DataFrame(
        {
            "image": [f"/films/{i:04d}.png" for i in range(len(owner))],
            "patient": [f"p{i}" for i in owner],
            "split": np.array(["val", "test", "test"])[owner % 3],
        }
    )
    groups = pd.DataFrame(
        {"sex": sex, "site": site[owner], "view": rng.choice(["AP", "PA"], len(owner))},
        index=pd.Index(base["image"]),
    )
    return table(base, truth, findings), predicted(base, score, findings), groups


@pytest.fixture(scope="module")
def report() -> Report:
    records, predictions, groups = planted()
    return evaluate(predictions, records, replicates=200, groups=groups)


def test_a_planted_difference_is_told_and_no_other(report):
    told = [
        (one.column, d.finding, d.group, d.verdict)
        for one in report.subgroups
        for d in one.differences
        if d.verdict != "no evidence of a difference" and d.metric == "auroc"
    ]
    assert told == [("sex", "Edema", "female", "lower")]


def test_groups_hold_the_test_split_and_nothing_else(report):
    records, _, groups = planted()
    test = records.table[records.table["split"] == "test"]
    for one in report.subgroups:
        column = groups.loc[test["image"], one.column].to_numpy()
        for name, films, patients in one.groups:
            rows = column == name
            assert films == rows.sum()
            assert patients == test["patient"][rows].nunique()
        assert sum(films for _, films, _ in one.groups) == len(test)


def test_sensitivity_in_a_group_is_that_at_the_one_threshold(report):
    records, predictions, groups = planted()
    test = (records.table["split"] == "test").to_numpy()
    cut = {t.finding: t.value for t in report.thresholds}
    sex = groups["sex"].to_numpy()
    for column, finding in enumerate(records.findings):
        called, truth = predictions.scores[:, column] >= cut[finding], records.labels[:, column]
        for one in report.subgroups[0].scores:
            if (one.metric, one.finding) == ("sensitivity", finding):
                rows = test & (sex == one.group) & (truth == 1)
                assert one.value == pytest.approx(called[rows].mean())


def test_a_family_is_a_columns_groups_and_findings_in_one_metric(report):
    for one in report.subgroups:
        for metric in ("auroc", "sensitivity", "specificity"):
            family = [d for d in one.differences if d.metric == metric]
            assert [d.p_holm for d in family] == holm([d.p for d in family])
            groups = 1 if len(one.groups) == 2 else len({d.group for d in family})
            assert len(family) == groups * 2
            gaps = [g for g in one.gaps if g.metric == metric]
            assert [g.p_holm for g in gaps] == holm([g.p for g in gaps])


def test_a_group_with_too_few_is_on_the_page_with_its_counts(report, tmp_path):
    site = next(one for one in report.subgroups if one.column == "site")
    last = [s for s in site.scores if s.group == "D"]
    assert len(last) == 6
    assert all(s.value is None and s.note.startswith("too few patients") and s.images for s in last)
    write_page(report, tmp_path / "report.html")
    text = " ".join(" ".join(checked(tmp_path / "report.html").text).split())
    assert "too few" in text
    assert "site: D" in text


def test_a_gap_that_cannot_be_had_says_why():
    records, predictions, groups = planted()
    rare = groups[["site"]].assign(site=["D" if site == "D" else "E" for site in groups["site"]])
    shown = section(evaluate(predictions, records, replicates=50, groups=rare))["columns"][0]["gaps"]
    assert shown == [(name, *["too few patients in all groups but E"] * 3) for name in records.findings]


def test_the_page_tells_in_words_what_differs_and_what_does_not(report, tmp_path):
    write_page(report, tmp_path / "report.html")
    text = " ".join(" ".join(checked(tmp_path / "report.html").text).split())
    assert "AUROC of Edema is lower in female than in male" in text
    assert "No evidence of a difference between any group and the others" in text
    assert "True-positive-rate gap" in text
    assert "at the one threshold for all groups" in text


def test_groups_come_back_from_report_json(report, tmp_path):
    report.write(tmp_path / "report.json")
    assert Report.read(tmp_path / "report.json") == report


def test_a_report_without_groups_has_no_such_section(tmp_path):
    records, predictions = sample()
    report = evaluate(predictions, records, replicates=50)
    assert report.subgroups == ()
    write_page(report, tmp_path / "report.html")
    assert "Subgroups</h2>" not in (tmp_path / "report.html").read_text()
    checked(tmp_path / "report.html")


def test_one_group_alone_is_said_and_not_scored(tmp_path):
    records, predictions, groups = planted()
    alone = evaluate(predictions, records, replicates=50, groups=groups[["sex"]].assign(sex="female"))
    assert alone.subgroups[0].scores == ()
    assert alone.subgroups[0].note == "sex: all that is known is 'female'; there is nothing to compare"
    nobody = evaluate(predictions, records, replicates=50, groups=groups[["sex"]].assign(sex=""))
    assert nobody.subgroups[0].unknown == nobody.images
    write_page(nobody, tmp_path / "report.html")
    checked(tmp_path / "report.html")


def test_without_a_threshold_only_the_ranking_is_scored():
    records, predictions, groups = planted()
    unsplit = Records(records.table.assign(split=""), records.findings)
    predictions = Predictions(predictions.table.assign(split=""), predictions.findings)
    report = evaluate(predictions, unsplit, replicates=50, groups=groups[["sex"]])
    found = report.subgroups[0]
    (row, *_) = section(report)["columns"][0]["gaps"]
    assert row[2:] == ("no threshold was chosen", "no threshold was chosen")
    for one in found.scores:
        assert (one.value is None) == (one.metric != "auroc")
        assert one.images > 300
        assert one.note == ("" if one.metric == "auroc" else "no threshold")


def test_names_of_groups_are_escaped(tmp_path):
    records, predictions, groups = planted()
    hostile = groups[["sex"]].replace({"female": '<b>x</b> & "co" $y$'})
    report = evaluate(predictions, records, replicates=50, groups=hostile)
    write_page(replace(report, notes=()), tmp_path / "report.html")
    checked(tmp_path / "report.html")
    assert "<b>x" not in (tmp_path / "report.html").read_text()


def test_an_interval_of_a_group_without_an_error_is_marked_and_bounded():
    def score(metric: str, value: float, low: float) -> GroupScore:
        return GroupScore(metric, "Edema", "F", value, low, 1.0, 21, 20, positives=14, negatives=7)

    scores = (score("auroc", 1.0, 1.0), score("sensitivity", 1.0, 1.0), score("specificity", 0.9, 0.8))
    found = Subgroups("sex", (("F", 21, 20),), 0, scores, (), (), "")
    drawing = by_group("fig", [found], "Edema", overall={})
    assert drawing.rows[0][-3:] == (
        "1.000 (1.000 to 1.000)*",
        "1.000 (1.000 to 1.000)*",
        "0.900 (0.800 to 1.000)",
    )
    # scipy.stats.binomtest(14, 14).proportion_ci(0.95, "exact").low
    assert "would end at: sex: F, sensitivity: 0.77 of 14." in drawing.caption
    none = replace(found, scores=tuple(replace(one, value=0.9) for one in scores))
    assert "*" not in by_group("fig", [none], "Edema", overall={}).caption
