import numpy as np
import pandas as pd
import pytest

from hilum.errors import ConfigError, RecordsError
from hilum.records.table import Records
from hilum.report.evaluate import evaluate
from hilum.report.external import evaluate_elsewhere, thresholds_from
from tests.report.samples import predicted, sample


def elsewhere():
    """The same model's predictions on another hospital's films, whose labels have other names."""
    records, predictions = sample(seed=9, splits=("",))
    names = {"Edema": "Pulmonary Edema", "Effusion": "pleural_effusion"}
    theirs = records.table.rename(columns=names).assign(Fracture=0.0)
    return Records(theirs, (*names.values(), "Fracture")), predictions


@pytest.fixture(scope="module")
def home():
    records, predictions = sample()
    return evaluate(predictions, records, replicates=50)


def test_thresholds_come_from_home_and_findings_are_paired(home):
    records, predictions = elsewhere()
    report = evaluate_elsewhere(predictions, records, home=home, name="probe", match={}, replicates=50)
    assert [t.value for t in report.thresholds] == [t.value for t in home.thresholds]
    assert all("as probe chose it" in t.criterion for t in report.thresholds)
    assert report.findings == ("Edema", "Effusion")
    for column, finding in enumerate(report.findings):
        truth = records.labels[:, column]
        called = predictions.scores[:, column] >= home.thresholds[column].value
        assert report.estimate("sensitivity", finding).value == pytest.approx(called[truth == 1].mean())
        assert report.estimate("specificity", finding).value == pytest.approx((~called)[truth == 0].mean())
    notes = " ".join(report.notes)
    assert "Edema is Pulmonary Edema, Effusion is pleural_effusion" in notes
    assert "Fracture" in notes  # labelled only


def test_labels_from_elsewhere_move_no_threshold(home):
    records, predictions = elsewhere()
    other = Records(records.table.assign(**{"Pulmonary Edema": 1 - records.table["Pulmonary Edema"]}),
                    records.findings)  # fmt: skip
    flipped = evaluate_elsewhere(predictions, other, home=home, name="probe", match={}, replicates=50)
    assert [t.value for t in flipped.thresholds] == [t.value for t in home.thresholds]


def test_a_validation_split_elsewhere_chooses_nothing(home):
    records, predictions = sample(seed=9)
    report = evaluate_elsewhere(predictions, records, home=home, name="probe", match={}, replicates=50)
    assert [t.value for t in report.thresholds] == [t.value for t in home.thresholds]


def test_thresholds_are_read_from_a_file(home, tmp_path):
    (tmp_path / "probe").mkdir()
    home.write(tmp_path / "probe" / "report.json")
    found = thresholds_from(tmp_path / "probe" / "report.json", ["Effusion", "Nodule"])
    assert found[0].value == home.thresholds[1].value
    assert "probe/report.json" in found[0].criterion
    assert (found[1].value, found[1].note) == (None, "probe/report.json has no threshold of it")
    with pytest.raises(ConfigError, match=r"no threshold of Nodule; it has Edema, Effusion"):
        thresholds_from(tmp_path / "probe" / "report.json", ["Nodule"])


def test_nothing_in_common_is_refused_with_the_way_out(home):
    records, predictions = elsewhere()
    other = predicted(predictions.table[["image", "patient", "split"]], predictions.scores[:, :1], ("Mass",))
    with pytest.raises(ConfigError, match="no threshold of Mass"):
        evaluate_elsewhere(other, records, home=home, name="probe", match={}, replicates=50)
    with pytest.raises(RecordsError, match=r"none is in both.*--match"):
        evaluate(other, records, replicates=50)


def test_exclusive_findings_need_no_threshold():
    records, predictions = sample(findings=("a", "b"))
    table = records.table.copy()
    table[["a", "b"]] = np.eye(2)[np.arange(len(table)) % 2]
    known = Records(table, ("a", "b"))
    home = evaluate(predictions, known, exclusive=True, replicates=20)
    assert isinstance(known.table, pd.DataFrame)
    report = evaluate_elsewhere(predictions, known, home=home, name="probe", match={}, replicates=20)
    assert report.thresholds == ()
    assert report.estimate("accuracy", "all") is not None
