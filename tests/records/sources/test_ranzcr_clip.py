"""RANZCR CLiP in miniature: long names of films, eleven labels, and patients with several films."""

import logging

import pytest

from hilum.cli import main
from hilum.errors import MissingError, RecordsError
from hilum.records.sources import ranzcr_clip
from hilum.records.table import Records

from .trees import film, text

HEADER = (
    "StudyInstanceUID,ETT - Abnormal,ETT - Borderline,ETT - Normal,NGT - Abnormal,NGT - Borderline,"
    "NGT - Incompletely Imaged,NGT - Normal,CVC - Abnormal,CVC - Borderline,CVC - Normal,"
    "Swan Ganz Catheter Present,PatientID"
)
UID = "1.2.826.0.1.3680043.8.498."
ROWS = [
    f"{UID}26697628953273228189375557799582420561,0,0,0,0,0,0,1,0,0,0,0,ec89415d1",
    f"{UID}46302891597398758759818628675365157729,0,0,1,0,0,1,0,0,0,1,0,bf4c6da3c",
    f"{UID}23819260719748494858948050424870692577,0,0,0,0,0,0,0,0,1,0,1,ec89415d1",
]


def tree(root, rows=ROWS):
    text(root / "train.csv", HEADER, *rows)
    for row in rows:
        film(root / "train" / f"{row.split(',')[0]}.jpg")
    film(root / "test" / f"{UID}62451881164053375557257228990443168843.jpg")
    return root


def test_labels_and_patients(tmp_path):
    out = tmp_path / "table.csv"
    assert main(["records", "read", "ranzcr_clip", "--root", str(tree(tmp_path)), "--out", str(out)]) == 0
    found = Records.read(out)
    assert found.findings == tuple(HEADER.split(",")[1:-1])
    assert found.labels.sum(axis=0).tolist() == [0, 0, 1, 0, 0, 1, 1, 0, 1, 1, 1]
    assert found.table["patient"].tolist() == ["ec89415d1", "bf4c6da3c", "ec89415d1"]
    assert found.table["study"][0] == ROWS[0].split(",")[0]
    assert set(found.table["split"]) == {""}


def test_all_that_is_wrong_is_one_list(tmp_path, caplog):
    tree(tmp_path, [ROWS[0], ROWS[1].replace(",1,", ",5,", 1), ROWS[0]])
    (tmp_path / "train" / f"{ROWS[1].split(',')[0]}.jpg").unlink()
    with pytest.raises(RecordsError) as caught:
        ranzcr_clip.read(tmp_path, only_present=False)
    said = str(caught.value)
    for part in (
        "line 3, column 'ETT - Normal': found '5'",
        f"line 3: {ROWS[1].split(',')[0]} is not there",
        f"line 4: {ROWS[0].split(',')[0]} is in an earlier row too",
    ):
        assert part in said
    tree(tmp_path)
    (tmp_path / "train" / f"{ROWS[1].split(',')[0]}.jpg").unlink()
    with caplog.at_level(logging.INFO):
        assert len(ranzcr_clip.read(tmp_path, only_present=True)) == 2
    assert "1 of 3 films are left out: their files are not there" in caplog.text


def test_a_wrong_root_is_named(tmp_path):
    with pytest.raises(MissingError, match=r"expected train\.csv and train in it"):
        ranzcr_clip.read(tmp_path, only_present=False)
