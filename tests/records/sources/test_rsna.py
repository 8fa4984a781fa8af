"""The RSNA challenge with the patients of ChestX-ray14."""

import json
import logging
from pathlib import Path

import pytest

from hilum.cli import main
from hilum.errors import MissingError, RecordsError
from hilum.images.identity import film_columns
from hilum.records.boxes import boxes_of
from hilum.records.sources import nih_chestxray14, rsna
from hilum.records.table import Records
from tests.images.dicom_films import film as dicom_film
from tests.images.dicom_films import ramp, save
from tests.records.sources.test_boxes import rsna_tree
from tests.records.sources.test_nih_chestxray14 import tree as nih_tree

from .trees import film, text

FILMS = ["0004cfab-14fd", "00436515-870c", "000fe35a-2649"]
MAPPING = [
    {
        "img_id": img,
        "subset_img_id": name,
        "orig_labels": ["Infiltration", "Effusion"],
        "StudyInstanceUID": "1.2",
    }
    for img, name in zip(
        ["00028173_005.png", "00000013_000.png", "00028173_012.png", "00000001_000.png"],
        [*FILMS, "of another stage"],
        strict=True,
    )
]


def mapped(root: Path, content) -> Path:
    path = root / "pneumonia-challenge-dataset-mappings_2018.json"
    path.write_text(json.dumps(content))
    return path


def test_two_films_of_one_person_share_the_patient_of_chestx_ray14(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "rsna").mkdir()
    root, out = rsna_tree(tmp_path / "rsna"), tmp_path / "rsna.csv"
    mapping = str(mapped(tmp_path, MAPPING))
    words = ["records", "read", "rsna", "--root", str(root), "--nih-mapping", mapping, "--out", str(out)]
    assert main(words) == 0
    records = Records.read(out)
    assert records.table["patient"].tolist() == ["28173", "13", "28173"]
    assert records.labels[:, 0].tolist() == [0, 1, 0]
    assert "3 films are of 2 patients of ChestX-ray14" in caplog.text
    alone = rsna.read(root, stage=2, images=None, nih_mapping=None)
    assert alone.table["patient"].tolist() == FILMS
    assert "each of 3 films is its own patient; --nih-mapping" in caplog.text
    assert alone.table.drop(columns="patient").equals(
        rsna.read(root, stage=2, images=None, nih_mapping=Path(mapping)).table.drop(columns="patient")
    )


def test_patients_are_named_as_the_sheet_of_chestx_ray14_names_them(tmp_path):
    """So that the patients of one can be held out of the other."""
    film(tmp_path / "rsna" / "none.png")
    mapped(rsna_tree(tmp_path / "rsna"), MAPPING)  # in the root it is found
    records = rsna.read(tmp_path / "rsna", stage=2, images=None)
    rows = ["00000013_000.png,Mass,0,13,58,M,PA", "00028173_012.png,No Finding,0,28173,58,M,PA"]
    whole = nih_tree(tmp_path / "nih", rows=rows, boxes=[], side=8)
    text(whole / "train_val_list.txt", "00000013_000.png", "00028173_012.png")
    of_nih = nih_chestxray14.read(whole, **nih_chestxray14.Settings(val_share=0).model_dump())
    assert set(records.table["patient"]) == set(of_nih.table["patient"])


def test_boxes_of_smaller_copies_are_scaled_and_other_films_are_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root = rsna_tree(tmp_path, side=512)
    film(root / "stage_2_train_images" / "more.png")
    film(root / "stage_2_test_images" / "asked.png")
    records = rsna.read(root, stage=2, images=None)
    assert boxes_of(records, "Lung Opacity")[1].tolist() == [[132, 76, 238.5, 265.5], [281, 76, 409, 302.5]]
    assert "the boxes of 1 films that are not of 1024 pixels were scaled" in caplog.text
    assert "1 left out: stage_2_train_images has them, and no row of the labels: 'more'" in caplog.text
    assert "1 left out: test films, whose labels are not public: 'asked.png'" in caplog.text
    film(root / "stage_2_train_images" / f"{FILMS[1]}.png", (512, 256))
    with pytest.raises(RecordsError, match=r"is of 512 x 256 pixels; boxes are of films of 1024 x 1024"):
        rsna.read(root, stage=2, images=None)


