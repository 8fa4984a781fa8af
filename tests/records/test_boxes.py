"""Boxes of findings, and which films were looked at."""

import numpy as np
import pandas as pd
import pytest

from hilum.errors import RecordsError
from hilum.records.boxes import asked, boxed_findings, boxes_of, require_boxes, unplaced
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
    with pytest.raises(
        RecordsError, match=r"'Nodul'.*they name Mass, Nodule\); did you mean 'Nodule'\? Boxes"
    ):
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


def test_a_film_that_shows_a_finding_nobody_boxed_is_no_negative_of_it():
    """As in ChestX-ray14: films have labels, few of the positive ones have boxes."""
    cells = [CELLS[3], "", '[["Nodule", 1, 2, 3, 4]]', "[]", "", ""]
    base = {"image": list("abcdef"), "patient": list("abcdef"), "split": "", "boxes": cells}
    mass = np.array([1, 1, 1, 1, 0, np.nan])
    records = Records(pd.DataFrame(base | {"Mass": mass}), ("Mass",))
    assert asked(records, ["Mass"]).tolist() == [True, False, False, False, True, False]
    assert unplaced(records, ["Mass"]).tolist() == [False, True, True, True, False, False]
    assert not unplaced(Records(pd.DataFrame(base), ()), ["Mass"]).any()


def test_a_film_is_asked_about_only_if_it_was_for_every_finding():
    cells = [CELLS[0], CELLS[3], "[]", ""]
    labels = {"Mass": np.array([1, 1, 0, 0.0]), "Nodule": np.array([1, np.nan, 0, np.nan])}
    both = Records(table(boxes=cells, **labels), ("Mass", "Nodule"))
    assert asked(both, ["Mass"]).tolist() == [True] * 4
    assert asked(both, ["Mass", "Nodule"]).tolist() == [True, False, True, False]
    one = Records(table(boxes=cells, Mass=labels["Mass"]), ("Mass",))
    assert asked(one, ["Mass", "Nodule"]).tolist() == [True, True, True, False]


def test_a_film_with_a_finding_that_nobody_boxed_is_no_negative_whatever_else_is_boxed():
    nan = np.nan
    mass, nodule = [1.0, 1.0, 0.0, nan], [1.0, 0.0, 1.0, 0.0]
    records = Records(table(boxes=CELLS, Mass=mass, Nodule=nodule), ("Mass", "Nodule"))
    assert asked(records, ["Mass"]).tolist() == [True, False, True, True]
    assert asked(records, ["Nodule"]).tolist() == [True, True, False, True]
    assert asked(records, ["Mass", "Nodule"]).tolist() == [True, False, False, True]
    half = Records(table(boxes=CELLS, Mass=mass), ("Mass",))  # of Nodule there are only boxes
    assert asked(half, ["Mass", "Nodule"]).tolist() == [True, False, False, True]
