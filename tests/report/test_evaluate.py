import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score, roc_curve

from hilum.errors import ConfigError, MissingError, RecordsError
from hilum.metrics.bootstrap import DECISIONS
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.report.evaluate import Floor, Report, evaluate
from tests.report.samples import predicted, sample, table

FAST = {"replicates": 50}


def flipped(records: Records, split: str) -> Records:
    changed = records.table.copy()
    rows = changed["split"] == split
    for finding in records.findings:
        changed.loc[rows, finding] = 1 - changed.loc[rows, finding]
    return Records(changed, records.findings)


def test_report_json_round_trip(tmp_path):
    records, predictions = sample()
    report = evaluate(
        predictions,
        records,
        **FAST,
        floors=[Floor("random weights", 0.6)],
        notes=["a note"],
        provenance={"config": {"seed": 0, "path": tmp_path}, "sha256": "0" * 64},
    )
    report.write(tmp_path / "report.json")
    assert Report.read(tmp_path / "report.json") == report


def test_every_number_in_report_json_has_its_interval_and_counts():
    records, predictions = sample()
    content = json.loads(evaluate(predictions, records, **FAST).to_json())
    assert content["schema"] == "hilum.report/1"
    # Eight metrics of two findings and their mean; two of them with two more averages.
    assert len(content["estimates"]) == 8 * 3 + 2 * 2
    for estimate in content["estimates"]:
        assert {"value", "low", "high", "images", "patients", "positives", "note"} <= set(estimate)
        assert estimate["low"] <= estimate["value"] <= estimate["high"]


def test_another_schema_is_refused(tmp_path):
    path = tmp_path / "report.json"
    path.write_text('{"schema": "hilum.report/99"}')
    with pytest.raises(RecordsError, match=r"hilum\.report/99"):
        Report.read(path)
    path.write_text('{"schema": "hilum.report/1"}')
    with pytest.raises(RecordsError, match="findings"):
        Report.read(path)
    with pytest.raises(MissingError):
        Report.read(tmp_path / "absent.json")


def test_ranking_metrics_are_those_of_scikit_learn_on_the_test_split():
    records, predictions = sample()
    report = evaluate(predictions, records, **FAST)
    test = (records.table["split"] == "test").to_numpy()
    for i, finding in enumerate(records.findings):
        truth, score = records.labels[test, i], predictions.scores[test, i]
        auroc, precision = report.estimate("auroc", finding), report.estimate("average_precision", finding)
        assert auroc.value == pytest.approx(roc_auc_score(truth, score))
        assert precision.value == pytest.approx(average_precision_score(truth, score))
        assert (auroc.images, auroc.positives) == (test.sum(), truth.sum())
    assert report.images == test.sum()
    assert report.patients == 20


def test_thresholds_never_see_the_test_split():
    records, predictions = sample()
    before = evaluate(predictions, records, **FAST).thresholds
    assert all(t.value is not None for t in before)
    assert evaluate(predictions, flipped(records, "test"), **FAST).thresholds == before
    assert evaluate(predictions, flipped(records, "val"), **FAST).thresholds != before


def test_the_threshold_maximises_sensitivity_and_specificity_on_validation():
    records, predictions = sample()
    held = (records.table["split"] == "val").to_numpy()
    for i, threshold in enumerate(evaluate(predictions, records, **FAST).thresholds):
        truth, score = records.labels[held, i], predictions.scores[held, i]
        chosen = score >= threshold.value
        false, true, _ = roc_curve(truth, score)
        reached = chosen[truth == 1].mean() + (~chosen)[truth == 0].mean() - 1
        assert reached == pytest.approx((true - false).max())


