import numpy as np
import pandas as pd
import pytest

from hilum.errors import ConfigError
from hilum.records.matching import SYNONYMS, match, matched
from hilum.records.table import Records


def records(*findings: str) -> Records:
    base = pd.DataFrame({"image": ["/a.png", "/b.png"], "patient": ["1", "2"], "split": ["", ""]})
    labels = np.arange(2 * len(findings)).reshape(2, -1) % 2
    return Records(
        pd.concat([base, pd.DataFrame(labels.astype(np.float32), columns=list(findings))], axis=1), findings
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("Edema", "Edema"),
        ("Pleural_Thickening", "pleural thickening"),
        ("Effusion", "Pleural Effusion"),
        ("PleuralEffusion", "effusion"),
        ("Oedema", "Pulmonary_Edema"),
        ("Infiltration", "Lung Infiltrate"),
        ("tuberculosis", "TB"),
    ],
)
def test_names_of_one_meaning_are_paired(ours, theirs):
    expected = {} if theirs == "Lung Infiltrate" else {ours: theirs}  # only what the table says
    assert match([ours], [theirs]).names == expected


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("Lung Opacity", "Consolidation"),
        ("Lung Opacity", "Pneumonia"),
        ("Fracture", "Rib Fracture"),
        ("No Finding", "Normal"),
        ("Nodule", "Nodule/Mass"),
        ("Emphysema", "Subcutaneous Emphysema"),
        ("Cardiomegaly", "Enlarged Cardiomediastinum"),
        ("Pleural Thickening", "Pleural Other"),
        ("Consolidation", "Infiltration"),
    ],
)
def test_parents_children_and_neighbours_are_not(ours, theirs):
    found = match([ours], [theirs])
    assert (found.names, found.predicted_only, found.labelled_only) == ({}, (ours,), (theirs,))


def test_no_name_has_two_meanings():
    names = [name for group in SYNONYMS for name in group]
    assert len(set(names)) == len(names)


def test_equal_names_come_before_alike_ones_and_alike_ones_before_synonyms():
    found = match(["Effusion", "pleural effusion"], ["Pleural Effusion", "Effusion"])
    assert found.names == {"Effusion": "Effusion", "pleural effusion": "Pleural Effusion"}


def test_the_users_word_comes_first():
    found = match(["Opacity", "Edema"], ["Lung Lesion", "Edema"], chosen={"Opacity": "Lung Lesion"})
    assert found.names == {"Opacity": "Lung Lesion", "Edema": "Edema"}


def test_two_that_are_as_near_are_for_the_user_to_choose():
    with pytest.raises(ConfigError, match=r"'Edema'.*'Oedema', 'Pulmonary Edema'.*--match Edema=Oedema"):
        match(["Edema"], ["Oedema", "Pulmonary Edema"])
    with pytest.raises(ConfigError, match=r'--match "Pleural Effusion=EFFUSION"'):
        match(["Pleural Effusion", "Pleural Effusions"], ["EFFUSION"])


def test_a_chosen_name_that_is_unknown_or_taken_twice_is_refused():
    with pytest.raises(ConfigError, match="predictions have no finding 'Oedem'; did you mean 'Oedema'"):
        match(["Oedema"], ["Edema"], chosen={"Oedem": "Edema"})
    with pytest.raises(ConfigError, match="records have no finding 'Edma'; did you mean 'Edema'"):
        match(["Oedema"], ["Edema"], chosen={"Oedema": "Edma"})
    with pytest.raises(ConfigError, match="'Edema' of the records is given to two"):
        match(["A", "B"], ["Edema"], chosen={"A": "Edema", "B": "Edema"})


def test_records_get_the_models_names_and_keep_their_labels():
    theirs = records("Pleural Effusion", "Fracture")
    ours, notes = matched(theirs, ["Effusion", "Edema"])
    assert ours.findings == ("Effusion", "Fracture")
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert notes == (
        "Findings of other names, the model's first, then the records': Effusion is Pleural Effusion.",
    )
    same, none = matched(records("Edema"), ["Edema"])
    assert (same.findings, none) == (("Edema",), ())


def test_a_column_whose_name_was_given_away_is_left_out_and_said():
    theirs = records("Opacity", "Lung Lesion")
    ours, notes = matched(theirs, ["Opacity"], chosen={"Opacity": "Lung Lesion"})
    assert ours.findings == ("Opacity",)
    np.testing.assert_array_equal(ours.labels[:, 0], theirs.labels[:, 1])
    assert "Not scored" in notes[1]
    swapped, _ = matched(records("A", "B"), ["A", "B"], chosen={"A": "B", "B": "A"})
    np.testing.assert_array_equal(swapped.labels, records("A", "B").labels)
    assert swapped.findings == ("B", "A")
