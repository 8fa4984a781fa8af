"""VinDr-CXR in miniature, as PhysioNet and as Kaggle give it: three readers, their labels and their boxes."""

import logging

import numpy as np
import pytest

from hilum.cli import main
from hilum.errors import MissingError, RecordsError
from hilum.records.boxes import asked, boxes_of
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
    assert set(found.table["site"]) == {"VinBigData"}
    assert positives(found) == [["Aortic enlargement", "Nodule/Mass"], ["No finding"]]
    assert boxes_of(found, "Aortic enlargement")[0].tolist() == [[102, 104, 204, 208]]
    assert boxes_of(found, "No finding") == [] or not any(map(len, boxes_of(found, "No finding")))
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
    with pytest.raises(MissingError, match=r"expected annotations/image_labels_train\.csv or "):
        read(tmp_path)
    (physionet(tmp_path) / "train" / "aaa.dicom").unlink()
    with pytest.raises(RecordsError, match="line 2: train/aaa is not there"):
        read(tmp_path)
    assert read(tmp_path, only_present=True).table["patient"].tolist() == ["bbb", "ccc", "ddd"]


def test_kaggles_sheet_beside_those_of_physionet_is_not_read_for_both(tmp_path):
    physionet(tmp_path)
    text(tmp_path / "train.csv", "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max")
    found = read(tmp_path).table
    assert found["patient"].tolist() == ["aaa", "bbb", "ccc", "ddd"]
    assert set(found["site"]) == {"VinDr-CXR"}


def children(root):
    """VinDr-PCXR: rad_ID, one reader, sheets in the root, findings among the boxes alone."""
    header = "image_id,rad_ID,No finding,Bronchitis,Other disease"
    text(root / "image_labels_train.csv", header, "aaa,R1,0.0,1.0,0.0", "bbb,R2,1.0,0.0,0.0")
    text(root / "image_labels_test.csv", header, "ccc,R1,0.0,0.0,1.0", "ddd,R1,0.0,0.0,0.0")
    marks = "image_id,rad_ID,class_name,x_min,y_min,x_max,y_max"
    boxes = ["aaa,R1,Bronchial thickening,10,20,30,40", "aaa,R1,Bronchial thickening,50,60,70,80"]
    text(root / "annotations_train.csv", marks, *boxes, "bbb,R2,No finding,0,0,1,1")
    text(root / "annotations_test.csv", marks, "ccc,R1,No finding,,,,", "ddd,R1,Cardiomegaly,5,6,7,8")
    for name in ("train/aaa", "train/bbb", "test/ccc", "test/ddd"):
        text(root / f"{name}.dicom", "not read here")
    return root


def test_films_of_children_have_the_findings_that_only_boxes_name(tmp_path):
    found = read(children(tmp_path / "vindr-pcxr" / "1.0.0").parent)
    boxed = ["Bronchial thickening", "Cardiomegaly"]
    assert found.findings == (*boxed, "No finding", "Bronchitis", "Other diseases")
    assert positives(found) == [[boxed[0], "Bronchitis"], ["No finding"], ["Other diseases"], [boxed[1]]]
    assert [len(boxes) for boxes in boxes_of(found, boxed[0])] == [2, 0, 0, 0]
    assert asked(found, boxed).all()  # the reader looked for all of them
    assert found.table["boxes"].tolist()[1:3] == ["[]", "[]"]  # the row of no finding is no box
    assert set(found.table["view"]) == {"PA"}
    assert set(found.table["site"]) == {"VinDr-PCXR"}
    assert found.table["split"].tolist() == ["train", "train", "test", "test"]


def test_a_film_that_sizes_lacks_and_votes_of_minus_one_are_refused(tmp_path):
    physionet(tmp_path, ending="png")
    sizes = text(tmp_path / "meta.csv", "image_id,dim0,dim1", "aaa,512,2048", "ccc,0,20")
    with pytest.raises(RecordsError) as caught:
        read(tmp_path, sizes=sizes, agreement="any")
    assert "bbb is not in --sizes, so its boxes cannot be scaled" in str(caught.value)
    assert "line 3: meta.csv: dim0 or dim1 is no number above 0" in str(caught.value)
    physionet(tmp_path, train=[TRAIN[0].replace("1,0,0", "-1,0,0"), *TRAIN[1:]])
    with pytest.raises(RecordsError, match=r"line 2.*image_labels_train\.csv: found -1; expected 1 or 0"):
        read(tmp_path)
