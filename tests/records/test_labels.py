import numpy as np
import pytest

from hilum.errors import RecordsError
from hilum.records.defects import Defects
from hilum.records.labels import Labels


def labels_of(*cells):
    labels = Labels("Edema")
    for start in range(0, len(cells), 2):  # chunk by chunk
        some = cells[start : start + 2]
        labels.add(some, np.arange(start + 2, start + 2 + len(some)))
    return labels


def test_one_zero_and_empty_are_labels_in_every_spelling(tmp_path):
    defects = Defects(tmp_path)
    labels = labels_of("1", "0", "1.0", "0.0", "", " 1 ", "  ")
    expected = np.array([1, 0, 1, 0, np.nan, 1, np.nan], np.float32)
    np.testing.assert_array_equal(labels.values("refuse", defects, guessed=False), expected)
    assert not len(defects)


@pytest.mark.parametrize(
    "cell", ["2", "U", "nan", "NaN", "True", "yes", "1,0", "01", "-0", "0.5", "1e0", "-2"]
)
def test_nothing_else_is_a_label(tmp_path, cell):
    defects = Defects(tmp_path)
    labels_of("1", "0", cell).values("one", defects, guessed=False)
    with pytest.raises(RecordsError, match="line 4, column 'Edema': found"):
        defects.check()


def test_columns_that_mostly_hold_labels_look_like_findings():
    assert labels_of("1", "0", "").looks_like_finding()
    assert labels_of("1", "-1", "U").looks_like_finding()
    assert not labels_of("", "").looks_like_finding()
    assert not labels_of("-1", "-1").looks_like_finding()
    assert not labels_of("1", "33", "54").looks_like_finding()


def test_what_becomes_of_uncertain_labels_is_chosen_and_otherwise_refused(tmp_path):
    for policy, expected in (("zero", [0, 0, 1]), ("one", [1, 1, 1]), ("ignore", [np.nan, np.nan, 1])):
        defects = Defects(tmp_path)
        values = labels_of("-1", "-1.0", "1").values(policy, defects, guessed=False)
        np.testing.assert_array_equal(values, np.array(expected, np.float32))
        assert not len(defects)
    labels_of("-1", "-1.0", "1").values("refuse", defects, guessed=False)
    with pytest.raises(RecordsError, match="in lines 2, 3; choose"):
        defects.check()
