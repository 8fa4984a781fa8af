"""REFLACX's third phase on a miniature MIMIC-CXR."""

import csv
import logging
from pathlib import Path

import numpy as np
import pytest

import hilum
from hilum.errors import MissingError, RecordsError
from hilum.records.boxes import boxes_of
from hilum.records.sources import reflacx
from hilum.records.table import Records

from .trees import film

EMPTY = dict.fromkeys(reflacx.FINDINGS, "0")


def reading(name, split, subject, study, film, **labels):
    return {
        "id": name,
        "split": split,
        "eye_tracking_data_discarded": "False",
        "image": f"physionet.org/files/mimic-cxr/2.0.0/files/p{subject[:2]}/p{subject}/s{study}/{film}.dcm",
        "dicom_id": film,
        "subject_id": subject,
        "image_size_x": "2000",
        "image_size_y": "2500",
        **EMPTY,
        "Support devices": "False",
        "Other": "",
    } | labels


ROWS = [
    reading("P300R000001", "train", "10000032", "50414267", "aa-bb", Atelectasis="5", Pneumothorax="3"),
    reading("P300R000002", "validate", "10000764", "57375967", "cc-dd", **{"Support devices": "True"}),
    reading("P300R000003", "test", "10000898", "50771383", "ee-ff", Consolidation="4"),
]


def write(path: Path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def ellipse(xmin, ymin, xmax, ymax, certainty, *names):
    flags = {name: str(name in names) for name in reflacx.FINDINGS}
    return {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax, "certainty": certainty} | flags


def tree(root: Path, rows=ROWS) -> tuple[Path, Path]:
    main, mimic = root / "reflacx" / "main_data", root / "mimic"
    write(main / "metadata_phase_3.csv", rows)
    for row in ROWS:
        subject, study = row["subject_id"], row["image"].split("/")[-2]
        film = mimic / "files" / f"p{subject[:2]}" / f"p{subject}" / study / f"{row['dicom_id']}.dcm"
        film.parent.mkdir(parents=True, exist_ok=True)
        film.write_bytes(b"films are not opened")
    write(
        main / "P300R000001" / "anomaly_location_ellipses.csv",
        [
            ellipse(100, 200, 400, 600, 5, "Atelectasis", "Consolidation"),
            ellipse(1900, 2400, 2100, 2600, 4, "Atelectasis"),
            ellipse(10, 20, 30, 40, 3, "Pneumothorax"),
        ],
    )
    (main / "P300R000001" / "transcription.txt").write_text("left lower lobe atelectasis . \n")
    return root / "reflacx", mimic


def test_certainties_become_labels_and_ellipses_boxes(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root, mimic = tree(tmp_path)
    out = hilum.records_read("reflacx", root=root, mimic=mimic, out=tmp_path / "reflacx.csv")
    records = Records.read(out, uncertain="ignore")
    assert records.findings == (*reflacx.FINDINGS, "Support devices")
    assert records.table["split"].tolist() == ["train", "val", "test"]
    assert records.table["patient"].tolist() == ["10000032", "10000764", "10000898"]
    assert records.table["study"].tolist() == ["50414267", "57375967", "50771383"]
    assert records.table["Atelectasis"].tolist() == [1, 0, 0]
    np.testing.assert_array_equal(records.table["Pneumothorax"], [np.nan, 0, 0])
    assert records.table["Support devices"].tolist() == [0, 1, 0]
    assert boxes_of(records, "Atelectasis")[0].tolist() == [[100, 200, 400, 600], [1900, 2400, 2000, 2500]]
    assert boxes_of(records, "Consolidation")[0].tolist() == [[100, 200, 400, 600]]
    assert boxes_of(records, "Pneumothorax")[0].tolist() == []
    assert records.table["text"].tolist() == ["left lower lobe atelectasis .", "", ""]
    assert "2 readings have no transcription.txt" in caplog.text
    assert "2 left out: readings without anomaly_location_ellipses.csv, so without boxes" in caplog.text
    above = reflacx.read(tmp_path, mimic=mimic, positive=4).table
    assert above["image"].tolist() == records.table["image"].tolist()
    strict = reflacx.read(root, mimic=mimic, positive=5)
    assert boxes_of(strict, "Atelectasis")[0].tolist() == [[100, 200, 400, 600]]
    assert Records.read(out, uncertain="one").table["Pneumothorax"].tolist() == [1, 0, 0]


def test_all_that_is_wrong_is_one_list(tmp_path):
    rows = [ROWS[0] | {"Atelectasis": "7", "split": "fold1"}, ROWS[0], ROWS[1] | {"image": "here.dcm"}]
    root, mimic = tree(tmp_path, rows)
    with pytest.raises(RecordsError) as caught:
        reflacx.read(root, mimic=mimic, positive=4)
    said = str(caught.value)
    for part in (
        "line 2, column 'Atelectasis': found '7'; expected 0 to 5",
        "line 2: found 'fold1'; expected train, validate or test",
        "line 3: id P300R000001 is there twice",
        "line 3: dicom_id aa-bb is there twice",
        "line 4: found 'here.dcm'; expected a path with /s50414267/ in it",
    ):
        assert part in said
    root, mimic = tree(tmp_path)
    next(mimic.rglob("ee-ff.dcm")).unlink()
    write(
        root / "main_data" / "P300R000002" / "anomaly_location_ellipses.csv",
        [ellipse(2100, 10, 2200, 20, 5, "Atelectasis")],
    )
    with pytest.raises(RecordsError) as caught:
        reflacx.read(root, mimic=mimic, positive=4)
    assert "line 4: p10/p10000898/s50771383/ee-ff is there neither as .jpg nor as .dcm" in str(caught.value)
    assert "P300R000002/anomaly_location_ellipses.csv line 2: has no area on the film" in str(caught.value)
    with pytest.raises(
        MissingError, match=r"expected metadata_phase_3\.csv or main_data/metadata_phase_3\.csv"
    ):
        reflacx.read(tmp_path / "nowhere", mimic=mimic, positive=4)


def test_boxes_of_smaller_copies_are_scaled_and_films_of_another_shape_refused(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root, mimic = tree(tmp_path)
    path = next(mimic.rglob("aa-bb.dcm"))
    path.unlink()
    film(path.with_suffix(".jpg"), (200, 250))
    records = reflacx.read(root, mimic=mimic, positive=4)
    assert boxes_of(records, "Consolidation")[0].tolist() == [[10, 20, 40, 60]]
    assert "the boxes of 1 films that are of another size than the readers saw were scaled" in caplog.text
    film(path.with_suffix(".jpg"), (224, 224))
    with pytest.raises(RecordsError, match=r"is of 224 x 224 pixels; its boxes are of 2000 x 2500"):
        reflacx.read(root, mimic=mimic, positive=4)
