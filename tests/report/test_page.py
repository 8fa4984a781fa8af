import re
from html.parser import HTMLParser

import numpy as np
import pytest

from hilum.errors import ImageError
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.report.evaluate import Floor, Report, evaluate
from hilum.report.history import training
from hilum.report.page import write_page
from hilum.report.pretraining import write_pretraining_page
from hilum.report.provenance import tables
from hilum.report.summary import headline
from hilum.report.words import number, reason
from tests.report.samples import sample

HOSTILE = '<b>Edema & "co"</b> $x$'
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Checker(HTMLParser):
    """Open and close tags match, ids are unique, references lead somewhere, tables have headers."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.tags, self.sources, self.text = [], [], [], [], [], []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        if tag not in VOID:
            self.open.append(tag)
        if "id" in found:
            self.ids.append(found["id"])
        self.links += [v for k, v in attributes if k == "href"]
        self.links += ["#" + found[k] for k in ("aria-labelledby",) if k in found]
        self.links += re.findall(r"url\((#[^)]+)\)", " ".join(v or "" for v in found.values()))
        self.sources += [v for k, v in attributes if k in ("src", "srcset", "data", "poster", "action")]
        if tag == "img":
            assert found.get("alt")

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.text.append(text)


def checked(path) -> Checker:
    checker = Checker()
    checker.feed(path.read_text())
    checker.close()
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    for link in checker.links:
        assert link[0] == "#"
        assert link[1:] in checker.ids
    assert all(source.startswith("data:image/png;base64,") for source in checker.sources)
    tags = [tag for tag, _ in checker.tags]
    assert {"header", "main", "nav", "footer", "h1"} <= set(tags)
    assert tags.count("table") == tags.count("caption")
    assert not {"script", "iframe", "object", "link"} & set(tags)
    for tag, found in checker.tags:
        assert tag != "th" or found["scope"] in ("row", "col")
        assert tag != "svg" or (found["role"] == "img" and found["aria-label"])
        assert not any(name.startswith("on") for name in found)
    return checker


@pytest.fixture(scope="module")
def report() -> Report:
    records, predictions = sample(findings=(HOSTILE, "Effusion"))
    return evaluate(
        predictions,
        records,
        replicates=50,
        floors=[Floor("Random weights", 0.612, 0.58, 0.64)],
        provenance={"config": {"records": "/home/ada/films.csv"}, "sha256": {"store": "f" * 64}},
    )


def films(path: str) -> np.ndarray:
    return np.full((300, 200), 128, dtype=np.uint8)


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    log = [{"step": i, "loss": 1 / (i + 1)} for i in range(10)]
    write_page(report, path, images=films, metrics=log)
    return path


def test_the_page_is_well_formed_and_loads_nothing(page):
    checked(page)
    text = page.read_text()
    assert "http" not in text
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert text.count("src=") == text.count('src="data:image/png;base64,')


def test_the_page_has_every_number(page, report):
    text = " ".join(" ".join(checked(page).text).split())
    for estimate in report.estimates:
        low, high = number(estimate.low), number(estimate.high)
        assert f"{number(estimate.value)} ({low} to {high})" in text
    for threshold in report.thresholds:
        assert number(threshold.value) in text
    for figure in (
        report.images,
        report.patients,
        *(n for c in report.confusion for r in c.counts for n in r),
    ):
        assert re.search(rf"\b{figure}\b", text)


def test_the_first_lines_say_result_interval_size_floors_and_warning(page, report):
    header = page.read_text().split("<main")[0]
    headline = report.headline
    for words in (number(headline.value), number(headline.low), number(headline.high), "For research only"):
        assert words in header
    assert f"{report.images} radiographs of {report.patients} patients" in header
    assert "Random weights reaches 0.612 (0.580 to 0.640)" in header


def test_the_page_has_averages_decisions_elsewhere_and_calibration(tmp_path):
    records, predictions = sample(patients=400)
    report = evaluate(
        predictions,
        records,
        replicates=50,
        threshold="specificity=0.8",
        prevalence={"Edema": 0.02},
        calibrate="platt",
    )
    write_page(report, tmp_path / "report.html")
    text = " ".join(" ".join(checked(tmp_path / "report.html").text).split())
    for estimate in (*report.estimates, *(e for c in report.calibration for e in c.estimates)):
        low, high = number(estimate.low), number(estimate.high)
        assert f"{number(estimate.value)} ({low} to {high})" in text
    for one in report.calibration:
        assert all(number(value) in text for value in (one.error, one.null_mean, one.null_high))
        assert all(number(part.probability) in text for part in one.bins)
    assert "specificity 0.8 or more on the validation split" in text
    assert "Platt correction was fitted on the validation split" in text
    assert 'id="fig-calibration"' in (tmp_path / "report.html").read_text()


def test_the_words_on_calibration_are_those_of_the_errors(tmp_path):
    records, predictions = sample(patients=800)
    sure = predictions.table.assign(Edema=(predictions.table["Edema"] > 0.5) * 0.9 + 0.05)
    report = evaluate(Predictions(sure, predictions.findings), records, replicates=50, calibrate="platt")
    write_page(report, tmp_path / "report.html")
    text = " ".join(" ".join(checked(tmp_path / "report.html").text).split())
    evident = [one.finding for one in report.calibration[:2] if one.evident]
    assert "Edema" in evident
    assert f"As predicted: miscalibrated, more than chance explains: {', '.join(evident)}" in text
    assert not any(one.evident for one in report.calibration[2:])
    assert "After the Platt correction: no evidence of miscalibration for any of the 2 findings" in text


def test_names_are_escaped_and_mathematics_is_not_read_into_them(page):
    text = page.read_text()
    assert "<b>Edema" not in text
    assert HOSTILE in "".join(checked(page).text)


def test_only_base_names_of_files_are_shown(page, report):
    text = page.read_text()
    assert report.worst
    assert "/films/" not in text
    assert "/home/ada" not in text
    assert "films.csv" in text
    assert report.worst[0].image.split("/")[-1] in text


def test_the_same_report_gives_the_same_bytes(page, report, tmp_path):
    log = [{"step": i, "loss": 1 / (i + 1)} for i in range(10)]
    write_page(report, tmp_path / "again.html", images=films, metrics=log)
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_an_undefined_finding_is_not_applicable_with_its_reason(tmp_path):
    records, predictions = sample()
    changed = records.table.copy()
    changed.loc[changed["split"] == "test", "Edema"] = 0
    report = evaluate(predictions, Records(changed, records.findings), replicates=50)
    write_page(report, tmp_path / "report.html")
    text = " ".join("".join(checked(tmp_path / "report.html").text).split())
    assert f"n/a {reason(report.estimate('auroc', 'Edema').note)}" in text
    assert "Mean AUROC over 1 of 2 findings" in text


def test_a_page_without_any_defined_number_is_still_a_page(tmp_path):
    records, predictions = sample(findings=("Edema",))
    none = Records(records.table.assign(Edema=0.0), ("Edema",))
    write_page(evaluate(predictions, none, replicates=50), tmp_path / "report.html")
    assert "AUROC of Edema is <strong>n/a</strong>" in (tmp_path / "report.html").read_text()
    checked(tmp_path / "report.html")


def test_an_unsplit_evaluation_says_so_in_the_first_sentence(tmp_path):
    records, predictions = sample(splits=("",))
    write_page(evaluate(predictions, records, replicates=50), tmp_path / "report.html")
    checked(tmp_path / "report.html")
    assert "unsplit" in (tmp_path / "report.html").read_text().split("</h1>")[0]


def test_exclusive_findings_show_their_confusion_matrix(tmp_path):
    records, predictions = sample(findings=("a", "b", "c"))
    table = records.table.copy()
    table[["a", "b", "c"]] = np.eye(3)[np.arange(len(table)) % 3]
    report = evaluate(predictions, Records(table, records.findings), exclusive=True, replicates=50)
    write_page(report, tmp_path / "report.html", images=films)
    text = " ".join(checked(tmp_path / "report.html").text)
    assert 'id="fig-confusion"' in (tmp_path / "report.html").read_text()
    assert f"{number(report.estimate('accuracy', 'all').value)}" in text


def test_films_that_cannot_be_read_leave_a_place_not_a_hole(report, tmp_path):
    def broken(path: str) -> np.ndarray:
        raise ImageError(f"{path}: gone")

    write_page(report, tmp_path / "report.html", images=broken)
    checked(tmp_path / "report.html")
    assert "no picture" in (tmp_path / "report.html").read_text()


def test_the_page_stays_below_eight_megabytes(tmp_path):
    findings = tuple(f"finding {i}" for i in range(18))
    records, predictions = sample(findings=findings, patients=90)
    rng = np.random.default_rng(0)

    def noise(path: str) -> np.ndarray:
        return rng.integers(0, 256, (300, 300)).astype(np.uint8)

    report = evaluate(predictions, records, replicates=10)
    write_page(report, tmp_path / "report.html", images=noise)
    size = (tmp_path / "report.html").stat().st_size
    assert 4_000_000 < size < 8_000_000
    assert "pictures were left out" in (tmp_path / "report.html").read_text()


def test_a_prediction_at_odds_with_everything_else_still_renders(tmp_path):
    records, predictions = sample(findings=("Edema",))
    perfect = predictions.table.assign(Edema=records.table["Edema"].astype(float))
    write_page(evaluate(Predictions(perfect, ("Edema",)), records, replicates=50), tmp_path / "report.html")
    checked(tmp_path / "report.html")
    assert "1.000" in (tmp_path / "report.html").read_text()


def test_what_was_logged_at_one_step_only_is_named_and_not_drawn(tmp_path):
    log = [
        {"step": 0, "rankme": 9.0},
        {"step": 2, "lr": 0.1, "loss": 3.0},
        {"step": 2, "lr": 0.1, "rankme": 8.0},
    ]
    drawn = training("fig", log)
    assert [row[0] for row in drawn.rows] == ["rankme"]
    assert drawn.caption.endswith("Logged at one step only, and so not drawn: loss, lr.")
    assert training("fig", log[1:]) is None
    write_pretraining_page(
        tmp_path / "report.html", title="hilum pretrain: a", trained="simclr", metrics=log[1:2], provenance={}
    )
    assert "there is no curve" in (tmp_path / "report.html").read_text()


def test_the_line_of_a_report_counts_positives_of_one_finding_alone(report):
    assert headline(report).endswith(" patients)")
    records, predictions = sample(findings=("Edema",))
    assert re.search(r"patients, \d+ positive\)$", headline(evaluate(predictions, records, replicates=50)))


def test_an_empty_list_is_none_in_a_table():
    assert tables({"excluded_unreadable": []}) == [("Evaluation", [("excluded unreadable", "none")])]