def test_decisions_and_their_counts_agree():
    records, predictions = sample()
    report = evaluate(predictions, records, **FAST)
    test = (records.table["split"] == "test").to_numpy()
    for i, (cut, counts) in enumerate(zip(report.thresholds, report.confusion, strict=True)):
        truth = records.labels[test, i]
        expected = confusion_matrix(truth, predictions.scores[test, i] >= cut.value)
        np.testing.assert_array_equal(np.array(counts.counts), expected)
        (tn, fp), (fn, tp) = expected
        at = {m: report.estimate(m, counts.finding).value for m in ("sensitivity", "specificity", "accuracy")}
        assert at["sensitivity"] == pytest.approx(tp / (tp + fn))
        assert at["specificity"] == pytest.approx(tn / (tn + fp))
        assert at["accuracy"] == pytest.approx((tp + tn) / test.sum())
        more = {m: report.estimate(m, counts.finding).value for m in ("ppv", "npv", "f1")}
        assert more["ppv"] == pytest.approx(tp / (tp + fp))
        assert more["npv"] == pytest.approx(tn / (tn + fn))
        assert more["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))


def test_without_a_validation_split_decisions_are_undefined_with_the_reason():
    records, predictions = sample(splits=("train", "test"))
    report = evaluate(predictions, records, **FAST)
    for metric in DECISIONS:
        for finding in (*records.findings, "macro"):
            estimate = report.estimate(metric, finding)
            assert (estimate.value, estimate.low, estimate.high) == (None, None, None)
            assert "no validation split" in estimate.note
    assert report.estimate("auroc", "macro").value > 0.5
    assert report.confusion == ()
    assert report.worst == ()


def test_without_any_split_all_rows_are_scored_and_it_says_unsplit():
    records, predictions = sample(splits=("",))
    report = evaluate(predictions, records, **FAST)
    assert report.evaluated == "unsplit"
    assert report.images == len(records)
    assert "no test split" in report.notes[0]
    assert all(t.value is None and "no test split" in t.note for t in report.thresholds)


def test_a_finding_without_a_threshold_is_in_no_mean():
    records, predictions = sample()
    changed = records.table.copy()
    changed.loc[changed["split"] == "val", "Edema"] = 0
    report = evaluate(predictions, Records(changed, records.findings), **FAST)
    assert report.estimate("accuracy", "Edema").value is None
    macro = report.estimate("accuracy", "macro")
    assert macro.value == report.estimate("accuracy", "Effusion").value
    assert "Edema" in macro.note


def test_an_undefined_finding_is_in_no_mean_and_gets_no_curve():
    records, predictions = sample()
    changed = records.table.copy()
    changed.loc[changed["split"] == "test", "Edema"] = 0
    report = evaluate(predictions, Records(changed, records.findings), **FAST)
    undefined = report.estimate("auroc", "Edema")
    assert (undefined.value, undefined.positives) == (None, 0)
    assert undefined.note
    assert report.estimate("auroc", "macro").value == report.estimate("auroc", "Effusion").value
    assert {c.finding for c in report.curves} == {"Effusion"}


def test_a_missing_prediction_is_refused_by_name():
    records, predictions = sample()
    rows = np.flatnonzero(predictions.table["split"] == "test")
    lost = predictions.table["image"][rows[0]]
    fewer = Predictions(predictions.table.drop(index=rows[0]).reset_index(drop=True), predictions.findings)
    with pytest.raises(RecordsError, match=f"1 of the 60 .* have no prediction.*{lost}"):
        evaluate(fewer, records, **FAST)
    report = evaluate(fewer, records, **FAST, excluded={lost: "the file ends early"})
    assert report.excluded == {lost: "the file ends early"}
    assert report.images == 59


def test_a_missing_prediction_outside_the_test_split_is_no_error_but_is_said():
    records, predictions = sample()
    first = np.flatnonzero(predictions.table["split"] == "val")[0]
    fewer = Predictions(predictions.table.drop(index=first).reset_index(drop=True), predictions.findings)
    assert "59 of the 60" in evaluate(fewer, records, **FAST).notes[0]


def test_predictions_of_other_radiographs_are_refused():
    records, predictions = sample()
    changed = predictions.table.copy()
    changed.loc[0, "image"] = "/elsewhere/x.png"
    with pytest.raises(RecordsError, match=r"not in the records.*x.png"):
        evaluate(Predictions(changed, predictions.findings), records, **FAST)


def test_a_probability_that_is_not_finite_is_refused():
    records, predictions = sample()
    changed = predictions.table.copy()
    changed.loc[3, "Edema"] = np.nan
    with pytest.raises(RecordsError, match=r"not finite.*0003"):
        evaluate(Predictions(changed, predictions.findings), records, **FAST)


def test_the_order_of_rows_does_not_matter():
    records, predictions = sample()
    shuffled = Predictions(
        predictions.table.sample(frac=1, random_state=0).reset_index(drop=True), predictions.findings
    )
    assert evaluate(shuffled, records, **FAST) == evaluate(predictions, records, **FAST)


def test_findings_of_one_side_only_are_named():
    records, predictions = sample(findings=("Edema", "Effusion", "Hernia"))
    fewer = Predictions(predictions.table.drop(columns="Hernia"), ("Edema", "Effusion"))
    report = evaluate(fewer, records, **FAST)
    assert report.findings == ("Edema", "Effusion")
    assert any("Hernia" in note for note in report.notes)
    with pytest.raises(RecordsError, match="none is in both"):
        evaluate(
            Predictions(fewer.table.rename(columns={"Edema": "a", "Effusion": "b"}), ("a", "b")), records
        )


def test_the_worst_films_are_wrong_and_no_other_wrong_film_is_surer():
    records, predictions = sample()
    report = evaluate(predictions, records, **FAST)
    cuts = {t.finding: t.value for t in report.thresholds}
    joined = records.table.merge(predictions.table, on="image", suffixes=("", "_score"))
    joined = joined[joined["split"] == "test"]
    for finding in records.findings:
        score = joined[f"{finding}_score"]
        false = joined[(joined[finding] == 0) & (score >= cuts[finding])]
        expected = false.sort_values(f"{finding}_score", ascending=False)["image"][:3].tolist()
        shown = [w.image for w in report.worst if w.finding == finding and w.decision == "present"]
        assert shown == expected
        assert shown


def test_exclusive_findings_are_decided_by_the_most_probable():
    findings = ("normal", "viral", "bacterial")
    records, predictions = sample(findings=findings, patients=90)
    rng = np.random.default_rng(0)
    choice = rng.integers(3, size=len(records))
    score = np.eye(3)[choice] * 0.8 + rng.random((len(records), 3))
    score /= score.sum(axis=1, keepdims=True)
    base = records.table[["image", "patient", "split"]]
    records, predictions = table(base, np.eye(3)[choice], findings), predicted(base, score, findings)
    report = evaluate(predictions, records, exclusive=True, **FAST)
    test = (base["split"] == "test").to_numpy()
    expected = confusion_matrix(choice[test], score[test].argmax(axis=1))
    np.testing.assert_array_equal(np.array(report.confusion[0].counts), expected)
    accuracy = report.estimate("accuracy", "all")
    assert accuracy.value == pytest.approx(expected.trace() / expected.sum())
    assert accuracy.low < accuracy.value < accuracy.high
    recall = np.diag(expected) / expected.sum(axis=1)
    for i, finding in enumerate(findings):
        assert report.estimate("sensitivity", finding).value == pytest.approx(recall[i])


def test_several_findings_at_once_are_refused_where_they_exclude_each_other():
    records, predictions = sample()
    with pytest.raises(RecordsError, match="exactly one finding"):
        evaluate(predictions, records, exclusive=True, **FAST)


def test_counts_cover_every_split_and_finding():
    records, predictions = sample()
    report = evaluate(predictions, records, **FAST)
    assert [c.split for c in report.counts] == ["train", "train", "val", "val", "test", "test"]
    for count in report.counts:
        part = records.where(count.split).table
        assert count.positives == (part[count.finding] == 1).sum()
        assert count.positives + count.negatives + count.unknown == count.images == len(part)
        assert count.patients == 20


def test_curves_are_those_of_scikit_learn_inside_their_bands():
    records, predictions = sample(patients=150)
    report = evaluate(predictions, records, **FAST)
    test = (records.table["split"] == "test").to_numpy()
    for curve in report.curves:
        i = records.findings.index(curve.finding)
        truth, score = records.labels[test, i], predictions.scores[test, i]
        x, y, low, high = (np.array(a) for a in (curve.x, curve.y, curve.low, curve.high))
        assert (low <= high).all()
        if curve.kind == "roc":
            false, true, _ = roc_curve(truth, score, drop_intermediate=False)
            steps = [true[false <= at + 1e-9].max() for at in x]
            np.testing.assert_allclose(y, steps, atol=1e-5)
            area = np.trapezoid(y, x)
            assert area == pytest.approx(report.estimate("auroc", curve.finding).value, abs=0.01)
        else:
            assert curve.chance == pytest.approx(truth.mean())
            assert y.mean() == pytest.approx(average_precision_score(truth, score), abs=0.03)


def test_equal_probabilities_give_the_diagonal_and_the_prevalence():
    records, predictions = sample()
    flat = predictions.table.assign(Edema=0.5, Effusion=0.5)
    report = evaluate(Predictions(flat, predictions.findings), records, **FAST)
    for curve in report.curves:
        level = curve.x if curve.kind == "roc" else np.full(101, curve.chance)
        np.testing.assert_allclose(curve.y, level, atol=1e-5)


@pytest.mark.parametrize("criterion", ["sensitivity=0.9", "specificity=0.9"])
def test_a_rate_to_reach_is_reached_on_validation_and_named(criterion):
    records, predictions = sample()
    held = (records.table["split"] == "val").to_numpy()
    report = evaluate(predictions, records, threshold=criterion, **FAST)
    for i, threshold in enumerate(report.thresholds):
        truth, called = records.labels[held, i], predictions.scores[held, i] >= threshold.value
        rate = called[truth == 1].mean() if criterion.startswith("sens") else (~called)[truth == 0].mean()
        assert rate >= 0.9
        assert criterion.replace("=", " ") in threshold.criterion
        assert threshold.criterion.endswith("on the validation split")


def test_a_rate_that_no_threshold_reaches_is_said():
    records, predictions = sample(findings=("Edema",))
    flat = Predictions(predictions.table.assign(Edema=0.5), ("Edema",))
    report = evaluate(flat, records, threshold="specificity=0.9", **FAST)
    assert report.thresholds[0].note == "no threshold reaches specificity 0.9 on the validation split"
    assert report.estimate("ppv", "Edema").note == report.thresholds[0].note


def test_predictive_values_at_another_prevalence_follow_from_the_rates():
    records, predictions = sample()
    report = evaluate(predictions, records, prevalence={"Effusion": 0.02}, **FAST)
    sens, spec = (report.estimate(m, "Effusion").value for m in ("sensitivity", "specificity"))
    found = report.estimate("ppv_at_prevalence", "Effusion")
    assert found.value == pytest.approx(0.02 * sens / (0.02 * sens + 0.98 * (1 - spec)))
    assert found.low < found.value < found.high
    assert report.estimate("ppv_at_prevalence", "Edema") is None
    with pytest.raises(ConfigError, match=r"Efusion=0.02.*did you mean 'Effusion'"):
        evaluate(predictions, records, prevalence={"Efusion": 0.02}, **FAST)


def test_calibration_has_every_finding_and_no_correction_unless_asked_for():
    records, predictions = sample()
    report = evaluate(predictions, records, **FAST)
    assert [(c.finding, c.version) for c in report.calibration] == [
        (finding, "as predicted") for finding in records.findings
    ]
    assert report.recalibration == ()
    for one in report.calibration:
        assert sum(b.images for b in one.bins) == 60
        assert 0 < one.null_mean < one.null_high


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_a_correction_is_fitted_on_validation_and_shown_beside_the_prediction(method):
    records, predictions = sample(patients=400)
    plain = evaluate(predictions, records, **FAST)
    report = evaluate(predictions, records, calibrate=method, **FAST)
    assert report.calibration[:2] == plain.calibration
    assert report.estimates == plain.estimates
    assert [(c.finding, c.version) for c in report.calibration[2:]] == [
        (finding, method) for finding in records.findings
    ]
    blind = evaluate(predictions, flipped(records, "test"), calibrate=method, **FAST)
    assert blind.recalibration == report.recalibration
    other = evaluate(predictions, flipped(records, "val"), calibrate=method, **FAST)
    assert other.recalibration != report.recalibration


def test_a_wrong_scale_is_found_and_corrected(tmp_path):
    records, predictions = sample(patients=1500, findings=("Edema",), prevalence=0.5)
    odds = predictions.table["Edema"] / (1 - predictions.table["Edema"])
    sure = Predictions(predictions.table.assign(Edema=odds**4 / (1 + odds**4)), ("Edema",))
    report = evaluate(sure, records, calibrate="platt", **FAST)
    before, after = report.calibration
    assert before.evident
    assert before.estimates[1].high < 1
    assert not after.evident
    assert after.error < before.error / 3
    report.write(tmp_path / "report.json")
    assert Report.read(tmp_path / "report.json") == report


def test_a_correction_without_a_validation_split_is_refused_with_the_way_out():
    for splits in (("train", "test"), ("",)):
        records, predictions = sample(splits=splits)
        with pytest.raises(RecordsError, match=r"--calibrate platt.*hilum records split"):
            evaluate(predictions, records, calibrate="platt", **FAST)


def test_exclusive_findings_are_corrected_by_one_temperature():
    findings = ("a", "b", "c")
    records, predictions = sample(findings=findings, patients=200)
    rng = np.random.default_rng(0)
    right = rng.normal(size=(len(records), 3))
    chance = np.exp(right) / np.exp(right).sum(axis=1, keepdims=True)
    truth = np.stack([rng.multinomial(1, row) for row in chance])
    sure = np.exp(3 * right) / np.exp(3 * right).sum(axis=1, keepdims=True)
    base = records.table[["image", "patient", "split"]]
    records, predictions = table(base, truth, findings), predicted(base, sure, findings)
    report = evaluate(predictions, records, exclusive=True, calibrate="temperature", **FAST)
    assert [c.finding for c in report.calibration] == ["all", *findings] * 2
    assert report.recalibration[0].parameters["temperature"][0] == pytest.approx(3, rel=0.2)
    assert report.calibration[0].evident
    assert not report.calibration[4].evident
    with pytest.raises(RecordsError, match="use --calibrate temperature"):
        evaluate(predictions, records, exclusive=True, calibrate="isotonic", **FAST)


def test_a_report_of_before_averages_and_calibration_is_still_read(tmp_path):
    records, predictions = sample()
    report = evaluate(predictions, records, **FAST)
    content = json.loads(report.to_json())
    for name in ("prevalence", "calibration", "recalibration"):
        del content[name]
    (tmp_path / "report.json").write_text(json.dumps(content))
    assert Report.read(tmp_path / "report.json").estimates == report.estimates


def test_records_without_a_split_are_scored_by_that_of_the_predictions():
    records, predictions = sample()
    bare = Records(records.table.assign(split=""), records.findings)
    report, same = evaluate(predictions, bare, **FAST), evaluate(predictions, records, **FAST)
    assert report.evaluated == "test"
    assert report.estimates == same.estimates
    assert report.counts == same.counts
    assert report.notes == (
        "The records have no split; that of the predictions was used (60 train, 60 val, 60 test).",
        *same.notes,
    )


def test_splits_that_contradict_each_other_are_refused_with_an_example():
    records, predictions = sample()
    turned = predictions.table.assign(split=predictions.table["split"].replace({"train": "test"}))
    with pytest.raises(
        RecordsError, match=r"60 radiographs .*'/films/0000\.png' is in test of the pred.*train of"
    ):
        evaluate(Predictions(turned, predictions.findings), records, **FAST)
    silent = Predictions(predictions.table.assign(split=""), predictions.findings)
    assert evaluate(silent, records, **FAST).notes == evaluate(predictions, records, **FAST).notes
