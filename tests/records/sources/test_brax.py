"""BRAX in miniature: two paths per film, ages in bands, and labels of the CheXpert labeller."""

import logging

import numpy as np
import pytest

from hilum.cli import main
from hilum.errors import ConfigError, MissingError, RecordsError
from hilum.records.sources import brax
from hilum.records.table import Records

from .trees import film, text

FINDINGS = [
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Lesion", "Lung Opacity", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other",
    "Fracture", "Support Devices",
]  # fmt: skip
FILMS = [
    ("id_0a/Study_1.2/Series_3.4/image-5.6-0", "0a", "F", "35", "PA", {"No Finding": "1"}),
    ("id_0a/Study_1.2/Series_3.4/image-5.7-0", "0a", "F", "35", "L", {"No Finding": "1"}),
    (
        "id_0b/Study_1.3/Series_3.5/image-5.8-0",
        "0b",
        "M",
        "85 or more",
        "AP",
        {"Edema": "-1", "Cardiomegaly": "1"},
    ),
    ("id_0c/Study_1.4/Series_3.6/image-5.9-0", "0c", "O", "", "AP", {"Fracture": "0"}),
]


def tree(root, films=FILMS):
    about = "DicomPath,PngPath,PatientID,PatientSex,PatientAge,AccessionNumber,StudyDate"
    rows = []
    for path, patient, sex, age, view, cells in films:
        labels = ",".join(cells.get(name, "") for name in FINDINGS)
        paths = f"Anonymized_DICOMs/{path}.dcm,images/{path}.png"
        rows.append(f"{paths},id_{patient},{sex},{age},A{patient},20080101,{labels},{view},2800,2300,1")
        film(root / "images" / f"{path}.png")
        text(root / "Anonymized_DICOMs" / path, "no ending, as in 1.0.0")
    header = ",".join([about, *FINDINGS, "ViewPosition,Rows,Columns,Manufacturer"])
    text(root / "master_spreadsheet_update.csv", header, *rows)
    return root


def read(root, **changes):
    return brax.read(root, **brax.Settings().model_dump() | changes)


def test_frontal_films_with_patients_ages_and_labels(tmp_path, caplog):
    out = tmp_path / "table.csv"
    with caplog.at_level(logging.INFO):
        assert main(["records", "read", "brax", "--root", str(tree(tmp_path)), "--out", str(out)]) == 0
    assert "1 of 4 films are left out: their view is none of AP, PA (1 L)" in caplog.text
    found = Records.read(out, uncertain="one")
    assert sorted(found.findings) == sorted(FINDINGS)
    assert found.table["patient"].tolist() == ["id_0a", "id_0b", "id_0c"]
    assert found.table["study"].tolist() == ["A0a", "A0b", "A0c"]
    assert found.table["age"].tolist() == ["35", "85", ""]
    assert found.table["sex"].tolist() == ["F", "M", ""]
    assert found.table["Edema"].tolist() == [0, 1, 0]
    assert found.table["No Finding"].tolist() == [1, 0, 0]
    assert set(found.table["split"]) == {""}
    unknown = read(tmp_path, blank="unknown")
    np.testing.assert_equal(unknown.table["Fracture"].to_numpy(), [np.nan, np.nan, 0])


def test_dicom_files_and_other_views(tmp_path):
    found = read(tree(tmp_path), films="dicom", views=[])
    assert len(found) == 4
    assert found.table["image"].str.contains("Anonymized_DICOMs/id_").all()
    (tmp_path / "images").rename(tmp_path / "pictures")
    with pytest.raises(MissingError, match="expected images/ in it, which --films png reads"):
        read(tmp_path)
    (tmp_path / "pictures").rename(tmp_path / "images")
    with pytest.raises(ConfigError, match="--views LATERAL: no film is of these; views are 'AP', 'L', 'PA'"):
        read(tmp_path, views=["LATERAL"])


def test_all_that_is_wrong_is_one_list(tmp_path):
    films = [FILMS[0], (FILMS[2][0], "0b", "M", "40", "AP", {"Edema": "yes"}), FILMS[0]]
    tree(tmp_path, films)
    (tmp_path / "images" / f"{FILMS[2][0]}.png").unlink()
    with pytest.raises(RecordsError) as caught:
        read(tmp_path)
    said = str(caught.value)
    for part in (
        "line 3, column 'Edema': master_spreadsheet_update.csv: found 'yes'",
        "line 3: images/id_0b/Study_1.3/Series_3.5/image-5.8-0.png is not there",
        "line 4: images/id_0a/Study_1.2/Series_3.4/image-5.6-0.png is in an earlier row too",
    ):
        assert part in said


def test_a_wrong_root_is_named(tmp_path):
    with pytest.raises(
        MissingError, match=r"expected master_spreadsheet_update\.csv or master_spreadsheet\.csv"
    ):
        read(tmp_path)


def test_files_that_no_row_names_and_other_columns_are_said(tmp_path, caplog):
    tree(tmp_path / "brax" / "1.1.0")
    film(tmp_path / "brax" / "1.1.0" / "images" / "id_0d" / "1.png")
    with caplog.at_level(logging.INFO):
        assert len(read(tmp_path)) == 3
    assert (
        "1 left out: files that no row of master_spreadsheet_update.csv names: 'images/id_0d/1.png'"
        in caplog.text
    )
    text(tmp_path / "brax" / "1.1.0" / "master_spreadsheet_update.csv", "PngPath,PatientId")
    with pytest.raises(RecordsError, match="has no column 'PatientID'; did you mean 'PatientId'"):
        read(tmp_path)
