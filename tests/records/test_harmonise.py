import json

import numpy as np
import pandas as pd
import pytest

from hilum.errors import ConfigError, RecordsError
from hilum.records.harmonise import State, contradictions, fill_parents, renamed, states
from hilum.records.table import Records

NAN = float("nan")


def read(tmp_path, labels, **columns):
    """A table as a file has it: 1, 0, -1 and empty, read so that all four stay apart."""
    count = len(next(iter(labels.values())))
    table = {"image": [f"{i}.png" for i in range(count)], "patient": [f"p{i}" for i in range(count)]}
    pd.DataFrame(table | columns | labels).to_csv(tmp_path / "films.csv", index=False)
    return Records.read(tmp_path / "films.csv", uncertain="soft", check_files=False)


def test_the_four_states_of_a_label_stay_apart(tmp_path):
    records = read(tmp_path, {"Edema": ["1", "0", "-1", ""]})
    expected = [State.POSITIVE, State.NEGATIVE, State.UNCERTAIN, State.NOT_MENTIONED]
    assert states(records)[:, 0].tolist() == expected


def test_findings_and_their_boxes_get_canonical_names(tmp_path):
    records = read(
        tmp_path,
        {"Oedema": ["1", "0"], "effusion": ["1", "0"], "My own": ["1", "0"]},
        boxes=['[["effusion", 1, 2, 3, 4], ["Lung nodule", 1, 2, 3, 4]]', ""],
    )
    found, changed = renamed(records)
    assert found.findings == ("Edema", "Pleural Effusion", "My own")
    assert changed == {"Oedema": "Edema", "effusion": "Pleural Effusion"}
    boxes = json.loads(found.table["boxes"][0])
    assert [box[0] for box in boxes] == ["Pleural Effusion", "Nodule"]
    assert boxes[0][1:] == [1, 2, 3, 4]
    assert found.table["boxes"][1] == ""


def test_a_name_that_the_user_gives_goes_first(tmp_path):
    found, changed = renamed(
        read(tmp_path, {"Opacity": ["1", "0"]}), {"Opacity": "lung opacities", "absent": "Edema"}
    )
    assert found.findings == ("Lung Opacity",)
    assert changed == {"Opacity": "Lung Opacity"}


def test_two_columns_of_one_finding_are_refused(tmp_path):
    records = read(tmp_path, {"Effusion": ["1", "0"], "Pleural Effusion": ["0", "0"]})
    with pytest.raises(RecordsError, match="'Effusion', 'Pleural Effusion' would both be 'Pleural Effusion'"):
        renamed(records)
    with pytest.raises(RecordsError, match="'Effusion', 'patient' would both be 'patient'"):
        renamed(read(tmp_path, {"Effusion": ["1", "0"]}), {"Effusion": "patient"})


def test_a_positive_finding_makes_all_wider_ones_positive_where_they_are_not_known(tmp_path):
    records = read(
        tmp_path,
        {
            "Nodule": ["1", "1", "1", "0", "-1", ""],
            "Lung Lesion": ["", "-1", "0", "", "", ""],
            "Lung Opacity": ["", "", "", "", "", "1"],
        },
    )
    found, counts = fill_parents(records)
    assert np.array_equal(found.table["Lung Lesion"], [1, 1, 0, NAN, NAN, NAN], equal_nan=True)
    assert np.array_equal(found.table["Lung Opacity"], [1, 1, 1, NAN, NAN, 1], equal_nan=True)
    assert counts == {"Lung Lesion": 2, "Lung Opacity": 3}
    assert states(found)[:, 1].tolist() == [1, 1, 0, -2, -2, -2]


def test_negative_findings_make_no_wider_one_negative(tmp_path):
    records = read(tmp_path, {"Edema": ["0", "1"], "Consolidation": ["0", "0"], "Lung Opacity": ["", "1"]})
    found, counts = fill_parents(records)
    assert np.isnan(found.table["Lung Opacity"][0])
    assert counts == {}


def test_they_do_where_the_set_asked_for_all_of_them_and_all_are_negative(tmp_path):
    records = read(
        tmp_path,
        {
            "Edema": ["0", "0", "0", "0", "1", "0"],
            "Consolidation": ["0", "", "-1", "0", "0", "0"],
            "Lung Opacity": ["", "", "", "-1", "", "1"],
        },
    )
    found, counts = fill_parents(records, complete=["Lung Opacity"])
    assert np.array_equal(found.table["Lung Opacity"], [0, NAN, NAN, NAN, 1, 1], equal_nan=True)
    assert counts == {"Lung Opacity": 2}


def test_completeness_goes_up_level_by_level_in_any_order(tmp_path):
    records = read(
        tmp_path,
        {"Nodule": ["0", "1"], "Lung Lesion": ["", "0"], "Lung Opacity": ["", "1"], "Edema": ["0", "0"]},
    )
    for order in (["Lung Lesion", "Lung Opacity"], ["Lung Opacity", "Lung Lesion"]):
        found, _ = fill_parents(records, complete=order)
        assert found.labels[0].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("wide", "why"),
    [("Lung Opacty", "did you mean"), ("Edema", "no finding of the table is a case of 'Edema'")],
)
def test_completeness_of_what_is_not_there_is_refused(tmp_path, wide, why):
    records = read(tmp_path, {"Edema": ["0", "1"], "Lung Opacity": ["", "1"]})
    with pytest.raises(ConfigError, match=why):
        fill_parents(records, complete=[wide])


def test_a_positive_finding_below_a_negative_one_is_named_and_left(tmp_path):
    records = read(
        tmp_path,
        {"Mass": ["1", "1", "0", "-1"], "Nodule": ["0"] * 3 + ["1"], "Lung Opacity": ["0", "1", "0", "0"]},
    )
    found, _ = fill_parents(records)
    assert found.table["Lung Opacity"].tolist() == [0, 1, 0, 0]
    (mass, nodule) = contradictions(found)
    assert (mass.finding, mass.against, mass.films) == ("Mass", "Lung Opacity", 1)
    assert mass.examples == (str(tmp_path / "0.png"),)
    assert (nodule.finding, nodule.films) == ("Nodule", 1)
    assert mass.text == "Mass is positive and Lung Opacity negative on 1 films"


def test_no_finding_beside_a_disease_contradicts_it_and_beside_a_device_does_not(tmp_path):
    records = read(
        tmp_path,
        {
            "No Finding": ["1"] * 8 + ["0", "-1"],
            "Edema": ["1"] * 7 + ["0", "1", "1"],
            "Support Devices": ["1"] * 10,
        },
    )
    (one,) = contradictions(records)
    assert (one.finding, one.against, one.films, len(one.examples)) == ("Edema", "No Finding", 7, 5)
    assert "No Finding positive" in one.text
