"""CheXpert in miniature: its paths, its four kinds of cells, its views and its splits."""

import logging

import numpy as np
import pytest

from hilum.cli import main
from hilum.errors import ConfigError, MissingError, RecordsError
from hilum.records.sources import chexpert
from hilum.records.table import Records

from .trees import film, text

HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,"
    "Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,"
    "Fracture,Support Devices"
)
DEFAULTS = chexpert.Settings().model_dump()
TRAIN = [
    "train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0",
    "train/patient00002/study2/view1_frontal.jpg,Male,87,Frontal,PA,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,",
    "train/patient00002/study2/view2_lateral.jpg,Male,87,Lateral,,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,",
    "train/patient00003/study1/view1_frontal.jpg,Unknown,0,Frontal,LL,,,,,,1.0,,,,0.0,,,,",
]
VALID = ["valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP" + ",0.0" * 2 + ",1.0" + ",0.0" * 11]


def tree(root, *, name="CheXpert-v1.0-small", train=TRAIN, valid=VALID, skip=()):
    for file, rows in (("train.csv", train), ("valid.csv", valid)):
        text(root / name / file, HEADER, *(f"{name}/{row}" for row in rows))
        for row in rows:
            if row.split(",")[0] not in skip:
                film(root / name / row.split(",")[0])
    return root


def read(root, **changes):
    return chexpert.read(root, **DEFAULTS | changes)


def label(records, finding):
    return records.labels[:, records.findings.index(finding)].tolist()


def test_findings_splits_patients_and_views_are_those_of_the_sheets(tmp_path, caplog):
    out = tmp_path / "table.csv"
    with caplog.at_level(logging.INFO):
        assert main(["records", "read", "chexpert", "--root", str(tree(tmp_path)), "--out", str(out)]) == 0
    assert "5 labels are uncertain (-1); what reads the table needs --uncertain" in caplog.text
    found = Records.read(out, uncertain=["lovt", "one"])
    assert len(found.findings) == 14
    assert found.table["patient"].tolist() == ["patient00001", "patient00002", "patient00003", "patient64541"]
    assert found.table["split"].tolist() == ["train", "train", "train", "val"]
    assert found.table["view"].tolist() == ["AP", "PA", "FRONTAL", "AP"]
    assert found.table["sex"].tolist() == ["F", "M", "", "M"]
    assert found.table["age"].tolist() == ["68", "87", "0", "73"]
    assert found.table["study"][1] == "patient00002/study2"
    assert label(found, "No Finding") == [1, 0, 0, 0]
    assert label(found, "Cardiomegaly") == [0, 0, 0, 1]  # lovt has zero for it, and one for Edema
    assert label(found, "Edema") == [0, 1, 1, 0]
    with pytest.raises(RecordsError, match="-1"):
        Records.read(out)


def test_an_empty_cell_is_zero_or_unknown_or_zero_where_there_is_no_finding(tmp_path):
    tree(tmp_path)
    assert label(read(tmp_path), "Lung Lesion") == [0, 0, 0, 0]
    np.testing.assert_equal(label(read(tmp_path, blank="unknown"), "Lung Lesion"), [np.nan] * 3 + [0])
    np.testing.assert_equal(label(read(tmp_path, blank="no_finding"), "Lung Lesion"), [0, np.nan, np.nan, 0])
    np.testing.assert_equal(
        label(read(tmp_path, blank="no_finding"), "Support Devices"), [1, np.nan, np.nan, 0]
    )
    assert label(read(tmp_path, blank="unknown"), "No Finding") == [1, 0, 0, 0]


def test_lateral_films_are_left_out_and_counted_unless_asked_for(tmp_path, caplog):
    tree(tmp_path, name="CheXpert-v1.0")
    with caplog.at_level(logging.INFO):
        assert len(read(tmp_path)) == 4
    assert "1 of 5 films are left out: they are lateral; --lateral keeps them" in caplog.text
    both = read(tmp_path / "CheXpert-v1.0", lateral=True, valid="test")
    assert both.table["view"].tolist() == ["AP", "PA", "LATERAL", "FRONTAL", "AP"]
    assert both.table["split"].tolist() == ["train"] * 4 + ["test"]


