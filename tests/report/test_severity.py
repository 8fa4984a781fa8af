"""Grades of severity in a report."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from hilum.report.evaluate import evaluate
from hilum.report.page import write_page
from tests.report.samples import predicted, table

FINDINGS = ("edema≥1", "edema≥2", "edema≥3", "Nodule")


def graded(num=360):
    """Grades 0 to 3 with an unknown one among the tests, and their probabilities of "k or more"."""
    random = np.random.default_rng(0)
    grades = random.integers(0, 4, num)
    base = pd.DataFrame(
        {
            "image": [f"/films/{i:04d}.png" for i in range(num)],
            "patient": [f"p{i // 2}" for i in range(num)],
            "split": [("train", "val", "test")[i // 2 % 3] for i in range(num)],
        }
    )
    truth = np.column_stack([grades >= k for k in (1, 2, 3)] + [random.random(num) < 0.3]).astype(np.float32)
    truth[4, :3] = np.nan
    score = 1 / (1 + np.exp(-(2 * np.nan_to_num(truth) - 1 + random.normal(size=truth.shape))))
    return base, grades, truth, score


def test_a_report_has_the_kappa_and_the_table_of_every_severity(tmp_path):
    base, grades, truth, score = graded()
    report = evaluate(predicted(base, score, FINDINGS), table(base, truth, FINDINGS), replicates=50)
    cuts = [t.value for t in report.thresholds][:3]
    rows = (base["split"] == "test").to_numpy() & ~np.isnan(truth[:, 0])
    decided = (score[rows, :3] >= cuts).sum(axis=1)
    kappa = report.estimate("quadratic_kappa", "edema")
    assert kappa.value == pytest.approx(cohen_kappa_score(grades[rows], decided, weights="quadratic"))
    assert kappa.low < kappa.value < kappa.high
    assert (kappa.images, kappa.positives) == (rows.sum(), (grades[rows] > 0).sum())
    (found,) = report.grades
    assert (found.finding, found.labels) == ("edema", ("0", "1", "2", "3"))
    assert found.counts == tuple(map(tuple, confusion_matrix(grades[rows], decided).tolist()))
    write_page(report, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Grades of edema" in page
    assert f"{kappa.value:.3f}" in page


def test_without_thresholds_a_kappa_is_undefined_and_says_so(tmp_path):
    base, _, truth, score = graded()
    base["split"] = ""
    report = evaluate(predicted(base, score, FINDINGS), table(base, truth, FINDINGS), replicates=50)
    kappa = report.estimate("quadratic_kappa", "edema")
    assert (kappa.value, kappa.note, report.grades) == (None, "undefined: no threshold", ())
    write_page(report, tmp_path / "report.html")
    assert "Grades of edema" in (tmp_path / "report.html").read_text()
