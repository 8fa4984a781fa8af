import logging

import numpy as np
import pytest
from PIL import Image

from hilum.errors import RecordsError
from hilum.records.table import Records


def draw(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path, "PNG")
    return path


def read(path):
    return Records.read(path, labels=False, patients=False)


def test_one_image_is_a_record_of_its_own_patient_whatever_its_ending(tmp_path, caplog):
    for path in (draw(tmp_path / "film.png"), draw(tmp_path / "IM0001")):
        records = read(path)
        assert records.table.to_dict("list") == {"image": [str(path)], "patient": [path.name], "split": [""]}
        assert records.findings == ()
    assert "each of 1 radiographs counts as a patient of its own" in caplog.text
    dicom = tmp_path / "IM0002"
    dicom.write_bytes(bytes(128) + b"DICM")
    assert len(read(dicom)) == 1


def test_a_flat_folder_is_its_images_and_a_folder_of_classes_is_read_as_ever(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    draw(tmp_path / "flat" / "b.png")
    draw(tmp_path / "flat" / "a.png")
    draw(tmp_path / "flat" / ".hidden.png")
    (tmp_path / "flat" / "notes.txt").write_text("none")
    (tmp_path / "flat" / "empty").mkdir()
    records = read(tmp_path / "flat")
    assert records.table["image"].tolist() == [str(tmp_path / "flat" / f"{name}.png") for name in "ab"]
    assert "2 files are no images" in caplog.text
    draw(tmp_path / "classes" / "Edema" / "c.png")
    assert read(tmp_path / "classes").table["patient"].tolist() == ["Edema/c.png"]


def test_a_table_of_images_alone_is_enough_where_no_patient_is_needed(tmp_path, caplog):
    draw(tmp_path / "film.png")
    table = tmp_path / "films.csv"
    table.write_text("image\nfilm.png\n")
    assert read(table).table["patient"].tolist() == ["film.png"]
    assert "every radiograph counts as a patient of its own, since no column names patients" in caplog.text
    table.write_text("image,patient\nfilm.png,P1\n")
    assert read(table).table["patient"].tolist() == ["P1"]


def test_labels_and_patients_that_are_needed_need_a_table(tmp_path):
    film = draw(tmp_path / "film.png")
    with pytest.raises(RecordsError, match="a PNG image; expected a table"):
        Records.read(film)
    with pytest.raises(RecordsError, match="one sub-folder per class"):
        Records.read(tmp_path)
    (tmp_path / "films.csv").write_text("image\nfilm.png\n")
    with pytest.raises(RecordsError, match="no column of patients"):
        Records.read(tmp_path / "films.csv")
