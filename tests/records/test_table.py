import json
import logging

import numpy as np
import pandas as pd
import pytest

from hilum.errors import ConfigError, MissingError, OutputError, RecordsError
from hilum.records.table import Records


def films(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def message(path, **settings):
    with pytest.raises(RecordsError) as caught:
        Records.read(path, **settings)
    assert caught.value.exit_code == 65
    return str(caught.value)


@pytest.fixture
def table(tmp_path):
    films(tmp_path, *(f"{letter}.png" for letter in "abcdef"))
    return tmp_path / "films.csv"


def test_columns_are_recognised_whatever_they_are_called(table):
    table.write_text(
        "Image Index,Patient ID,View Position,Patient Gender,Patient Age,"
        "Institution,Report,Edema,No Finding,n\n"
        "a.png,00012,PA,F,058Y,North,fine,1,0.0,x\nb.png,NA,AP,M,411,South,,,1.0,y\n"
    )
    records = Records.read(table)
    assert list(records.table) == [
        *("image", "patient", "split", "view", "sex", "age", "site", "text", "Edema", "No Finding"),
    ]
    assert records.findings == ("Edema", "No Finding")
    assert records.table["image"].tolist() == [str(table.parent / "a.png"), str(table.parent / "b.png")]
    assert records.table["age"].tolist() == ["58", ""]
    np.testing.assert_array_equal(records.labels, np.array([[1, 0], [np.nan, 1]], np.float32))
    assert records.labels.dtype == np.float32
    assert isinstance(records.table.index, pd.RangeIndex)


def test_ids_stay_what_they_are(table):
    ids = ["00012", "NA", "None", "1e5", "0x1F", "nan"]
    table.write_text("path,patient\n" + "".join(f"{c}.png,{i}\n" for c, i in zip("abcdef", ids, strict=True)))
    assert Records.read(table).table["patient"].tolist() == ids


def test_forty_defects_are_named_in_one_run_and_nothing_is_written(table, tmp_path):
    films(tmp_path, "UPPER.PNG", "sub/g.png", *(f"x{i}.png" for i in range(20)))
    table.write_text(
        "Path,PatientID,split,Edema,Effusion,Nodule,boxes,Nodule\n"
        "a.png,1,train,1,0,1,,\n"
        "b.png,1,val,1,0,1,,\n"
        "c.png,,train,2,U,yes,,\n"
        ",4,fold1,1.5,-1,NaN,nonsense,\n"
        'd.jpg,5,train,1,-1.0,1,"[[""Nodule"", 9, 9, 3, 20]]",\n'
        "upper.png,6,train,1,0,?,,\n"
        "a.png,7,train,0,0,1,,\n"
        "e.png,8,train,1\n"
        "f.png,9,train,1,0,1,,,,\n"
        'x0.png,10,train,1,0,1,"[[1, 2]]",\n'
        'x1.png,11,train,1,0,1,"[[""N"", 1, 2, NaN, 4]]",\n'
        "sub\\g.png,12,train,True,0,0,,\n"
        + "".join(f"x{i}.png,{i + 20},train,{i},0,0,,\n" for i in range(2, 20))
        + "nowhere/z.png,50,TEST,1,0,0,,\n"
    )
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    text = message(
        table, findings=["Edema", "Effusion", "Nodul", "Nodule", "PatientID"], columns={"sexx": "x"}
    )
    for expected in (
        "42 defects; nothing was written",
        "--findings Nodul: there is no column 'Nodul'; did you mean 'Nodule'?",
        "--findings PatientID: that is the name of a part",
        "--columns sexx=x: there is no part 'sexx'; did you mean 'sex'?",
        "line 1, column 'Nodule': the name comes 2 times",
        "line 3, column 'split': patient '1' is in train (line 2), val (line 3)",
        "line 4, column 'PatientID': the cell is empty",
        "line 4, column 'Edema': found '2'; a label is 1, 0 or empty",
        "line 4, column 'Effusion': found 'U'",
        "line 5, column 'Path': the cell is empty",
        "line 5, column 'split': found 'fold1'; expected train, val, test or empty",
        "line 5, column 'Edema': found '1.5'",
        "line 5, column 'Effusion': found '-1' (uncertain) in lines 5, 6; choose",
        "--uncertain ignore, zero, one or soft; of this finding alone: Effusion=zero",
        "line 5, column 'boxes': found 'nonsense'; expected a JSON list",
        "line 6, column 'boxes'",
        "has no area",
        "line 6, column 'Path'",
        "d.jpg' is not there; did you mean 'd.png'?",
        "upper.png' is not there; there is 'UPPER.PNG', in other letters",
        "line 8, column 'Path'",
        "is already in line 2 with another label of 'Edema'",
        "line 9: 4 cells, expected 8",
        "line 10: 10 cells, expected 8",
        "line 11, column 'boxes'",
        "line 12, column 'boxes'",
        "write / between folders",
        "line 13, column 'Edema': found 'True'",
        *(f"line {12 + i}, column 'Edema': found '{i}'" for i in range(2, 18)),
        "and 1 more of this kind: labels in column 'Edema'",
        "its folder is empty or not there",
    ):
        assert expected in text, expected
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_typo_among_labels_is_a_defect_and_a_column_of_text_is_none(table, caplog):
    table.write_text("path,patient,Edema,note\na.png,1,1,x\nb.png,2,0,y\nc.png,3,o,1\n")
    text = message(table)
    assert "line 4, column 'Edema': found 'o'" in text
    assert "1 defect;" in text
    table.write_text("path,patient,Edema,note\na.png,1,1,x\nb.png,2,0,y\nc.png,3,0,1\n")
    caplog.set_level(logging.INFO)
    assert Records.read(table).findings == ("Edema",)
    assert "not used: 'note'" in caplog.text


@pytest.mark.parametrize(("policy", "expected"), [("ignore", np.nan), ("zero", 0), ("one", 1)])
def test_an_uncertain_label_becomes_what_was_chosen_and_is_counted(table, caplog, policy, expected):
    table.write_text("path,patient,Edema\na.png,1,-1\nb.png,2,-1.0\nc.png,3,1\n")
    caplog.set_level(logging.INFO)
    records = Records.read(table, uncertain=policy)
    np.testing.assert_array_equal(records.labels[:, 0], np.array([expected, expected, 1], np.float32))
    assert "Edema: 2 labels of -1" in caplog.text
    assert "'-1' (uncertain) in lines 2, 3" in message(table)


def test_patients_are_never_made_up(table):
    table.write_text("Path,Edema\na.png,1\nb.png,0\n")
    assert "--columns patient=image" in message(table)
    records = Records.read(table, columns={"patient": "image"})
    assert records.table["patient"].tolist() == ["a.png", "b.png"]
    assert Records.read(table, columns={"patient": "Path"}).sha256 == records.sha256


def test_a_setting_that_names_no_column_names_the_nearest(table):
    table.write_text("Path,PatientID,Edema\na.png,1,1\n")
    text = message(table, columns={"patient": "PatientIDs", "image": "Pth"}, findings=["Oedema"])
    for expected in ("did you mean 'PatientID'?", "did you mean 'Path'?", "did you mean 'Edema'?"):
        assert expected in text


def test_named_findings_are_exactly_those_in_that_order_even_if_all_are_unknown(table):
    table.write_text("path,patient,A,B,C\na.png,1,1,,0\nb.png,2,1,,0\n")
    records = Records.read(table, findings=["B", "A"])
    assert records.findings == ("B", "A")
    assert np.isnan(records.labels[:, 0]).all()
    assert Records.read(table).findings == ("A", "C")


def test_a_table_without_labels_is_read_for_pretraining(table):
    table.write_text("path,patient\na.png,1\nb.png,2\n")
    records = Records.read(table)
    assert records.findings == ()
    assert records.labels.shape == (2, 0)


def test_splits_may_be_spelt_as_in_mimic(table):
    table.write_text("path,patient,split\na.png,1,Train\nb.png,2,validate\nc.png,3,TEST\nd.png,4,\n")
    records = Records.read(table)
    assert records.table["split"].tolist() == ["train", "val", "test", ""]
    assert records.where("val").table["patient"].tolist() == ["2"]
    assert len(records.where("nothing")) == 0


def test_paths_start_from_root_and_another_root_is_suggested(tmp_path):
    films(tmp_path, "images/a.png", "images/b.png")
    (tmp_path / "t.csv").write_text("path,patient\na.png,1\n./b.png,2\n")
    records = Records.read(tmp_path / "t.csv", root=tmp_path / "images")
    assert records.table["image"].tolist() == [str(tmp_path / "images" / n) for n in ("a.png", "b.png")]
    assert f"try --root {tmp_path / 'images'}" in message(tmp_path / "t.csv")
    assert len(Records.read(tmp_path / "t.csv", check_files=False)) == 2
    with pytest.raises(MissingError, match="--root"):
        Records.read(tmp_path / "t.csv", root=tmp_path / "no")


def test_absolute_paths_stay(tmp_path):
    films(tmp_path, "a.png")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "t.csv").write_text(f"path,patient\n{tmp_path / 'a.png'},1\n")
    assert Records.read(tmp_path / "sub" / "t.csv").table["image"].tolist() == [str(tmp_path / "a.png")]


