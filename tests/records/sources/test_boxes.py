"""Boxed data sets in miniature trees with their own names and columns, and what is wrong with bad ones."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hilum
from hilum.cli import main
from hilum.errors import ConfigError, MissingError, RecordsError
from hilum.images.read import read_image
from hilum.records.boxes import asked, boxes_of
from hilum.records.defects import Defects
from hilum.records.sources import coco, rsna, yolo
from hilum.records.sources._boxes import from_corner_and_size, size_of
from hilum.records.table import Records

THIRD = "No Lung Opacity / Not Normal"


def film(path: Path, size=(64, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros(size[::-1], np.uint8)).save(path)


def rsna_tree(root, *, labels=None, classes=None, side=1024):
    labels = labels or [
        "patientId,x,y,width,height,Target",
        "0004cfab-14fd,,,,,0",
        "00436515-870c,264.0,152.0,213.0,379.0,1",
        "00436515-870c,562.0,152.0,256.0,453.0,1",
        "000fe35a-2649,,,,,0",
    ]
    classes = classes or [
        "patientId,class",
        f"0004cfab-14fd,{THIRD}",
        "00436515-870c,Lung Opacity",
        "00436515-870c,Lung Opacity",
        "000fe35a-2649,Normal",
    ]
    (root / "stage_2_train_labels.csv").write_text("\n".join(labels) + "\n")
    (root / "stage_2_detailed_class_info.csv").write_text("\n".join(classes) + "\n")
    for name in ("0004cfab-14fd", "00436515-870c", "000fe35a-2649"):
        film(root / "stage_2_train_images" / f"{name}.png", (side, side))
    return root


def test_rsna_films_without_boxes_are_negatives_and_have_their_class(tmp_path):
    root = rsna_tree(tmp_path)
    assert main(["records", "read", "rsna", "--root", str(root), "--out", str(tmp_path / "rsna.csv")]) == 0
    records = Records.read(tmp_path / "rsna.csv")
    assert records.findings == ("Lung Opacity",)
    assert records.labels[:, 0].tolist() == [0, 1, 0]
    assert asked(records, ["Lung Opacity"]).all()
    assert [found.tolist() for found in boxes_of(records, "Lung Opacity")] == [
        [],
        [[264, 152, 477, 531], [562, 152, 818, 605]],
        [],
    ]
    direct = rsna.read(root, stage=2, images=None)
    assert direct.table["class"].tolist() == [THIRD, "Lung Opacity", "Normal"]
    with pytest.raises(MissingError, match=r"expected stage_1_train_labels\.csv in it"):
        rsna.read(root, stage=1, images=None)


def test_all_that_is_wrong_with_rsna_files_is_one_list(tmp_path):
    root = rsna_tree(
        tmp_path,
        labels=[
            "patientId,x,y,width,height,Target",
            "0004cfab-14fd,10,10,20,20,0",
            "00436515-870c,900.0,152.0,213.0,379.0,1",
            "00436515-870c,100,100,150,-3,1",
            "000fe35a-2649,,,,,1",
            "lost,500,600,900,1000,1",
        ],
    )
    with pytest.raises(RecordsError) as caught:
        rsna.read(root, stage=2, images=None)
    said = str(caught.value)
    for part in (
        "line 2: 0004cfab-14fd: Target is '0', and there is a box",
        "line 3: 00436515-870c: 900, 152, 213, 379: reaches beyond the 1024 x 1024 pixels",
        "line 4: 00436515-870c: 100, 100, 150, -3: width 150 and height -3; both must be above 0",
        "line 5: 000fe35a-2649: Target is '1', and there is no box",
        "line 5: 000fe35a-2649: the class is 'Normal', and Target '1'",
        "line 6: lost: 500, 600, 900, 1000: reaches beyond",
        "as x1, y1, x2, y2 it would fit: expected x, y, width, height",
        "line 6: lost has no class",
        "is there with none of .dcm, .png, .jpg",
    ):
        assert part in said


def coco_file(root, **changes):
    content = {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 80, "height": 64, "person": "P1"},
            {"id": 9, "file_name": "sub/b.png", "width": 64, "height": 64, "person": "P2"},
        ],
        "categories": [{"id": 1, "name": "Nodule"}, {"id": 3, "name": "Effusion"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 5, 30, 40.5]},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [60, 60, 20.3, 4]},
        ],
    } | changes
    (root / "annotations.json").write_text(json.dumps(content))
    film(root / "a.png", (80, 64))
    film(root / "sub" / "b.png")
    return root


def test_coco_boxes_and_negatives(tmp_path):
    out = hilum.records_read("coco", root=coco_file(tmp_path), patient="person", out=tmp_path / "coco.csv")
    records = Records.read(out)
    assert records.findings == ("Effusion", "Nodule")
    assert records.table["patient"].tolist() == ["P1", "P2"]
    assert boxes_of(records, "Effusion")[0].tolist() == [[10, 5, 40, 45.5]]
    assert boxes_of(records, "Nodule")[0].tolist() == [[60, 60, 80, 64]]  # 0.3 pixels beyond are rounding
    assert asked(records, ["Nodule"]).tolist() == [True, True]
    assert np.asarray(records.labels).tolist() == [[1, 1], [0, 0]]


def test_all_that_is_wrong_with_a_coco_file_is_one_list(tmp_path):
    marks = [
        {"id": 1, "image_id": 8, "category_id": 3, "bbox": [10, 5, 30, 40]},
        {"id": 2, "image_id": 7, "category_id": 2, "bbox": [10, 5, 30, 40]},
        {"id": 3, "image_id": 7, "category_id": 1, "bbox": [70, 5, 30, 40]},
        {"id": 4, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3]},
        {"id": 5, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 1},
    ]
    images = [
        {"id": 7, "file_name": "a.png", "width": 80, "height": 64},
        {"id": 7, "file_name": "a.png", "width": 80, "height": 64},
        {"id": 5, "file_name": "gone.png", "width": 80, "height": 64},
    ]
    with pytest.raises(RecordsError) as caught:
        coco.read(
            coco_file(tmp_path, annotations=marks, images=images),
            annotations=[Path("annotations.json")], images=Path("."), patient="",
        )  # fmt: skip
    said = str(caught.value)
    for part in (
        "annotation 1 is on image 8, which the file lacks",
        "annotation 2 is of category 2, which the file lacks",
        "annotation 3: 70, 5, 30, 40: reaches beyond the 80 x 64 pixels",
        "annotation 4 has no bbox of four numbers",
        "annotation 5 is a crowd, which is no single box",
        "id 7 is there twice",
        "gone.png is not there",
    ):
        assert part in said
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(RecordsError, match="expected the lists images, categories and annotations"):
        coco.read(tmp_path, annotations=[Path("other.json")], images=Path("."), patient="")


def read_coco(root, **changes):
    return coco.read(root, **coco.Settings().model_dump() | changes)


def test_coco_files_of_several_splits_and_copies_of_another_size(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for name, year, size in (("train", 2017, (80, 64)), ("val", 2017, (40, 32))):
        film(tmp_path / "images" / f"{name}{year}" / f"{name}.png", size)
        image = {"id": 7, "file_name": f"{name}.png", "width": 80, "height": 64}
        marks = [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 5, 30, 40]}]
        categories = [{"id": 0, "name": "Nodule"}, {"id": 3, "name": "Effusion"}]
        content = {"images": [image], "categories": categories, "annotations": marks}
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{name}{year}.json").write_text(json.dumps(content))
    found = read_coco(tmp_path)
    assert found.table["split"].tolist() == ["train", "val"]
    assert found.table["patient"].tolist() == ["images/train2017/train.png", "images/val2017/val.png"]
    assert boxes_of(found, "Effusion")[1].tolist() == [[5, 2.5, 20, 22.5]]
    assert found.findings == ("Effusion", "Nodule")
    for said in (
        "the boxes of 1 images that are of another size than the file says were scaled",
        "no box is of 'Nodule': 0 on all images",
        "each of 2 images is its own patient; --patient names the key",
    ):
        assert said in caplog.text
    one = read_coco(tmp_path, annotations=[Path("annotations/instances_val2017.json")])
    assert one.table["split"].tolist() == [""]  # of one file a split is made later
    film(tmp_path / "images" / "val2017" / "val.png", (32, 40))
    with pytest.raises(RecordsError, match=r"is of 32 x 40 pixels; its boxes are of 80 x 64"):
        read_coco(tmp_path)
    film(tmp_path / "images" / "more" / "val.png", (40, 32))
    with pytest.raises(RecordsError, match=r"val\.png is not there; there are .*--images is the folder"):
        read_coco(tmp_path)


def test_what_is_no_coco_file_is_refused_in_one_list_and_never_stops_it(tmp_path):
    images = [{"id": 1, "file_name": "a.png", "width": None, "height": 64}, {"id": [2], "file_name": "b"}, 5]
    images += [{"id": 7, "file_name": "a.png", "width": 80, "height": 64}]
    marks = [{"image_id": [1], "category_id": 1, "bbox": [1, 2, 3, 4]}, "mark"]
    marks += [{"id": 9, "image_id": 7, "category_id": 1, "bbox": [1, "x", 3, None]}]
    coco_file(tmp_path, images=images, annotations=marks, categories=[{"id": 1, "name": "Nodule"}, {"id": 2}])
    with pytest.raises(RecordsError) as caught:
        read_coco(tmp_path)
    said = str(caught.value)
    for part in (
        "a.png: width None and height 64; expected pixels",
        "of images lacks one of 'id', 'file_name', 'width', 'height'",
        "'5' of images lacks one of",
        "of categories lacks one of 'id', 'name'",
        "annotation None is on image [1], which the file lacks",
        "annotations.json: 'mark'",
        "annotation 9 has no bbox of four numbers",
    ):
        assert part in said
    (tmp_path / "annotations.json").rename(tmp_path / "boxes.json")
    with pytest.raises(MissingError, match=r"found 'boxes\.json': name those that are meant with --annot"):
        read_coco(tmp_path)
    with pytest.raises(MissingError, match=r"gone\.json: no such file; --annotations names it from the root"):
        read_coco(tmp_path, annotations=[Path("gone.json")])


def yolo_tree(root):
    for split, name in (("train", "a"), ("train", "b"), ("val", "c")):
        film(root / "images" / split / f"{name}.png", (100, 50))
    texts = root / "labels" / "train"
    texts.mkdir(parents=True)
    (texts / "a.txt").write_text("1 0.5 0.5 0.2 0.4\n0 0.1 0.2 0.2 0.4\n")
    (texts / "b.txt").write_text("")
    return root


def test_yolo_files_are_shares_of_the_image_and_a_missing_one_has_a_policy(tmp_path):
    root = yolo_tree(tmp_path)
    found = yolo.read(root, names=["Opacity", "Nodule"], missing="unknown")
    assert found.table["split"].tolist() == ["train", "train", "val"]
    assert boxes_of(found, "Nodule")[0].ravel().tolist() == pytest.approx([40, 15, 60, 35])
    assert boxes_of(found, "Opacity")[0].ravel().tolist() == pytest.approx([0, 0, 20, 20])
    assert asked(found, ["Opacity"]).tolist() == [True, True, False]
    negative = yolo.read(root, names=["Opacity", "Nodule"], missing="negative")
    assert asked(negative, ["Opacity"]).all()
    with pytest.raises(RecordsError, match=r"c.txt is not there; say --missing negative"):
        yolo.read(root, names=["Opacity", "Nodule"], missing="refuse")
    with pytest.raises(ConfigError, match="--names is needed"):
        yolo.read(root, names=[], missing="refuse")


def test_all_that_is_wrong_with_yolo_files_is_one_list(tmp_path):
    root = yolo_tree(tmp_path)
    lines = ["5 0.5 0.5 0.2 0.4", "0 50 20 10 10", "0 0.95 0.5 0.2 0.1", "x", "0 0.5 0.5 0 0.1"]
    (root / "labels" / "train" / "a.txt").write_text("\n".join(lines))
    (root / "labels" / "train" / "none.txt").write_text("0 0.5 0.5 0.2 0.4\n")
    with pytest.raises(RecordsError) as caught:
        yolo.read(root, names=["Opacity"], missing="negative")
    said = str(caught.value)
    for part in (
        "a.txt line 1: class 5, and there are 1 names",
        "a.txt line 2: '0 50 20 10 10': expected shares of the image, from 0 to 1",
        "a.txt line 3: 85, 22.5, 20, 5: reaches beyond the 100 x 50 pixels",
        "a.txt line 4: found 'x'; expected class x y width height",
        "a.txt line 5: 50, 22.5, 0, 5: width 0 and height 5; both must be above 0",
        "labels/train/none.txt has no image of its name",
    ):
        assert part in said


def read_yolo(root, **changes):
    return yolo.read(root, **yolo.Settings().model_dump() | changes)


def test_yolo_splits_above_the_images_names_in_a_file_and_outlines(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for split, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        film(tmp_path / split / "images" / f"{name}.jpg", (100, 50))
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels" / f"{name}.txt").write_text("")
    outline = "1 0.1 0.2 0.5 0.2 0.5 0.6 0.3 0.8"
    (tmp_path / "train" / "labels" / "a.txt").write_text(f"{outline}\n{outline}\n0.0 0.5 0.5 0.2 0.4\n")
    (tmp_path / "README.dataset.txt").write_text("by hand\n")
    (tmp_path / "train" / "images" / "d.tif").write_bytes(b"")
    with pytest.raises(ConfigError, match="--names is needed: what class 0"):
        read_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text("train: ../train/images\nnc: 2\nnames: {0: Opacity, 1: Nodule}\n")
    found = read_yolo(tmp_path)
    assert found.findings == ("Opacity", "Nodule")
    assert found.table["split"].tolist() == ["test", "train", "val"]
    assert boxes_of(found, "Nodule")[1].tolist() == [[10, 10, 50, 40]]
    assert boxes_of(found, "Opacity")[1].ravel().tolist() == pytest.approx([40, 15, 60, 35])
    for said in (
        "data.yaml: the classes are 'Opacity', 'Nodule'",
        "1 outlines became the boxes around them",
        "1 lines were there twice in their file",
        "1 left out: no text files of boxes: 'README.dataset.txt'",
        "1 left out: images of other kinds than .png, .jpg, .jpeg: 'train/images/d.tif'",
        "each of 3 images is its own; --patient-in-name finds whose in the path",
    ):
        assert said in caplog.text
    (tmp_path / "train" / "labels" / "a.txt").write_text(
        "0 0.5 0.5 0.2 0.4 0.9\n0 1 0 1 0 1 0 1\nnan 0 0 1 1\n"
    )
    with pytest.raises(RecordsError) as caught:
        read_yolo(tmp_path)
    assert "six numbers are a box with a detector's score" in str(caught.value)
    assert "expected class x y x y ... as an outline has it" in str(caught.value)
    assert "line 3: found 'nan 0 0 1 1'; expected class x y width height" in str(caught.value)
    with pytest.raises(MissingError, match="no image"):
        read_yolo(tmp_path / "nowhere")


def test_yolo_may_lie_in_the_archives_own_folder(tmp_path):
    root = yolo_tree(tmp_path / "download" / "films")
    (root / "data.yaml").write_text("names: [Opacity, Nodule]\n")
    found = read_yolo(tmp_path / "download", missing="negative")
    assert found.findings == ("Opacity", "Nodule")
    assert found.table["split"].tolist() == ["train", "train", "val"]


def test_a_table_without_a_film_is_not_written(tmp_path, capsys):
    coco_file(tmp_path, images=[], annotations=[])
    words = ["--root", str(tmp_path), "--out", str(tmp_path / "none.csv")]
    assert main(["records", "read", "coco", *words]) != 0
    assert "it names no radiograph, or none that was asked for" in capsys.readouterr().err
    assert not (tmp_path / "none.csv").exists()


def test_yolo_text_files_may_lie_beside_the_images(tmp_path):
    film(tmp_path / "a.png", (100, 50))
    (tmp_path / "a.txt").write_bytes("0 0.5 0.5 0.2 0.4\r\n".encode("utf-8-sig"))
    (tmp_path / "classes.txt").write_text("Opacity\n")
    assert boxes_of(read_yolo(tmp_path), "Opacity")[0].ravel().tolist() == pytest.approx([40, 15, 60, 35])


def test_patients_are_found_in_paths_or_the_images_without_one_are_named(tmp_path):
    coco_file(tmp_path)
    found = read_coco(tmp_path, patient_in_name=r"(\w)\.png$")
    assert found.table["patient"].tolist() == ["a", "b"]
    root = yolo_tree(tmp_path / "yolo")
    found = read_yolo(root, names=["O", "N"], missing="negative", patient_in_name=r"/([ab]|c)\.png")
    assert found.table["patient"].tolist() == ["a", "b", "c"]
    with pytest.raises(RecordsError, match=r"images/val/c\.png: --patient-in-name .* finds no patient in it"):
        read_yolo(root, names=["O", "N"], missing="negative", patient_in_name=r"/([ab])\.png")
    with pytest.raises(ConfigError, match="it has 0 groups; expected one"):
        read_coco(tmp_path, patient_in_name=r"\d+")
    with pytest.raises(ConfigError, match="is no regular expression"):
        read_coco(tmp_path, patient_in_name="(")
    with pytest.raises(ConfigError, match="which one names the patients"):
        read_coco(tmp_path, patient_in_name="(a)", patient="person")


def test_a_box_beyond_the_film_by_a_rounding_alone_is_refused_and_hints_are_true():
    defects = Defects(Path("x"))
    made = from_corner_and_size("Mass", [70, 5, 10.4, 5], (80, 60), defects, where="a")
    assert made == ("Mass", 70, 5, 80, 10)
    assert from_corner_and_size("Mass", [80.2, 10, 0.2, 5], (80, 60), defects, where="b") is None
    assert from_corner_and_size("Mass", [-10, 5, 50, 50], (80, 60), defects, where="c") is None
    with pytest.raises(RecordsError) as caught:
        defects.check()
    assert "b: 80.2, 10, 0.2, 5: lies beyond the film" in str(caught.value)
    assert "would fit" not in str(caught.value)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_boxes_of_a_jpeg_are_on_the_film_as_it_is_turned(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((50, 100), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    shape = read_image(tmp_path / "a.jpg").shape
    assert size_of(tmp_path / "a.jpg", Defects(tmp_path)) == shape[::-1]
    assert shape == ((100, 50) if orientation > 4 else (50, 100))
