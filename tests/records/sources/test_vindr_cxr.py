"""VinDr-CXR in miniature, as PhysioNet and as Kaggle give it: three readers, their labels and their boxes."""

import logging

import numpy as np
import pytest

from hilum.cli import main
from hilum.errors import MissingError, RecordsError
from hilum.records.boxes import boxes_of
from hilum.records.sources import vindr_cxr
from hilum.records.table import Records

from .trees import film, text

LABELS = "image_id,rad_id,Aortic enlargement,Nodule/Mass,Lung Opacity,COPD,Other diseases,No finding"
TRAIN = [
    "aaa,R1,1,0,0,0,0,0", "aaa,R2,1,1,0,0,0,0", "aaa,R3,1,1,0,1,0,0",
    "bbb,R8,0,0,0,0,0,1", "bbb,R9,0,0,0,0,0,1", "bbb,R10,0,0,1,0,0,0",
]  # fmt: skip
MARKS = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max"
BOXES = [
    "aaa,R1,Aortic enlargement,100,100,200,200",
    "aaa,R2,Aortic enlargement,102,104,204,208",
    "aaa,R3,Aortic enlargement,104,108,208,216",
    "aaa,R2,Nodule/Mass,10,10,20,20",
    "aaa,R3,Nodule/Mass,300,300,320,320",
    "bbb,R8,No finding,,,,",
    "bbb,R9,No finding,,,,",
    "bbb,R10,Lung Opacity,50,50,90,90",
]


def physionet(root, *, boxes=BOXES, train=TRAIN, ending="dicom"):
    notes = root / "annotations"
    text(notes / "image_labels_train.csv", LABELS, *train)
    test = LABELS.replace("rad_id,", "").replace("diseases", "disease")
    text(notes / "image_labels_test.csv", test, "ccc,0,0,1,0,1,0", "ddd,0,0,0,0,0,1")
    text(notes / "annotations_train.csv", MARKS, *boxes)
    header = MARKS.replace("rad_id,", "")
    text(notes / "annotations_test.csv", header, "ccc,Lung Opacity,1,2,30,40", "ddd,No finding,,,,")
    for name in ("train/aaa", "train/bbb", "test/ccc", "test/ddd"):
        if ending == "dicom":
            text(root / f"{name}.dicom", "not read here")
        else:
            film(root / f"{name}.{ending}", (512, 256))
    return root


def read(root, **changes):
    return vindr_cxr.read(root, **vindr_cxr.Settings(val_share=0).model_dump() | changes)


def positives(records):
    return [[f for f, one in zip(records.findings, row, strict=True) if one == 1] for row in records.labels]


def test_labels_are_what_most_readers_say(tmp_path, caplog):
    out = tmp_path / "table.csv"
    words = ["--root", str(physionet(tmp_path)), "--val-share", "0", "--out", str(out)]
    with caplog.at_level(logging.INFO):
        assert main(["records", "read", "vindr_cxr", *words]) == 0
    assert "the sheets name no patients, so each of 4 films is its own patient" in caplog.text
    assert "1 of 6 boxes are left out: too few readers see the finding" in caplog.text
    found = Records.read(out)
    assert found.findings == tuple(LABELS.split(",")[2:])
    assert found.table["split"].tolist() == ["train", "train", "test", "test"]
    assert found.table["patient"].tolist() == ["aaa", "bbb", "ccc", "ddd"]
    agreed = [["Aortic enlargement", "Nodule/Mass"], ["No finding"], ["Lung Opacity", "Other diseases"]]
    assert positives(found) == [*agreed, ["No finding"]]
    assert not np.isnan(found.labels).any()


def test_any_reader_or_all_of_them(tmp_path):
    physionet(tmp_path)
    some = read(tmp_path, agreement="any")
    assert positives(some)[:2] == [["Aortic enlargement", "Nodule/Mass", "COPD"], ["Lung Opacity"]]
    assert boxes_of(some, "Lung Opacity")[1].tolist() == [[50, 50, 90, 90]]
    assert len(boxes_of(some, "Nodule/Mass")[0]) == 2
    every = read(tmp_path, agreement="all")
    assert positives(every)[:2] == [["Aortic enlargement"], ["No finding"]]


