"""ChestX-ray14 in miniature: its split files, its folders of films, its odd headers, ages and boxes."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hilum.cli import main
from hilum.errors import MissingError, RecordsError
from hilum.records.boxes import asked, boxes_of
from hilum.records.sources import nih_chestxray14
from hilum.records.table import Records
from tests.real_films import FILMS, needs_films

from .trees import film, text

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
TAIL = "2682,2749,0.143,0.143,"
ROWS = [
    "00000001_000.png,Cardiomegaly,0,1,58,M,PA",
    "00000001_001.png,Cardiomegaly|Emphysema,1,1,058Y,M,PA",
    "00000002_000.png,No Finding,0,2,411,F,AP",
    "00000003_000.png,Infiltration|Nodule,0,3,006M,F,PA",
    "00000004_000.png,Hernia,0,4,81,F,AP",
]
BOXES = [
    "00000001_001.png,Cardiomegaly,225.0847,547.0192,86.7797,79.1864,,,",
    "00000003_000.png,Infiltrate,0.0,512.0,512.0,513.0,,,",
    "00000003_000.png,Mass,100,200,50,60,,,",
]


def tree(root, *, rows=ROWS, boxes=BOXES, header=HEADER, side=1024, name="Data_Entry_2017.csv"):
    text(root / name, header, *(f"{row},{TAIL}" for row in rows))
    text(root / "train_val_list.txt", "00000001_000.png", "00000001_001.png", "00000003_000.png")
    (root / "test_list.txt").write_text("00000002_000.png\r\n00000004_000.png")  # no line ends the file
    text(root / "BBox_List_2017.csv", "Image Index,Finding Label,Bbox [x,y,w,h],,,", *boxes)
    for place, row in enumerate(rows):
        film(root / f"images_{place + 1:03}" / "images" / row.split(",")[0], (side, side))
    return root


def read(root, **changes):
    return nih_chestxray14.read(root, **nih_chestxray14.Settings(val_share=0).model_dump() | changes)


def test_labels_split_patients_and_ages(tmp_path, caplog):
    out = tmp_path / "table.csv"
    words = ["--root", str(tree(tmp_path)), "--val-share", "0", "--out", str(out)]
    with caplog.at_level(logging.INFO):
        assert main(["records", "read", "nih_chestxray14", *words]) == 0
    assert "1 ages are not in 0 to 130 years, such as '411'" in caplog.text
    found = Records.read(out)
    assert found.findings == nih_chestxray14.FINDINGS
    positive = [[f for f, one in zip(found.findings, row, strict=True) if one == 1] for row in found.labels]
    assert positive == [
        ["Cardiomegaly"],
        ["Cardiomegaly", "Emphysema"],
        [],
        ["Infiltration", "Nodule"],
        ["Hernia"],
    ]
    assert not np.isnan(found.labels).any()
    assert found.table["split"].tolist() == ["train", "train", "test", "train", "test"]
    assert found.table["patient"].tolist() == ["1", "1", "2", "3", "4"]
    assert found.table["age"].tolist() == ["58", "58", "", "0.5", "81"]
    assert found.table["sex"].tolist() == ["M", "M", "F", "F", "F"]
    assert found.table["view"].tolist() == ["PA", "PA", "AP", "PA", "AP"]
    assert found.table["study"][1] == "1/1"


def test_boxes_are_corners_and_infiltrate_is_infiltration(tmp_path):
    found = read(tree(tmp_path))
    assert boxes_of(found, "Cardiomegaly")[1].ravel() == pytest.approx(
        [225.0847, 547.0192, 311.8644, 626.2056]
    )
    assert boxes_of(found, "Infiltration")[3].tolist() == [[0, 512, 512, 1024]]  # cut at the film
    assert found.table["boxes"].tolist()[0] == ""


def test_only_films_with_a_box_were_asked(tmp_path):
    found = read(tree(tmp_path), labels="boxed")
    assert found.findings == nih_chestxray14.BOXED
    assert asked(found, ["Cardiomegaly"]).tolist() == [False, True, False, True, False]
    nan = np.nan
    np.testing.assert_equal(found.table["Infiltration"].to_numpy(), [nan, 0, nan, 1, nan])
    np.testing.assert_equal(found.table["Nodule"].to_numpy(), [nan, 0, nan, nan, nan])  # mined, and no box
    np.testing.assert_equal(found.table["Mass"].to_numpy(), [nan, 0, nan, 1, nan])  # a box, and not mined


def test_a_film_with_a_mined_finding_and_no_box_is_no_negative_of_detection(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        found = read(tree(tmp_path))
    assert found.table["Cardiomegaly"].tolist() == [1, 1, 0, 0, 0]
    assert asked(found, ["Cardiomegaly"]).tolist() == [False, True, True, True, True]
    assert asked(found, ["Nodule"]).tolist() == [True, True, True, False, True]
    boxed = read(tmp_path, labels="boxed")
    assert asked(boxed, ["Nodule"]).tolist() == [False, True, False, False, False]
    assert "1 times a film has boxes of a finding that its mined labels deny" in caplog.text


def test_boxes_of_smaller_copies_are_scaled(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        found = read(tree(tmp_path, side=256))
    assert "the boxes of 2 films that are not of 1024 pixels were scaled" in caplog.text
    assert boxes_of(found, "Mass")[3].tolist() == [[25, 50, 37.5, 65]]


def test_the_sheet_of_2020_and_views_and_validation(tmp_path, caplog):
    header = HEADER.replace("Gender", "Sex")
    tree(tmp_path, header=header, name="Data_Entry_2017_v2020.csv")
    with caplog.at_level(logging.INFO):
        found = read(tmp_path, views=["PA"], val_share=0.5)
    assert "2 of 5 films are left out: their view is none of PA (2 AP)" in caplog.text
    assert sorted(set(found.table["split"])) == ["train", "val"]
    assert found.table.groupby("patient")["split"].nunique().tolist() == [1, 1]


def test_all_that_is_wrong_is_one_list(tmp_path):
    rows = [
        ROWS[0],
        "00000001_001.png,Cardiomegaly|Gout,1,1,58,M,PA",
        "00000009_000.png,No Finding|Mass,0,9,5,M,PA",
    ]
    boxes = ["00000008_000.png,Mass,1,2,3,4,,,", "00000001_000.png,Hernia,1,2,3,4,,,"]
    boxes += ["00000001_000.png,Mass,1000,2,60,4,,,", "00000001_000.png,Mass,x,2,30,4,,,"]
    tree(tmp_path, rows=rows, boxes=boxes)
    text(tmp_path / "test_list.txt", "00000001_000.png")
    (tmp_path / "images_002" / "images" / "00000001_001.png").unlink()
    with pytest.raises(RecordsError) as caught:
        read(tmp_path)
    said = str(caught.value)
    for part in (
        "line 3, column 'Finding Labels': found 'Cardiomegaly|Gout'",
        "line 4, column 'Finding Labels': found 'No Finding|Mass'",
        "00000001_000.png is in train_val_list.txt and in test_list.txt",
        "line 4: 00000009_000.png is in neither train_val_list.txt nor test_list.txt",
        "line 3: 00000001_001.png is not there",
        "line 2: BBox_List_2017.csv: 00000008_000.png is in no row of the entries",
        "line 3: BBox_List_2017.csv: 00000001_000.png: 'Hernia' is none of",
        "1000, 2, 60, 4: reaches beyond the 1024 x 1024 pixels",
        "nan, 2, 30, 4: a side is no number",
    ):
        assert part in said


def test_a_wrong_root_and_a_missing_list_are_named(tmp_path):
    with pytest.raises(MissingError, match=r"expected Data_Entry_2017_v2020\.csv or Data_Entry_2017\.csv"):
        read(tmp_path)
    tree(tmp_path)
    (tmp_path / "test_list.txt").unlink()
    with pytest.raises(MissingError, match=r"expected test_list\.txt"):
        read(tmp_path)


def test_films_and_sheets_may_lie_in_folders_of_their_own_but_no_film_twice(tmp_path):
    tree(tmp_path / "CXR8", side=8, boxes=[])
    assert len(read(tmp_path)) == 5
    film(tmp_path / "copies" / "00000004_000.png")
    with pytest.raises(RecordsError, match=r"00000004_000\.png is there twice, as .*; move one away"):
        read(tmp_path)
    with pytest.raises(MissingError, match=f"it is in {tmp_path / 'CXR8'}: give that"):
        read(tmp_path / "CXR8" / "images_001")


@needs_films
def test_real_films_laid_out_as_the_download_have_their_findings_patients_and_boxes(tmp_path):
    """1,276 films of 512 pixels, half of the published ones; their boxes are in pixels of the published."""
    raw = pd.read_csv(FILMS / "nih_rsna/labels.csv", dtype=str, keep_default_na=False)
    raw["name"] = raw["path"].str.removeprefix("images/").str.replace(".jpg", ".png")
    (tmp_path / "images").mkdir()
    for path, name in zip(raw["path"], raw["name"], strict=True):
        (tmp_path / "images" / name).symlink_to(FILMS.resolve() / "nih_rsna" / path)
    parts = zip(
        raw["name"],
        raw["finding_labels"],
        raw["patient_id"],
        raw["age"],
        raw["sex"],
        raw["view"],
        strict=True,
    )
    rows = [f"{name},{found},0,{who},{age},{sex},{view},{TAIL}" for name, found, who, age, sex, view in parts]
    text(tmp_path / "Data_Entry_2017.csv", HEADER, *rows)
    tested = raw["patient_id"].astype(int) % 2 == 0
    text(tmp_path / "train_val_list.txt", *raw["name"][~tested])
    text(tmp_path / "test_list.txt", *raw["name"][tested])
    boxes = pd.read_csv(FILMS / "nih_rsna/boxes.csv").query("annotator == 'NIH_BBox_List_2017'")
    boxes["name"] = boxes["path"].str.removeprefix("images/").str.replace(".jpg", ".png")
    sides = ["x", "y", "width", "height"]
    marks = [
        f"{name},{label},{','.join(f'{2 * side:.4f}' for side in row)},,,"
        for name, label, row in zip(boxes["name"], boxes["label"], boxes[sides].to_numpy(), strict=True)
    ]
    text(tmp_path / "BBox_List_2017.csv", "Image Index,Finding Label,Bbox [x,y,w,h],,,", *marks)
    found = read(tmp_path)
    assert len(found) == 1276
    assert found.table["patient"].nunique() == 1013
    mined = raw.set_index("name")["finding_labels"].str.split("|")
    names = found.table["image"].map(lambda image: Path(image).name)
    for finding in found.findings:
        expected = [float(finding in mined[name]) for name in names]
        assert found.table[finding].tolist() == expected, finding
    assert set(found.table["split"]) == {"train", "test"}
    given = boxes.assign(label=boxes["label"].replace("Infiltrate", "Infiltration"))
    for finding in given["label"].unique():
        own = given[given["label"] == finding].set_index("name")[sides]
        for name, some in zip(names, boxes_of(found, finding), strict=True):
            corners = own.loc[[name]].to_numpy() if name in own.index else np.empty((0, 4))
            corners[:, 2:] += corners[:, :2]
            np.testing.assert_allclose(np.sort(some, axis=0), np.sort(corners, axis=0), atol=1.0)
    for finding in ("Cardiomegaly", "Effusion"):
        shown = (found.table[finding] == 1).to_numpy()
        boxed = np.array([len(some) > 0 for some in boxes_of(found, finding)])
        assert asked(found, [finding]).tolist() == (~shown | boxed).tolist()  # no box is no negative
