"""The COVID-19 Radiography Database in miniature: four classes, and masks that look like films."""

import logging

import pytest

from hilum.cli import main
from hilum.errors import MissingError, RecordsError
from hilum.records.sources import covid_radiography
from hilum.records.table import Records

from .trees import film, text

FILMS = {"COVID": 2, "Lung_Opacity": 3, "Normal": 4, "Viral Pneumonia": 1}


def tree(root):
    base = root / "COVID-19_Radiography_Dataset"
    text(base / "README.md.txt", "COVID-19 CHEST X-RAY DATABASE")
    for name, count in FILMS.items():
        (base / f"{name}.metadata.xlsx").write_bytes(b"PK\x03\x04")
        for one in range(1, count + 1):
            for kind in ("images", "masks"):
                film(base / name / kind / f"{name}-{one}.png")
    return base


def test_films_have_their_class_and_masks_are_never_read(tmp_path, caplog):
    tree(tmp_path)
    out = tmp_path / "table.csv"
    words = ["--root", str(tmp_path), "--out", str(out)]
    with caplog.at_level(logging.INFO):
        assert main(["records", "read", "covid_radiography", *words]) == 0
    assert "10 masks are not read: they are no films" in caplog.text
    assert "the folders name no patients, so each of 10 films is its own patient" in caplog.text
    found = Records.read(out)
    assert found.findings == ("COVID", "Lung Opacity", "Normal", "Viral Pneumonia")
    assert found.labels.sum(axis=0).tolist() == [2, 3, 4, 1]
    assert found.labels.sum(axis=1).tolist() == [1] * 10
    assert not found.table["image"].str.contains("masks").any()
    assert found.table["patient"].is_unique
    assert found.table["patient"][0] == "COVID-1"
    assert set(found.table["split"]) == {""}


def test_one_finding_for_any_disease(tmp_path):
    found = covid_radiography.read(tree(tmp_path), disease_only=True)
    assert found.findings == ("Abnormal",)
    assert found.labels.sum() == 6


def test_all_that_is_wrong_is_one_list(tmp_path):
    base = tree(tmp_path)
    film(base / "Normal" / "Normal-9.png")
    (base / "Lung_Opacity").rename(base / "Lung Opacity")
    (base / "Viral Pneumonia" / "images").rename(base / "Viral Pneumonia" / "films")
    with pytest.raises(RecordsError) as caught:
        covid_radiography.read(tmp_path, disease_only=False)
    said = str(caught.value)
    for part in (
        "Normal/Normal-9.png is neither in images/ nor in masks/",
        "Lung_Opacity/ is not there; expected all of COVID, Lung_Opacity, Normal, Viral Pneumonia",
        "Viral Pneumonia/images/ holds no film",
    ):
        assert part in said


def test_a_wrong_root_is_named(tmp_path):
    with pytest.raises(MissingError, match="expected COVID in it"):
        covid_radiography.read(tmp_path, disease_only=False)
    base = tree(tmp_path / "archive" / "kaggle")
    assert len(covid_radiography.read(tmp_path, disease_only=False)) == 10
    with pytest.raises(MissingError, match=rf"it is in {base}: give that as --root"):
        covid_radiography.read(base / "Normal" / "images", disease_only=False)
