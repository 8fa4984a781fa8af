"""Shenzhen's and Montgomery's sets in miniature trees, with the oddities of their readings."""

import csv
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hilum.cli import main
from hilum.errors import MissingError, RecordsError
from hilum.records.sources import montgomery, shenzhen
from hilum.records.table import Records
from tests.real_films import FILMS, needs_films

READINGS = {
    "CHNCXR_0001_0": b"male 45yrs\nnormal",
    "CHNCXR_0002_0": b"Female, 28yrs\r\nnormal\r\n",
    "CHNCXR_0327_1": b"femal 32yrs\n1.bilateral PTB\n2.left pleurisy",
    "CHNCXR_0328_1": b"male 16month\nright upper PTB",
    "CHNCXR_0329_1": b"female 64days\nTB\x92s sequelae",
    "CHNCXR_0330_1": b"PTB in the right upper field",
    "CHNCXR_0331_1": b"male36yrs, left PTB",
}


def png(path: Path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((40, 40), np.uint8)).convert("P").save(path)


def tree(root: Path, readings: dict[str, bytes]) -> Path:
    for stem, reading in readings.items():
        png(root / "CXR_png" / f"{stem}.png")
        (root / "ClinicalReadings").mkdir(exist_ok=True)
        (root / "ClinicalReadings" / f"{stem}.txt").write_bytes(reading)
    return root


