"""MedMNIST's arrays become films once, and nothing of another's is overwritten."""

import logging
from pathlib import Path

import numpy as np
import pytest

import hilum
from hilum.cli import main
from hilum.errors import ConfigError, MissingError, OutputError, RecordsError
from hilum.images.read import read_image
from hilum.records.sources import medmnist
from hilum.records.table import Records

COUNTS = {"train": 5, "val": 2, "test": 3}


def arrays(findings: int, size: int, **changes) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {}
    for split, count in COUNTS.items():
        found[f"{split}_images"] = rng.integers(0, 256, (count, size, size), dtype=np.uint8)
        found[f"{split}_labels"] = rng.integers(0, 2, (count, findings), dtype=np.uint8)
    return found | changes


def test_films_labels_and_the_official_split_are_the_arrays(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    given = arrays(14, 28)
    np.savez(tmp_path / "chestmnist.npz", **given)
    out, films = tmp_path / "chest.csv", tmp_path / "films"
    words = ["records", "read", "medmnist", "--root", str(tmp_path), "--films", str(films), "--out", str(out)]
    assert main(words) == 0
    records = Records.read(out)
    assert records.findings == medmnist.FINDINGS["chestmnist"]
    assert records.table["split"].tolist() == ["train"] * 5 + ["val"] * 2 + ["test"] * 3
    np.testing.assert_array_equal(
        records.labels, np.concatenate([given[f"{split}_labels"] for split in COUNTS])
    )
    assert records.table["patient"].is_unique
    assert set(records.table["site"]) == {"ChestMNIST"}
    assert "each of 10 films counts as one" in caplog.text
    whole = np.concatenate([given[f"{split}_images"] for split in COUNTS])
    for image, film in zip(records.table["image"], whole, strict=True):
        np.testing.assert_array_equal(read_image(Path(image)), np.kron(film, np.ones((2, 2), np.uint8)))


def test_a_size_is_a_number_on_the_command_line_too(tmp_path, capsys):
    np.savez(tmp_path / "pneumoniamnist_64.npz", **arrays(1, 64))
    words = ["records", "read", "medmnist", "--root", str(tmp_path), "--films", str(tmp_path / "films")]
    words += ["--name", "pneumoniamnist", "--out", str(tmp_path / "out.csv"), "--size"]
    assert main([*words, "65"]) == 2
    assert "--size is '65'; input should be 28, 64, 128 or 224" in capsys.readouterr().err
    file = str(tmp_path / "pneumoniamnist_64.npz")
    assert main([file if word == str(tmp_path) else word for word in [*words, "64"]]) == 66
    assert "npz: is a file; --root is the folder that it lies in or unpacks to" in capsys.readouterr().err
    assert main([*words, "64"]) == 0
    assert len(Records.read(tmp_path / "out.csv")) == 10


def test_a_second_reading_writes_nothing_and_an_unfinished_one_goes_on(tmp_path):
    given = arrays(1, 64)
    np.savez_compressed(tmp_path / "pneumoniamnist_64.npz", **given)
    settings = {"films": tmp_path / "films", "name": "pneumoniamnist", "size": 64}
    first = medmnist.read(tmp_path, **settings)
    assert first.findings == ("Pneumonia",)
    paths = sorted((tmp_path / "films").iterdir())
    assert paths[0].name == "pneumoniamnist_64_test_000000.png"
    before = [path.stat().st_mtime_ns for path in paths]
    paths[4].rename(paths[4].with_suffix(".part"))  # a reading that was killed while it wrote
    assert medmnist.read(tmp_path, **settings).table.equals(first.table)
    after = [path.stat().st_mtime_ns for path in paths]
    assert [one == two for one, two in zip(before, after, strict=True)].count(False) == 1
    np.testing.assert_array_equal(read_image(paths[-1]), given["val_images"][-1])


def test_a_folder_of_other_files_is_not_touched(tmp_path):
    np.savez(tmp_path / "chestmnist.npz", **arrays(14, 28))
    settings = {"films": tmp_path / "films", "name": "chestmnist", "size": 28}
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"1 other files lie there, such as 'thesis\.txt'"):
        medmnist.read(tmp_path, **settings)
    (tmp_path / "films" / "thesis.txt").rename(tmp_path / "films" / "chestmnist_train_000000.png")
    with pytest.raises(OutputError, match="is there already and another film"):
        medmnist.read(tmp_path, **settings)
    assert (tmp_path / "films" / "chestmnist_train_000000.png").read_text() == "mine"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"val_labels": np.zeros((2, 3), np.uint8)},
            r"val_labels is uint8 of shape \(2, 3\); expected 14 columns",
        ),
        ({"test_labels": np.full((3, 14), 2, np.uint8)}, "test_labels holds '2'; expected 0 and 1"),
        ({"train_images": np.zeros((4, 28, 28), np.uint8)}, r"expected uint8 of shape \(5, 28, 28\)"),
        ({"train_images": np.zeros((5, 28, 28, 3), np.uint8)}, r"expected uint8 of shape \(5, 28, 28\)"),
        ({"train_labels": np.array([["a"] * 14] * 5, object)}, "train_labels holds objects"),
    ],
)
def test_other_arrays_are_refused(tmp_path, changes, said):
    np.savez(tmp_path / "chestmnist.npz", **arrays(14, 28, **changes))
    with pytest.raises(RecordsError, match=said):
        medmnist.read(tmp_path, films=tmp_path / "films", name="chestmnist", size=28)


def test_damaged_and_missing_files_are_named(tmp_path):
    settings = {"films": tmp_path / "films", "name": "chestmnist", "size": 224}
    with pytest.raises(MissingError, match=r"expected chestmnist_224\.npz in it"):
        medmnist.read(tmp_path, **settings)
    (tmp_path / "chestmnist_128.npz").write_bytes(b"")
    with pytest.raises(
        MissingError, match=r"chestmnist_224\.npz: no such file; .*'chestmnist_128\.npz' is read"
    ):
        medmnist.read(tmp_path, **settings)
    (tmp_path / "chestmnist_224.npz").write_bytes(b"PK\x03\x04 half a download")
    with pytest.raises(RecordsError, match="is damaged, or no file of MedMNIST"):
        medmnist.read(tmp_path, **settings)
    np.savez(tmp_path / "chestmnist_224.npz", train_images=np.zeros((1, 224, 224), np.uint8))
    with pytest.raises(RecordsError, match=r"no item named 'train_labels\.npy'"):
        medmnist.read(tmp_path, **settings)

    with pytest.raises(ConfigError, match="films"):
        hilum.records_read("medmnist", root=tmp_path, out=tmp_path / "out.csv")
