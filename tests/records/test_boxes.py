"""Boxes of findings, and which films were looked at."""

import numpy as np
import pandas as pd
import pytest

from hilum.errors import RecordsError
from hilum.records.boxes import asked, boxed_findings, boxes_of, require_boxes
from hilum.records.table import Records

CELLS = ['[["Nodule", 92, 32, 108, 48], ["Mass", 1, 2, 3, 4]]', "[]", "", '[["Mass", 5, 6, 7, 8.5]]']


def table(**columns):
    base = {"image": list("abcd"), "patient": list("abcd"), "split": ""}
    return pd.DataFrame(base | columns)


def test_boxes_are_those_of_the_finding_and_their_absence_is_said():
    records = Records(table(boxes=CELLS), ())
    assert [found.tolist() for found in boxes_of(records, "Nodule")] == [[[92, 32, 108, 48]], [], [], []]
    assert boxes_of(records, "Mass")[3].tolist() == [[5, 6, 7, 8.5]]
    assert boxed_findings(records) == ["Mass", "Nodule"]
    require_boxes(records, "Mass", where="films.csv")
    with pytest.raises(RecordsError, match=r"'Nodul'.*they name Mass, Nodule\); did you mean 'Nodule'"):
        require_boxes(records, "Nodul", where="films.csv")
    bare = Records(table(), ())
    with pytest.raises(RecordsError, match="there is no column boxes"):
        require_boxes(bare, "Nodule", where="films.csv")


def test_a_film_without_boxes_is_a_negative_only_where_it_was_asked_about():
    assert asked(Records(table(boxes=CELLS), ()), ["Mass"]).tolist() == [True, True, False, True]
    labels = np.array([1.0, np.nan, 0.0, np.nan])
    labelled = Records(table(boxes=["", "", "", CELLS[3]], Mass=labels), ("Mass",))
    assert asked(labelled, ["Mass"]).tolist() == [False, False, True, True]
    assert asked(Records(table(), ()), ["Mass"]).tolist() == [False] * 4


def test_a_film_with_a_finding_that_nobody_boxed_is_no_negative_whatever_else_is_boxed():
    nan = np.nan
    mass, nodule = [1.0, 1.0, 0.0, nan], [1.0, 0.0, 1.0, 0.0]
    records = Records(table(boxes=CELLS, Mass=mass, Nodule=nodule), ("Mass", "Nodule"))
    assert asked(records, ["Mass"]).tolist() == [True, False, True, True]
    assert asked(records, ["Nodule"]).tolist() == [True, True, False, True]
    assert asked(records, ["Mass", "Nodule"]).tolist() == [True, False, False, True]
    half = Records(table(boxes=CELLS, Mass=mass), ("Mass",))  # of Nodule there are only boxes
    assert asked(half, ["Mass", "Nodule"]).tolist() == [True, False, False, True]