def test_a_film_of_two_classes_or_targets_is_refused_and_the_archives_own_folder_is_served(tmp_path):
    (tmp_path / "rsna").mkdir()
    root = rsna_tree(tmp_path / "rsna")
    assert len(rsna.read(tmp_path, stage=2, images=None)) == 3
    with pytest.raises(MissingError, match=f"it is in {root}: give that"):
        rsna.read(root / "stage_2_train_images", stage=2, images=None)
    classes = root / "stage_2_detailed_class_info.csv"
    classes.write_text(classes.read_text() + f"{FILMS[2]},Lung Opacity\n")
    labels = root / "stage_2_train_labels.csv"
    labels.write_text(labels.read_text() + f"{FILMS[1]},,,,,0\n{FILMS[0]},,,,,maybe\n")
    with pytest.raises(RecordsError) as caught:
        rsna.read(root, stage=2, images=None)
    for part in (
        f"line 6: stage_2_detailed_class_info.csv: {FILMS[2]} has another class in an earlier row",
        f"line 6: {FILMS[1]}: the class is 'Lung Opacity', and Target '0'",
        f"line 7: {FILMS[0]}: Target is 'maybe', and there is no box",
    ):
        assert part in str(caught.value)


def test_headers_say_view_sex_and_age_where_they_are_asked_for(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "rsna").mkdir()
    root, out = rsna_tree(tmp_path / "rsna"), tmp_path / "rsna.csv"
    folder = root / "stage_2_train_images"
    tags = {"PatientSex": "F", "PatientAge": "045Y", "ViewPosition": "AP"}
    for name in FILMS[:2]:
        (folder / f"{name}.png").unlink()
        save(dicom_film(ramp(12), 12, **tags), folder / f"{name}.dcm")
    assert main(["records", "read", "rsna", "--root", str(root), "--headers", "--out", str(out)]) == 0
    table = Records.read(out).table
    assert table[["view", "sex", "age"]].to_numpy().tolist() == [
        ["AP", "F", "45"],
        ["AP", "F", "45"],
        [""] * 3,
    ]
    assert "1 films do not say the view; it is unknown" in caplog.text
    (folder / f"{FILMS[0]}.dcm").write_bytes(b"damaged")
    with pytest.raises(RecordsError, match=r"0004cfab-14fd\.dcm: it is no DICOM file"):
        rsna.read(root, stage=2, images=None, headers=True, look=film_columns)


def test_all_that_is_wrong_with_a_mapping_is_one_list(tmp_path):
    root = rsna_tree(tmp_path)
    content = [*MAPPING[:2], {"subset_img_id": FILMS[0], "img_id": "00000007_000.png"}, {"img_id": "x"}]
    with pytest.raises(RecordsError) as caught:
        rsna.read(root, stage=2, images=None, nih_mapping=mapped(tmp_path, content))
    said = str(caught.value)
    for part in (
        "3 defects",
        "0004cfab-14fd is of patient 28173 and of 7",
        "expected subset_img_id, and img_id such as 00028173_005.png",
        "000fe35a-2649 is not in pneumonia-challenge-dataset-mappings_2018.json",
    ):
        assert part in said
    with pytest.raises(RecordsError, match="expected a list of films"):
        rsna.read(root, stage=2, images=None, nih_mapping=mapped(tmp_path, {}))
    with pytest.raises(MissingError, match="--nih-mapping names"):
        rsna.read(root, stage=2, images=None, nih_mapping=tmp_path / "nowhere.json")