def test_missing_files_are_found_in_folders_of_any_size(tmp_path):
    films(tmp_path, *(f"many/{i}.png" for i in range(50)), "few/0.png")
    rows = [f"many/{i}.png,{i}" for i in range(51)] + [f"few/{i}.png,f{i}" for i in range(2)]
    (tmp_path / "t.csv").write_text("path,patient\n" + "\n".join(rows) + "\n")
    text = message(tmp_path / "t.csv")
    assert "2 defects" in text
    assert "line 52" in text
    assert "line 54" in text


def test_written_records_are_read_back_the_same(table, tmp_path):
    box = json.dumps([["Edema", 1, 2, 3.5, 4]])
    frame = pd.DataFrame(
        {
            "path": ["a.png", "b.png", "c.png"],
            "patient": ["007", "NA", "x"],
            "split": ["train", "", "test"],
            "sex": ["F", "", "M"],
            "text": ['a "quoted"\nline', "semi;colon", ""],
            "boxes": [box, "", "[]"],
            "Edema": ["1", "0", ""],
        }
    )
    frame.to_csv(table, index=False)
    records = Records.read(table)
    records.write(tmp_path / "again.csv")
    again = Records.read(tmp_path / "again.csv")
    pd.testing.assert_frame_equal(records.table, again.table)
    assert again.sha256 == records.sha256
    assert "a.png" in (tmp_path / "again.csv").read_text().splitlines()[1].split(",")