def test_boxes_of_one_place_become_one_and_all_stay_where_places_differ(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        found = read(physionet(tmp_path))
    assert boxes_of(found, "Aortic enlargement")[0].tolist() == [[102, 104, 204, 208]]
    assert boxes_of(found, "Nodule/Mass")[0].tolist() == [[10, 10, 20, 20], [300, 300, 320, 320]]
    assert "on 1 films readers agree on a finding and not where it is" in caplog.text
    assert found.table["boxes"].tolist()[1] == "[]"  # two of three saw nothing: a negative
    assert boxes_of(found, "Lung Opacity")[2].tolist() == [[1, 2, 30, 40]]


def test_boxes_on_smaller_copies_need_the_original_sizes(tmp_path):
    physionet(tmp_path, ending="png")
    marks = tmp_path / "annotations" / "annotations_train.csv"
    marks.write_text(marks.read_text().replace("300,300,320,320", "300,300,320,400"))
    with pytest.raises(
        RecordsError, match=r"aaa: a box reaches beyond the 512 x 256 pixels .* --sizes names"
    ):
        read(tmp_path)
    rows = [f"{name},512,2048" for name in ("aaa", "bbb", "ccc", "ddd")]
    sizes = text(tmp_path / "train_meta.csv", "image_id,dim0,dim1", *rows)
    found = read(tmp_path, sizes=sizes)
    assert boxes_of(found, "Nodule/Mass")[0].tolist() == [[2.5, 5, 5, 10], [75, 150, 80, 200]]


def test_the_sheet_of_kaggle(tmp_path):
    numbers = {"Aortic enlargement": 0, "Lung Opacity": 7, "Nodule/Mass": 8, "No finding": 14}
    rows = []
    for row in BOXES:
        name, reader, kind, sides = row.split(",", 3)
        rows.append(f"{name},{kind},{numbers[kind]},{reader},{sides}")
    text(tmp_path / "train.csv", "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max", *rows)
    for name in ("train/aaa", "train/bbb", "test/unlabelled"):
        text(tmp_path / f"{name}.dicom", "")
    found = read(tmp_path)
    assert found.findings == ("Aortic enlargement", "Lung Opacity", "Nodule/Mass", "No finding")
    assert positives(found) == [["Aortic enlargement", "Nodule/Mass"], ["No finding"]]
    assert boxes_of(found, "Aortic enlargement")[0].tolist() == [[102, 104, 204, 208]]
    assert read(tmp_path, val_share=0.5).table["split"].tolist().count("val") == 1


def test_all_that_is_wrong_is_one_list(tmp_path):
    boxes = [*BOXES, "zzz,R1,Lung Opacity,1,2,3,4", "aaa,R1,Goitre,1,2,3,4", "aaa,R1,Lung Opacity,30,2,3,x"]
    physionet(tmp_path, boxes=boxes, train=[*TRAIN, "bbb,R9,0,0,0,0,0,maybe"])
    with pytest.raises(RecordsError) as caught:
        read(tmp_path)
    said = str(caught.value)
    for part in (
        "line 10: annotations_train.csv: zzz: 'Lung Opacity' at 1, 2, 3, 4: the labels have no such film",
        "line 11: annotations_train.csv: aaa: 'Goitre'",
        "line 12: annotations_train.csv: aaa: 'Lung Opacity' at 30, 2, 3, x: expected x_min < x_max",
        "line 8, column 'No finding': image_labels_train.csv: found 'maybe'",
        "line 8: bbb: a second row of the same reader",
    ):
        assert part in said


def test_missing_films_and_a_wrong_root_are_named(tmp_path):
    with pytest.raises(MissingError, match=r"expected annotations/ or train\.csv in it"):
        read(tmp_path)
    (physionet(tmp_path) / "train" / "aaa.dicom").unlink()
    with pytest.raises(RecordsError, match="line 2: train/aaa is not there"):
        read(tmp_path)
    assert read(tmp_path, only_present=True).table["patient"].tolist() == ["bbb", "ccc", "ddd"]
