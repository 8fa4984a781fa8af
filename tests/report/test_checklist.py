import re

import pytest

from hilum.report.checklist import CLAIM, TRIPOD, checklists
from hilum.report.evaluate import evaluate
from hilum.report.page import write_page
from tests.report.samples import sample
from tests.report.test_page import checked
from tests.report.test_subgroups import planted

PROVENANCE = {
    "versions": {"torch": "2.13.0", "hilum": "0.1"},
    "commit": "abc123",
    "settings": {"init": "/home/ada/runs/simclr", "arch": "resnet18", "fit": "logistic", "monitor": "auroc"},
}


def item(report, guideline: int, number: str, *, training: bool = False):
    return next(i for i in checklists(report, training=training)[guideline].items if i.number == number)


@pytest.fixture(scope="module")
def report():
    records, predictions, groups = planted()
    return evaluate(predictions, records, replicates=50, groups=groups, provenance=PROVENANCE)


def test_the_items_are_those_of_the_publications():
    claim = [number for rows in CLAIM.values() for number, _, _ in rows]
    assert claim == [str(number) for number in range(1, 45)]
    tripod = [number for rows in TRIPOD.values() for number, _, _ in rows]
    assert len(tripod) == len(set(tripod)) == 52
    whole = [int(re.match(r"\d+", number)[0]) for number in tripod]
    assert sorted(set(whole)) == list(range(1, 28))
    assert whole == sorted(whole)


def test_what_the_report_knows_is_filled_with_its_values(report):
    assert item(report, 0, "23").words == "torch 2.13.0, hilum 0.1"
    assert item(report, 0, "20").state == "filled by the tool"
    assert "50 bootstrap replicates over patients" in item(report, 0, "29").words
    assert "AUROC" in item(report, 0, "37").words
    assert item(report, 0, "24").words == "init simclr"  # no folders of anybody's disk
    assert f"Edema {report.thresholds[0].value:.3f}" in item(report, 1, "15").words
    assert "by sex, site, view" in item(report, 1, "23a").words
    assert item(report, 1, "23b").words == "by site"
    assert str(report.images) in item(report, 0, "35").words


def test_what_only_people_know_is_left_to_them(report):
    for guideline, numbers in ((0, ("1", "7", "16", "40", "44")), (1, ("3b", "5b", "17", "18a", "26"))):
        for number in numbers:
            one = item(report, guideline, number)
            assert (one.state, one.words, one.section) == ("you must fill", "", "")


def test_nothing_is_claimed_that_is_not_there():
    records, predictions = sample(splits=("",))
    bare = evaluate(predictions, records, replicates=50)
    for number in ("9", "19", "20", "22", "23", "24", "25", "26", "32", "33", "38", "39"):
        assert item(bare, 0, number).state == "you must fill", number
    assert item(bare, 1, "15").state == "you must fill"
    assert item(bare, 1, "23a").state == "filled in part"


def test_the_page_has_both_lists_and_its_links_lead_somewhere(report, tmp_path):
    for one in (report, evaluate(*sample(splits=("",))[::-1], replicates=50)):
        write_page(one, tmp_path / "report.html")
        text = " ".join(" ".join(checked(tmp_path / "report.html").text).split())
        assert "CLAIM, 2024 update" in text
        assert "TRIPOD+AI" in text
        assert "you must fill" in text
    first = checklists(report)[0]
    assert re.fullmatch(r"\d+ of 44 filled, \d+ in part, \d+ left for you", first.summary)
