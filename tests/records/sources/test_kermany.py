"""Kermany's films in miniature: persons by the names of files, and persons who are in train and in test."""

import csv
import logging
from pathlib import Path

import pytest

from hilum.cli import main
from hilum.errors import MissingError, RecordsError
from hilum.records.sources import kermany
from hilum.records.table import Records
from tests.real_films import FILMS, needs_films

from .trees import film, text

NAMES = [
    "train/NORMAL/IM-0115-0001", "train/NORMAL/NORMAL2-IM-0383-0001", "train/NORMAL/IM-0429-0001-0002",
    "train/PNEUMONIA/person1_bacteria_1", "train/PNEUMONIA/person1_bacteria_2",
    "train/PNEUMONIA/person7_virus_9", "val/NORMAL/NORMAL2-IM-1427-0001",
    "val/PNEUMONIA/person1946_bacteria_4874", "test/NORMAL/IM-0001-0001", "test/NORMAL/NORMAL2-IM-0115-0001",
    "test/PNEUMONIA/person1_virus_6", "test/PNEUMONIA/person78_bacteria_378",
]  # fmt: skip


def tree(root, names=NAMES):
    base = root / "chest_xray"
    for name in names:
        film(base / f"{name}.jpeg")
        film(base / "chest_xray" / f"{name}.jpeg")
        text(root / "chest_xray" / "__MACOSX" / f"{name}.jpeg", "no film")
    text(base / "train" / ".DS_Store", "")
    return root


def read(root, **changes):
    return kermany.read(root, **kermany.Settings().model_dump() | changes)


def test_persons_of_test_are_left_out_of_train_and_counted(tmp_path, caplog):
    out = tmp_path / "table.csv"
    words = ["--root", str(tree(tmp_path)), "--out", str(out)]
    with caplog.at_level(logging.INFO):
        assert main(["records", "read", "kermany", *words]) == 0
    assert "1 persons of val or test are in train or val too, with 2 films" in caplog.text
    assert "2 of 12 films are left out: their person is in val or test" in caplog.text
    found = Records.read(out)
    assert found.findings == ("Pneumonia", "Bacterial pneumonia", "Viral pneumonia")
    assert found.table["split"].value_counts().to_dict() == {"train": 4, "val": 2, "test": 4}
    assert found.table["patient"].tolist()[:4] == ["IM-0115", "IM-0429", "NORMAL2-IM-0383", "person7"]
    assert found.labels[3].tolist() == [1, 0, 1]
    assert found.labels.sum(axis=0).tolist() == [4, 2, 2]
    assert not found.table["image"].str.contains("MACOSX").any()


def test_without_the_official_split_no_film_is_left_out(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        found = read(tree(tmp_path), split="none")
    assert len(found) == 12
    assert set(found.table["split"]) == {""}
    assert "1 persons of val or test are in train or val too" in caplog.text
    assert "left out" not in caplog.text


@pytest.mark.parametrize("root", ["", "chest_xray", "above", "chest_xray/chest_xray"])
def test_the_folder_above_or_the_one_that_the_archive_repeats_is_read_too(tmp_path, root):
    tree(tmp_path)
    place = tmp_path.parent if root == "above" else tmp_path / root
    if root == "above":
        tree(tmp_path / "kaggle" / "archive")
        place = tmp_path / "kaggle"
    assert len(read(place)) == 10


def test_the_folders_as_they_are(tmp_path):
    found = read(tree(tmp_path), split="folders")
    assert found.table["split"].value_counts().to_dict() == {"train": 6, "test": 4, "val": 2}
    assert {"train person1", "test person1", "person7"} <= set(found.table["patient"])


def test_the_authors_own_names_without_val(tmp_path):
    names = ["train/NORMAL/NORMAL-1003233-0001", "train/PNEUMONIA/BACTERIA-1008087-0001"]
    names += ["test/NORMAL/NORMAL-1049278-0001", "test/PNEUMONIA/VIRUS-1980020-0001"]
    found = read(tree(tmp_path, names) / "chest_xray")
    assert found.table["patient"].tolist() == ["1003233", "1008087", "1049278", "1980020"]
    assert found.labels.tolist() == [[0, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1]]


def test_all_that_is_wrong_is_one_list(tmp_path):
    base = tree(tmp_path) / "chest_xray"
    film(base / "train" / "NORMAL" / "person3_virus_4.jpeg")
    film(base / "train" / "PNEUMONIA" / "scan.jpeg")
    for path in (base / "test" / "NORMAL").iterdir():
        path.unlink()
    with pytest.raises(RecordsError) as caught:
        read(tmp_path)
    said = str(caught.value)
    for part in (
        "train/NORMAL/person3_virus_4.jpeg is named virus",
        "train/PNEUMONIA/scan.jpeg names no patient",
        "test/NORMAL/ is not there, or holds no film",
    ):
        assert part in said


def test_a_wrong_root_is_named(tmp_path):
    with pytest.raises(MissingError, match="expected train/NORMAL in it"):
        read(tmp_path)


@needs_films
def test_persons_of_real_names_are_those_that_were_found_by_others():
    with (FILMS / "paediatric_pneumonia/labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    mine = [kermany.person_of(Path(row["path"]).stem) for row in rows]
    assert [kind or "normal" for _, kind in mine] == [row["subtype"] for row in rows]
    pairs = {(person, row["patient_id"]) for (person, _), row in zip(mine, rows, strict=True)}
    assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs}) > 2000