def test_shenzhen_labels_are_the_last_digit_and_readings_keep_their_oddities(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    tree(tmp_path / "ChinaSet_AllFiles", READINGS)
    png(tmp_path / "ChinaSet_AllFiles" / "CXR_png" / "CHNCXR_0001_0_mask.png")
    assert (
        main(["records", "read", "shenzhen", "--root", str(tmp_path), "--out", str(tmp_path / "s.csv")]) == 0
    )
    records = Records.read(tmp_path / "s.csv")
    assert records.findings == ("Tuberculosis",)
    assert records.labels[:, 0].tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert records.table["patient"].tolist() == [name[:11] for name in READINGS]
    assert records.table["sex"].tolist() == ["M", "F", "F", "M", "F", "", "M"]
    assert records.table["age"].tolist() == ["45", "28", "32", "1.333", "0.1752", "", "36"]
    assert set(records.table["view"]) == {"PA"}
    assert set(records.table["split"]) == {""}
    texts = records.table["text"].tolist()
    assert texts[0] == "normal"
    assert texts[2] == "1.bilateral PTB\n2.left pleurisy"
    assert texts[5:] == ["PTB in the right upper field", "left PTB"]
    assert "1 left out: masks of lungs are no films" in caplog.text
    assert "1 readings do not say the sex" in caplog.text


@pytest.mark.parametrize(
    ("reading", "parts"),
    [
        ("male, 36 yrs", ("M", "36", "")),
        ("  Female 62yrs   \n\nPTB\n", ("F", "62", "PTB")),
        ("F 35\nPTB", ("F", "35", "PTB")),
        ("MALE 55 years old\nPTB", ("M", "55", "PTB")),
        ("male\nPTB", ("M", "", "PTB")),
        ("male 45 PTB", ("M", "45", "PTB")),
        ("45yrs\nPTB", ("", "45", "PTB")),
        ("1.bilateral PTB", ("", "", "1.bilateral PTB")),
        ("mediastinal widening", ("", "", "mediastinal widening")),
        ("fibrosis of both apices", ("", "", "fibrosis of both apices")),
        ("", ("", "", "")),
    ],
)
def test_a_first_line_is_who_it_is_only_where_it_says_so(reading, parts):
    assert shenzhen._parts(reading) == parts


def test_films_without_a_reading_and_readings_without_a_film_are_said(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root = tree(tmp_path, READINGS)
    (root / "ClinicalReadings" / "CHNCXR_0001_0.txt").unlink()
    (root / "CXR_png" / "CHNCXR_0331_1.png").unlink()
    records = shenzhen.read(root)
    assert len(records) == 6
    assert records.table.loc[0, ["sex", "age", "text"]].tolist() == ["", "", ""]
    assert "1 films have no reading, so no sex, age and text: 'CHNCXR_0001_0'" in caplog.text
    assert "readings without a film: 'CHNCXR_0331_1'" in caplog.text


def test_all_that_is_wrong_with_names_is_one_list(tmp_path):
    root = tree(tmp_path, READINGS)
    for name in ("CHNCXR_0001_1.png", "MCUCXR_0001_0.png", "CHNCXR_12_0.png"):
        png(root / "CXR_png" / name)
    with pytest.raises(RecordsError) as caught:
        shenzhen.read(root)
    for part in (
        "3 defects",
        "CHNCXR_0001 is there twice, as _0 and as _1",
        "'MCUCXR_0001_0.png' is no film of this set",
        "'CHNCXR_12_0.png' is no film of this set; expected CHNCXR_0001_0.png",
    ):
        assert part in str(caught.value)
    with pytest.raises(MissingError, match="expected ChinaSet_AllFiles/CXR_png or CXR_png"):
        shenzhen.read(tmp_path / "nowhere")


def test_montgomery_masks_are_never_films(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root = tree(
        tmp_path / "MontgomerySet",
        {
            "MCUCXR_0001_0": b"Patient's Sex: F \r\nPatient's Age: 027Y\r\nnormal\r\n",
            "MCUCXR_0104_1": b"Patient's Sex: M\nPatient's Age: 006M\nright upper lobe\ncavity \n",
            "MCUCXR_0108_1": b"Patient's Sex: O\nPatient's Age:\nscar",
        },
    )
    for side in ("leftMask", "rightMask"):
        png(root / "ManualMask" / side / "MCUCXR_0001_0.png")
    out = tmp_path / "m.csv"
    assert main(["records", "read", "montgomery", "--root", str(tmp_path), "--out", str(out)]) == 0
    records = Records.read(out)
    assert records.labels[:, 0].tolist() == [0, 1, 1]
    assert records.table["patient"].tolist() == ["MCUCXR_0001", "MCUCXR_0104", "MCUCXR_0108"]
    assert records.table["sex"].tolist() == ["F", "M", ""]
    assert records.table["age"].tolist() == ["27", "0.5", ""]
    assert records.table["text"].tolist() == ["normal", "right upper lobe\ncavity", "scar"]
    assert not records.table["image"].str.contains("Mask").any()
    assert "1 readings do not say the age" in caplog.text
    with pytest.raises(MissingError, match="MontgomerySet/CXR_png"):
        montgomery.read(tmp_path / "nowhere")


@needs_films
def test_real_readings_are_understood(tmp_path):
    with (FILMS / "tuberculosis_shenzhen/labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))[::7]
    (tmp_path / "CXR_png").mkdir()
    (tmp_path / "ClinicalReadings").mkdir()
    for row in rows:
        stem = Path(row["path"]).stem
        (tmp_path / "CXR_png" / f"{stem}.png").symlink_to(FILMS / "tuberculosis_shenzhen" / row["path"])
        reading = f"{row['sex'].lower()} {row['age']}yrs\n{row['report']}"
        (tmp_path / "ClinicalReadings" / f"{stem}.txt").write_text(reading)
    table = shenzhen.read(tmp_path).table
    assert table["Tuberculosis"].astype(int).astype(str).tolist() == [row["tuberculosis"] for row in rows]
    assert table["patient"].tolist() == [row["patient_id"] for row in rows]
    assert table["sex"].tolist() == [row["sex"][0] for row in rows]
    assert [float(age) for age in table["age"]] == [float(row["age"]) for row in rows]


def test_smaller_copies_may_be_jpeg_and_both_sets_in_one_folder(tmp_path):
    tree(tmp_path / "MontgomerySet", {"MCUCXR_0001_0": b"Patient's Sex: F"})
    root = tree(tmp_path / "ChinaSet_AllFiles", {"CHNCXR_0001_0": READINGS["CHNCXR_0001_0"]})
    film = root / "CXR_png" / "CHNCXR_0001_0.png"
    Image.open(film).convert("L").save(film.with_suffix(".jpg"))
    with pytest.raises(RecordsError, match=r"is there twice, as _0 and as _1 or as two kinds of file"):
        shenzhen.read(tmp_path)
    film.unlink()
    assert shenzhen.read(tmp_path).table["text"].tolist() == ["normal"]
    assert len(montgomery.read(tmp_path)) == 1
