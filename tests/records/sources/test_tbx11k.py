"""TBX11K in a miniature tree: three folders, two splits, boxes, and what is left out."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hilum.cli import main
from hilum.errors import MissingError, RecordsError
from hilum.records.boxes import asked, boxes_of
from hilum.records.sources import tbx11k
from hilum.records.table import Records

CATEGORIES = [
    {"id": number, "name": name, "supercategory": "Tuberculosis"}
    for number, name in enumerate(
        ("ActiveTuberculosis", "ObsoletePulmonaryTuberculosis", "PulmonaryTuberculosis"), 1
    )
]
TRAIN = ["health/h0001.png", "sick/s0001.png", "tb/tb0005.png", "tb/tb0007.png"]
VAL = ["health/h0004.png", "tb/tb0003.png"]


def annotations(names, marks=()):
    return {
        "info": [{"description": "TBX11K Dataset"}],
        "categories": CATEGORIES,
        "images": [
            {"id": number, "file_name": name, "width": 512, "height": 512, "coco_url": ""}
            for number, name in enumerate(names, 1)
        ],
        "annotations": [
            {"id": number, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0}
            for number, (image, category, box) in enumerate(marks, 1)
        ],
    }


def tree(root: Path, train=None, val=None) -> Path:
    train = train or annotations(TRAIN, [(3, 1, [100.5, 50, 60, 80]), (3, 2, [300, 60, 40.25, 30])])
    val = val or annotations(VAL, [(2, 2, [10, 10, 20, 20])])
    folder = root / "TBX11K" / "annotations" / "json"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "TBX11K_train.json").write_text(json.dumps(train))
    (folder / "TBX11K_val.json").write_text(json.dumps(val))
    extra = ["test/t0001.png", "extra/mc+shenzhen/train/CHNCXR_0001_0.png", "extra/da+db/train/n11.png"]
    for name in (*TRAIN, *VAL, *extra):
        path = root / "TBX11K" / "imgs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((512, 512), np.uint8)).save(path)
    return root


def test_folders_are_classes_and_films_without_tuberculosis_are_negatives(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    out = tmp_path / "tbx.csv"
    assert main(["records", "read", "tbx11k", "--root", str(tree(tmp_path)), "--out", str(out)]) == 0
    records = Records.read(out)
    active, healed = "ActiveTuberculosis", "ObsoletePulmonaryTuberculosis"
    assert records.findings == ("Tuberculosis", active, healed)
    assert records.table["split"].tolist() == ["train"] * 4 + ["val"] * 2
    assert records.table["Tuberculosis"].tolist() == [0, 0, 1, 1, 0, 1]
    np.testing.assert_array_equal(records.table[active], [0, 0, 1, np.nan, 0, 0])
    np.testing.assert_array_equal(records.table[healed], [0, 0, 1, np.nan, 0, 1])
    assert boxes_of(records, active)[2].tolist() == [[100.5, 50, 160.5, 130]]
    assert boxes_of(records, healed)[2].tolist() == [[300, 60, 340.25, 90]]
    assert asked(records, [active]).tolist() == [True, True, True, False, True, True]
    assert records.table["patient"].tolist()[:2] == ["health/h0001", "sick/s0001"]
    assert tbx11k.read(tmp_path).table["class"].tolist() == ["health", "sick", "tb", "tb", "health", "tb"]
    for said in (
        "1 left out: test films, whose labels are not public: 'test/t0001.png'",
        "2 left out: Shenzhen, Montgomery, DA and DB",
        "1 films of tuberculosis have no box",
        "TBX11K_train.json: no box is of 'PulmonaryTuberculosis'",
        "each of 6 films counts as one",
    ):
        assert said in caplog.text


def test_the_root_may_be_the_inner_folder(tmp_path):
    assert len(tbx11k.read(tree(tmp_path) / "TBX11K")) == 6
    with pytest.raises(MissingError, match=r"expected annotations/json/TBX11K_train\.json"):
        tbx11k.read(tmp_path / "nowhere")


def test_all_that_is_wrong_with_boxes_is_one_list(tmp_path):
    marks = [(3, 1, [500, 50, 60, 80]), (3, 7, [1, 1, 2, 2]), (9, 1, [1, 1, 2, 2]), (3, 1, [1, 2, 3])]
    with pytest.raises(RecordsError) as caught:
        tbx11k.read(tree(tmp_path, annotations(TRAIN, marks)))
    said = str(caught.value)
    for part in (
        "TBX11K_train.json: annotation 1: 500, 50, 60, 80: reaches beyond the 512 x 512 pixels",
        "annotation 2 is of category 7, which the file lacks",
        "annotation 3 is on image 9, which the file lacks",
        "annotation 4 has no bbox of four numbers",
    ):
        assert part in said


def test_all_that_is_wrong_with_films_is_one_list(tmp_path):
    train = annotations([*TRAIN, "gone/x.png", "tb/tb0003.png"], [(1, 1, [10, 10, 20, 20])])
    with pytest.raises(RecordsError) as caught:
        tbx11k.read(tree(tmp_path, train))
    said = str(caught.value)
    for part in (
        "tb/tb0003.png is there twice; a film is in one split",
        "'gone/x.png' is in none of the folders health, sick, tb",
        "gone/x.png is not there",
        "health/h0001.png has boxes of tuberculosis, and its folder says that it has none",
    ):
        assert part in said
    (tmp_path / "TBX11K" / "annotations" / "json" / "TBX11K_val.json").write_text("[]")
    with pytest.raises(RecordsError, match="expected the lists images, categories and annotations"):
        tbx11k.read(tmp_path)


def test_boxes_of_smaller_copies_are_scaled(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root = tree(tmp_path)
    Image.fromarray(np.zeros((256, 256), np.uint8)).save(root / "TBX11K" / "imgs" / "tb" / "tb0005.png")
    records = tbx11k.read(root)
    assert boxes_of(records, "ActiveTuberculosis")[2].tolist() == [[50.25, 25, 80.25, 65]]
    assert "the boxes of 1 films that are not of 512 pixels were scaled" in caplog.text