def test_the_hash_changes_with_any_cell(table):
    table.write_text("path,patient,Edema\na.png,1,1\nb.png,2,0\n")
    records = Records.read(table)
    hashes = {records.sha256, Records(records.table.iloc[::-1], records.findings).sha256}
    for column, value in (("image", "z"), ("patient", "z"), ("split", "val"), ("Edema", np.nan)):
        other = records.table.copy()
        other.loc[1, column] = value
        hashes.add(Records(other, records.findings).sha256)
    assert len(hashes) == 6


def test_a_place_that_cannot_be_written_to_is_named(table):
    table.write_text("path,patient\na.png,1\n")
    with pytest.raises(OutputError, match=r"films\.csv/sub/out\.csv"):
        Records.read(table).write(table / "sub" / "out.csv")


def test_a_folder_per_class_is_one_hot_and_every_file_its_own_patient(tmp_path, caplog):
    films(tmp_path, "normal/a.jpg", "normal/deep/b.PNG", "pneumonia/a.jpg", "pneumonia/notes.txt")
    records = Records.read(tmp_path)
    assert records.findings == ("normal", "pneumonia")
    assert records.labels.tolist() == [[1, 0], [1, 0], [0, 1]]
    assert records.table["patient"].tolist() == ["normal/a.jpg", "normal/deep/b.PNG", "pneumonia/a.jpg"]
    assert "its own patient" in caplog.text
    assert Records.read(tmp_path, findings=["pneumonia"]).labels.tolist() == [[0], [0], [1]]
    assert "did you mean 'pneumonia'?" in message(tmp_path, findings=["pneumona"])


def test_folders_named_after_splits_are_splits(tmp_path):
    films(tmp_path, "train/n/a.png", "train/p/b.png", "valid/n/c.png", "test/p/d.png")
    table = Records.read(tmp_path).table
    assert table["split"].tolist() == ["test", "train", "train", "val"]
    assert table["p"].tolist() == [1, 0, 1, 0]


def test_a_folder_that_is_no_folder_per_class_says_what_is_wrong(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "one sub-folder per class" in message(tmp_path)
    films(tmp_path, "n/a.png", "loose.png")
    text = message(tmp_path)
    assert "empty holds no image" in text
    assert "loose.png lies beside the classes" in text
    with pytest.raises(MissingError):
        Records.read(tmp_path / "nothing")


def test_a_share_must_be_a_fraction(table):
    table.write_text("path,patient\na.png,1\n")
    for fraction in (0, -0.1, 1.1):
        with pytest.raises(ConfigError, match="fraction"):
            Records.read(table).share(fraction, seed=0)


def test_columns_that_play_no_part_are_kept_where_asked_for(table, caplog):
    table.write_text(
        "film,PatientID,patient,diagnosis,Edema,Split,Device\n"
        'a.png,1,x,mild ,1,,1\nb.png,2,y,"a, b",0,,0\nc.png,3,z,,,,1\n'
    )
    columns = {"image": "film", "patient": "PatientID"}
    records = Records.read(table, columns=columns, findings=["Edema"], keep_others=True)
    assert "column 'patient' plays no part and is kept as 'original_patient'" in caplog.text
    out = table.parent / "out.csv"
    records.write(out)
    assert out.read_text().splitlines() == [
        "image,patient,split,Edema,original_patient,diagnosis,Device",
        "a.png,1,,1,x,mild ,1",
        'b.png,2,,0,y,"a, b",0',
        "c.png,3,,,z,,1",
    ]
    assert records.take(np.array([2, 0])).others["diagnosis"].tolist() == ["", "mild "]
    assert Records.read(out, findings=["Edema"]).sha256 == records.sha256
    assert Records.read(table, columns=columns).others is None
