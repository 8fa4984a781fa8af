import pandas as pd
import pytest

from hilum import find
from hilum.records.overlap import (
    NAMES,
    OVERLAPS,
    dataset_of,
    datasets_in,
    of_dataset,
    overlap,
    shared_films,
)
from hilum.records.table import Records


def records(*sites):
    names = [str(place) for place in range(len(sites))]
    table = pd.DataFrame({"image": names, "patient": names, "split": "", "site": sites}, dtype="str")
    return Records(table, ())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("NIH", "RSNA"),
        ("ChestX-ray14", "SIIM-ACR"),
        ("nih", "ChestX-Det10"),
        ("nih_cxr14", "ChestMNIST"),
        ("nih", "ranzcr_clip"),
        ("MIMIC-CXR-JPG", "MS-CXR"),
        ("mimic", "Chest ImaGenome"),
        ("CheXpert-small", "CheXlocalize"),
        ("PadChest", "padchest_gr"),
        ("VinDr", "VinBigData"),
        ("TBX11K", "Shenzhen"),
        ("TBX11K", "Montgomery"),
        ("Kermany", "PneumoniaMNIST"),
        ("COVID-19 Radiography Database", "RSNA"),
    ],
)
def test_a_data_set_and_what_was_made_of_it_share_films_in_either_order(one, other):
    (step,) = overlap(one, other)
    assert overlap(other, one) == (step,)
    assert step.source.startswith("https://")


def test_what_was_made_of_a_part_shares_films_with_the_whole():
    assert [step.whole for step in overlap("COVID-19 Radiography", "NIH")] == [
        "RSNA Pneumonia",
        "NIH ChestX-ray14",
    ]


def test_two_parts_of_one_data_set_can_share_films():
    assert {step.part for step in overlap("RSNA", "SIIM")} == {"RSNA Pneumonia", "SIIM-ACR Pneumothorax"}
    assert overlap("COVIDx", "COVID-19 Radiography")[0].whole == "RSNA Pneumonia"


@pytest.mark.parametrize(
    ("one", "other"),
    [("MIMIC", "CheXpert"), ("NIH", "PadChest"), ("NIH", "Object-CXR"), ("NIH", "NIH"), ("St Mary", "NIH")],
)
def test_other_pairs_are_not_known_to(one, other):
    assert overlap(one, other) == ()


def test_every_data_set_of_the_registry_is_found_by_each_of_its_names_and_has_a_source():
    for name, words in NAMES.items():
        assert {dataset_of(word) for word in (name, *words)} == {name}
    named = {name for step in OVERLAPS for name in (step.part, step.whole)}
    assert named <= set(NAMES)
    assert all(step.source.startswith("https://") and step.why for step in OVERLAPS)


def test_sites_of_a_table_name_data_sets_or_hospitals():
    assert datasets_in(records("rsna/A", "nih", "nih", "St Mary", "")) == (
        "NIH ChestX-ray14",
        "RSNA Pneumonia",
    )
    assert datasets_in(Records(records("a").table.drop(columns="site"), ())) == ()


FORMATS = {"coco", "dicom_tree", "medmnist", "yolo"}
"""Sources that are no data set, or two."""


@pytest.mark.parametrize("source", find.names("hilum.records.sources"))
def test_every_source_of_a_data_set_says_which_it_is(source):
    table = records("").table.drop(columns="site")
    read = of_dataset(Records(table, ()), source)
    assert bool(datasets_in(read)) == (source not in FORMATS)
    if source not in FORMATS:
        again = of_dataset(read, source)
        assert again is read
        assert read.table.columns.tolist() == ["image", "patient", "split", "site"]


def test_a_data_sets_own_sites_stand_behind_its_name():
    read = of_dataset(records("Minsk", ""), "tb_portals")
    assert read.table["site"].tolist() == ["TB Portals/Minsk", "TB Portals"]


def test_the_sentence_says_why_and_where_it_stands():
    said = shared_films(["CheXpert", "NIH ChestX-ray14"], ["VinDr-CXR", "RSNA Pneumonia"])
    assert said.startswith(
        "NIH ChestX-ray14 and RSNA Pneumonia share films, or can: RSNA Pneumonia has films of"
    )
    assert "https://doi.org/10.1148/ryai.2019180041" in said
    assert shared_films(["CheXpert"], ["VinDr-CXR"]) == ""