def test_a_share_of_the_training_patients_can_validate(tmp_path):
    rows = [f"train/patient{n:05}/study1/view1_frontal.jpg,Male,5,Frontal,AP" + ",1" * 14 for n in range(8)]
    found = read(tree(tmp_path, train=rows), valid="test", val_share=0.25)
    assert found.table["split"].value_counts().to_dict() == {"train": 6, "val": 2, "test": 1}
    with pytest.raises(ConfigError, match=r"--val-share 1\.0: expected a share"):
        read(tmp_path, val_share=1.0)


def test_uncertain_can_be_a_class_of_its_own(tmp_path):
    found = read(tree(tmp_path), multiclass=["Edema"], blank="unknown")
    three = [f"Edema {word}" for word in ("negative", "uncertain", "positive")]
    assert found.findings[5:8] == tuple(three)
    np.testing.assert_equal(found.table[three].to_numpy(), [[np.nan] * 3, [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    with pytest.raises(ConfigError, match="--multiclass Oedema: there is no such finding"):
        read(tmp_path, multiclass=["Edema", "Oedema"])


def test_test_labels_without_details_and_films_in_batches_are_read(tmp_path):
    first = tmp_path / "CheXpert-v1.0 batch 1 (validate & csv)"
    text(first / "train.csv", HEADER, *(f"CheXpert-v1.0/{row}" for row in TRAIN))
    text(first / "valid.csv", HEADER, *(f"CheXpert-v1.0/{row}" for row in VALID))
    names = ",".join(["Path", *HEADER.split(",")[5:]])
    text(first / "test_labels.csv", names, "test/patient64741/study1/view1_frontal.jpg" + ",1" + ",0" * 13)
    film(first / "valid/patient64541/study1/view1_frontal.jpg")
    film(first / "test/patient64741/study1/view1_frontal.jpg")
    for row in TRAIN:
        film(tmp_path / "CheXpert-v1.0 batch 2 (train 1)" / row.split(",")[0].removeprefix("train/"))
    found = read(tmp_path)
    assert found.table["split"].tolist() == ["train"] * 3 + ["val", "test"]
    assert found.table["view"].tolist()[-1] == "FRONTAL"
    assert "batch 2" in found.table["image"][0]


def test_all_that_is_wrong_is_one_list(tmp_path):
    rows = [*TRAIN[:3], "train/00003/view1.jpg,Male,1,Frontal,AP" + "," * 14, TRAIN[0], TRAIN[3]]
    rows[2] = rows[2].replace("Lateral,,,,-1.0", "Frontal,AP,maybe,,2")
    tree(tmp_path, train=rows, skip=["train/patient00003/study1/view1_frontal.jpg"])
    with pytest.raises(RecordsError) as caught:
        read(tmp_path)
    said = str(caught.value)
    for part in (
        "line 4, column 'No Finding': train.csv: found 'maybe'; expected 1, 0, -1 or nothing",
        "line 4, column 'Cardiomegaly': train.csv: found '2'",
        "line 5: train.csv: Path is 'CheXpert-v1.0-small/train/00003/view1.jpg'; expected .../patient00001/",
        "line 6: train.csv: patient00001/study1/view1_frontal.jpg is in an earlier row too",
        "line 7: train.csv: patient00003/study1/view1_frontal.jpg is not there; --only-present leaves",
    ):
        assert part in said
    tree(tmp_path, skip=["train/patient00003/study1/view1_frontal.jpg"])
    assert len(read(tmp_path, only_present=True)) == 3


def test_a_wrong_root_and_a_column_that_lacks_are_named(tmp_path):
    with pytest.raises(MissingError, match=r"expected train.csv and valid.csv in it"):
        read(tmp_path)
    tree(tmp_path)
    text(tmp_path / "CheXpert-v1.0-small" / "train.csv", HEADER.replace("Edema", "Oedema"))
    with pytest.raises(RecordsError, match=r"train.csv has no column 'Edema'"):
        read(tmp_path)


PER_EXAM = ",".join(["Study", *HEADER.split(",")[5:]])


def chexlocalize(root, *, sheet="test_labels.csv"):
    """Its folder, which has the films of valid again, under val."""
    base = root / "CheXpert"
    films = ["patient64741/study1/view1_frontal.jpg", "patient64741/study1/view2_lateral.jpg"]
    films.append("patient64742/study1/view1_frontal.jpg")
    cells = {"patient64741": "0,1" + ",0" * 12, "patient64742": "1" + ",0" * 13}
    if sheet == "test_labels.csv":
        header = ",".join(["Path", *HEADER.split(",")[5:]])
        text(base / sheet, header, *(f"test/{name},{cells[name.split('/')[0]]}" for name in films))
    else:
        text(base / sheet, PER_EXAM, *(f"CheXpert-v1.0/test/{one}/study1,{cells[one]}" for one in cells))
    for name in films:
        film(base / "test" / name)
    film(base / "val" / "patient64541/study1/view1_frontal.jpg")
    return root


@pytest.mark.parametrize("sheet", ["test_labels.csv", "groundtruth.csv"])
def test_the_test_set_of_another_download_is_read_per_film_or_per_exam(tmp_path, sheet):
    tree(tmp_path / "chexpert")
    test = chexlocalize(tmp_path / "chexlocalize", sheet=sheet)
    found = read(tmp_path / "chexpert", test=test, lateral=True).table
    own = found[found["split"] == "test"]
    assert own["patient"].tolist() == ["patient64741", "patient64741", "patient64742"]
    assert own["view"].tolist() == ["FRONTAL", "LATERAL", "FRONTAL"]
    assert own["Enlarged Cardiomediastinum"].tolist() == [1, 1, 0]
    assert own["No Finding"].tolist() == [0, 0, 1]
    assert own["sex"].tolist() == ["", "", ""]
    assert len(read(tmp_path / "chexpert", test=test)) == 4 + 2


def test_an_exam_of_the_test_set_without_a_film_and_two_sheets_of_it_are_named(tmp_path):
    tree(tmp_path / "chexpert")
    test = chexlocalize(tmp_path / "chexlocalize", sheet="groundtruth.csv")
    (test / "CheXpert" / "test" / "patient64742" / "study1" / "view1_frontal.jpg").unlink()
    with pytest.raises(
        RecordsError, match=r"line 3: groundtruth\.csv: patient64742/study1/view1_frontal\.jpg is not"
    ):
        read(tmp_path / "chexpert", test=test)
    text(test / "CheXpert" / "test_labels.csv", "Path")
    with pytest.raises(RecordsError, match=r"'test_labels.*', 'groundtruth.*' are there; keep one"):
        read(tmp_path / "chexpert", test=test)


def test_films_that_no_sheet_names_are_counted_and_a_second_copy_is_refused(tmp_path, caplog):
    base = tree(tmp_path) / "CheXpert-v1.0-small"
    film(base / "test" / "patient64741/study1/view1_frontal.jpg")
    with caplog.at_level(logging.INFO):
        assert len(read(tmp_path)) == 4
    assert "1 left out: films that no sheet names: 'patient64741/study1/view1_frontal.jpg'" in caplog.text
    film(base / "copy" / "train/patient00001/study1/view1_frontal.jpg")
    with pytest.raises(
        RecordsError, match=r"patient00001/study1/view1_frontal\.jpg is there twice, as .*copy"
    ):
        read(tmp_path)


def test_beside_batches_no_other_folder_is_looked_into(tmp_path):
    first = tmp_path / "CheXpert-v1.0 batch 1 (validate & csv)"
    tree(tmp_path, name=first.name)
    film(tmp_path / "small" / "train/patient00001/study1/view1_frontal.jpg")
    assert read(first).table["image"].str.contains("batch 1").all()


def test_a_column_that_lacks_is_the_one_defect(tmp_path):
    tree(tmp_path)
    text(tmp_path / "CheXpert-v1.0-small" / "train.csv", HEADER.replace("Path", "path"), TRAIN[0])
    with pytest.raises(
        RecordsError, match=r": 1 defect; .*\n  file: train.csv has no column 'Path'; did you mean"
    ):
        read(tmp_path)
