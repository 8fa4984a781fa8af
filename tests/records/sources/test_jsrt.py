"""JSRT's films with the clinical texts of its own release, and with the sheet of a copy."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hilum.cli import main
from hilum.errors import MissingError, RecordsError
from hilum.records.boxes import asked, boxes_of
from hilum.records.sources import jsrt
from hilum.records.table import Records

WITH = [
    "JPCLN001.IMG\t5\t15\t53\tmale\t1634\t692\tmalignant\tl.upper lobe\tlung cancer",
    "JPCLN002.IMG\t5\t30\t78\tfemale\t1614\t1090\tbenign\tl.upper lobe(S5)\tpulmonary hematoma",
    "JPCLN003.IMG\t2\t35\t?\tfemale\t2000\t40\tmalignant\tl.upper lobe(S1+2)\tlung cancer\t",
    "",
]
WITHOUT = ["JPCNN001.IMG    59   male   non-nodule", "JPCNN002.IMG    41   female   non-nodule"]


def films(folder: Path, side: int = 2048, ending: str = ".png"):
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("JPCLN001", "JPCLN002", "JPCLN003", "JPCNN001", "JPCNN002"):
        Image.fromarray(np.zeros((side, side), np.uint8)).save(folder / f"{name}{ending}")


def tree(root: Path, lines=WITH, others=WITHOUT, newline="\r") -> Path:
    folder = root / "Clinical_Information"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "CLNDAT_EN.txt").write_bytes(newline.join(lines).encode())
    (folder / "CNNDAT_EN.TXT").write_bytes((newline.join(others) + newline).encode())
    return root


@pytest.mark.parametrize("newline", ["\r", "\r\n"])
def test_texts_give_nodules_their_place_and_who_it_is(tmp_path, caplog, newline):
    caplog.set_level(logging.INFO)
    films(tmp_path / "films", 1024)
    root, out = tree(tmp_path, newline=newline), tmp_path / "jsrt.csv"
    assert main(["records", "read", "jsrt", "--root", str(root), "--out", str(out)]) == 0
    records = Records.read(out)
    assert records.findings == ("Nodule", "Malignant Nodule")
    assert records.labels.tolist() == [[1, 1], [1, 0], [1, 1], [0, 0], [0, 0]]
    assert records.table["patient"].tolist() == ["JPCLN001", "JPCLN002", "JPCLN003", "JPCNN001", "JPCNN002"]
    assert records.table["sex"].tolist() == ["M", "F", "F", "M", "F"]
    assert records.table["age"].tolist() == ["53", "78", "", "59", "41"]
    assert records.table["text"].tolist()[:2] == [
        "l.upper lobe; lung cancer",
        "l.upper lobe(S5); pulmonary hematoma",
    ]
    radius = 15 / 0.175 / 2
    expected = [(1634 - radius) / 2, (692 - radius) / 2, (1634 + radius) / 2, (692 + radius) / 2]
    assert boxes_of(records, "Nodule")[0].ravel().tolist() == pytest.approx(expected)
    cut = boxes_of(records, "Nodule")[2].ravel().tolist()
    assert cut == pytest.approx([950, 0, 1024, 70])
    assert asked(records, ["Nodule"]).all()
    assert "each of 5 films counts as one" in caplog.text
    assert jsrt.read(root).table["subtlety"].tolist() == ["5", "5", "2", "", ""]


def test_the_sheet_of_a_copy_says_the_same(tmp_path):
    films(tmp_path / "images" / "images")
    rows = [
        "study_id,gender,age,state,x,y,size,diagnosis",
        "JPCLN001.png,Male,53,malignant,1634,692,15,lung cancer",
        "JPCLN002.png,Female,78.0,benign,1614,1090,30,pulmonary hematoma",
        "JPCNN001.png,Male,,non-nodule,,,,non-nodule",
    ]
    (tmp_path / "jsrt_metadata.csv").write_text("\n".join(rows) + "\n")
    records = jsrt.read(tmp_path)
    assert records.labels.tolist() == [[1, 1], [1, 0], [0, 0]]
    assert records.table["age"].tolist() == ["53", "78", ""]
    assert records.table["text"].tolist() == ["lung cancer", "pulmonary hematoma", ""]
    radius = 30 / 0.175 / 2
    expected = [1614 - radius, 1090 - radius, 1614 + radius, 1090 + radius]
    assert boxes_of(records, "Nodule")[1].ravel().tolist() == pytest.approx(expected)
    (tmp_path / "jsrt_metadata.csv").write_text(
        "\n".join([rows[0], rows[1].replace("1634", "-"), "JPCLN009.png,F,1,?,,,,"]) + "\n"
    )
    with pytest.raises(RecordsError) as caught:
        jsrt.read(tmp_path)
    assert "line 2: x is '-'; expected a number" in str(caught.value)
    assert "line 3: found '?'; expected malignant, benign or non-nodule" in str(caught.value)


def test_all_that_is_wrong_with_texts_is_one_list(tmp_path):
    films(tmp_path / "films")
    broken = [WITH[0], "JPCLN002.IMG\t5\tlarge\t78\tfemale", WITH[2]]
    with pytest.raises(
        RecordsError, match=r"line 2: CLNDAT_EN\.txt: found 'JPCLN002.*expected JPCLN001\.IMG, subtlety"
    ):
        jsrt.read(tree(tmp_path, broken))
    outside = [WITH[0], WITH[1].replace("1614", "2614"), WITH[0], WITH[2].replace("JPCLN003", "JPCLN154")]
    with pytest.raises(RecordsError) as caught:
        jsrt.read(tree(tmp_path, outside))
    assert "JPCLN001 is there twice" in str(caught.value)
    assert "line 4: JPCLN154 is not there" in str(caught.value)
    with pytest.raises(RecordsError, match="line 2: JPCLN002: 30 mm at 2614, 1090 is no nodule"):
        jsrt.read(tree(tmp_path, outside[:2]))


def test_raw_films_are_refused_with_the_way_out(tmp_path):
    root = tree(tmp_path)
    (root / "JPCLN001.IMG").write_bytes(b"\0" * 16)
    with pytest.raises(MissingError, match=r"1 films are raw \.IMG, which is not read; make PNG of them"):
        jsrt.read(root)
    with pytest.raises(
        MissingError, match=r"expected CLNDAT_EN\.txt and CNNDAT_EN\.TXT, or jsrt_metadata\.csv"
    ):
        jsrt.read(tmp_path / "nowhere")


def test_masks_are_counted_and_another_film_of_the_same_name_is_refused(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    films(tmp_path / "films", 8)
    films(tmp_path / "Masks" / "heart", 8)
    assert not jsrt.read(tree(tmp_path)).table["image"].str.contains("Masks").any()
    assert "5 left out: masks of lungs are no films: 'Masks/heart/JPCLN001.png'" in caplog.text
    films(tmp_path / "equalised", 8)
    with pytest.raises(
        RecordsError, match=r"JPCNN002 is there twice, as .*(films|equalised).*; move one away"
    ):
        jsrt.read(tmp_path)
