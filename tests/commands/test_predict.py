import logging

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import hilum
from hilum.cli import main
from hilum.errors import ConfigError, ImageError, MissingError, OutputError, RecordsError
from hilum.images.phantom import write_phantoms
from hilum.models.weights import MODEL_FILE

FINDINGS = ["Cardiomegaly", "Effusion"]


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    table = write_phantoms(folder / "phantoms", count=60, seed=1, size=64)
    split = folder / "phantoms" / "films.csv"
    assert main(["records", "split", str(table), "--out", str(split), "--val", "0.3", "--test", "0.4"]) == 0
    return split


@pytest.fixture(scope="module")
def run(films):
    return fitted(films, "probe")


def fitted(films, name, **more):
    place = {"records": films, "store": films.parent / "store", "out": films.parent / name}
    small = {"image_size": 32, "store_size": 48, "replicates": 20, "device": "cpu", "findings": FINDINGS}
    return hilum.transfer(**place, **small, init="pixels", **more)


@pytest.fixture
def place(films, tmp_path):
    return {
        "store": films.parent / "store",
        "store_size": 48,
        "device": "cpu",
        "threads": 1,
        "out": tmp_path / "predictions.csv",
    }


def images_of(films):
    return hilum.Records.read(films).where("test").table["image"].tolist()


def test_one_image_is_predicted_as_in_the_table_and_told_with_decisions(films, run, place, caplog):
    caplog.set_level(logging.INFO)
    image = images_of(films)[0]
    found = hilum.Predictions.read(hilum.predict(run, records=image, **place))
    before = hilum.Predictions.read(run / "predictions.csv").table.set_index("image").loc[image]
    assert found.findings == tuple(FINDINGS)
    assert np.allclose(found.scores[0], before[FINDINGS].to_numpy(float), atol=1e-6)
    for threshold in hilum.Report.read(run / "report.json").thresholds:
        score = found.table[threshold.finding][0]
        word = "present" if score >= threshold.value else "absent"
        assert f"  {threshold.finding:<12}  {score:.3f}  {word}" in caplog.text


def test_a_flat_folder_and_a_table_of_images_alone_are_predicted(films, run, place, tmp_path):
    (tmp_path / "new").mkdir()
    for number, image in enumerate(images_of(films)[:2]):
        Image.open(image).save(tmp_path / "new" / f"{number}.png")
    found = hilum.Predictions.read(hilum.predict(run, records=tmp_path / "new", **place)).table
    (tmp_path / "new.csv").write_text("image\nnew/0.png\nnew/1.png\n")
    again = place | {"out": tmp_path / "again.csv"}
    other = hilum.Predictions.read(hilum.predict(run, records=tmp_path / "new.csv", **again)).table
    assert found["patient"].tolist() == ["0.png", "1.png"]
    assert found[["image", *FINDINGS]].equals(other[["image", *FINDINGS]])


def test_many_films_are_summed_up_in_one_line(films, run, place, caplog):
    caplog.set_level(logging.INFO)
    hilum.predict(run, records=films, split="test", **place)
    assert f"{len(images_of(films))} radiographs, 2 findings" in caplog.text
    assert "present" not in caplog.text


def test_only_the_findings_that_are_asked_for_are_written(films, run, place):
    image = images_of(films)[0]
    found = hilum.Predictions.read(hilum.predict(run, records=image, findings=["Effusion"], **place))
    assert found.findings == ("Effusion",)
    place["out"] = place["out"].with_name("other.csv")
    with pytest.raises(ConfigError, match=r"--findings Efusion: .* did you mean 'Effusion'\? it knows"):
        hilum.predict(run, records=image, findings=["Efusion"], **place)


def test_labels_are_not_read_and_settings_of_labels_are_said_to_change_nothing(
    films, run, place, tmp_path, caplog
):
    (tmp_path / "new.csv").write_text(f"image,Effusion\n{images_of(films)[0]},-1\n")
    hilum.predict(run, records=tmp_path / "new.csv", uncertain="ignore", **place)
    assert "--ordinal and --uncertain change nothing" in caplog.text


def test_a_split_that_is_not_there_is_named_with_those_that_are(films, run, place):
    with pytest.raises(
        RecordsError, match=r"--split tset has no radiographs; splits there are train \(\d+ .*val .*test"
    ):
        hilum.predict(run, records=films, split="tset", **place)
    with pytest.raises(RecordsError, match="no radiograph has a split, so leave --split out"):
        hilum.predict(run, records=images_of(films)[0], split="test", **place)


def test_unreadable_files_are_named_and_listed_beside_the_predictions(films, run, place, tmp_path, caplog):
    (tmp_path / "new").mkdir()
    Image.open(images_of(films)[0]).save(tmp_path / "new" / "good.png")
    (tmp_path / "new" / "bad.png").write_bytes(b"no image")
    given = place | {"records": tmp_path / "new", "exclude_unreadable": True}
    found = hilum.Predictions.read(hilum.predict(run, **given))
    assert len(found) == 1
    listed = pd.read_csv(tmp_path / "predictions-unreadable.csv")
    assert listed["image"].tolist() == [str(tmp_path / "new" / "bad.png")]
    assert "its content is" in listed["reason"][0]
    assert "1 of 2 radiographs are unreadable and left out\n  bad.png: its content is" in caplog.text
    (tmp_path / "predictions.csv").unlink()
    with pytest.raises(OutputError, match=r"predictions-unreadable\.csv: is there already"):
        hilum.predict(run, **given)
    (tmp_path / "new" / "good.png").unlink()
    with pytest.raises(ImageError, match="none of its 1 radiographs can be read"):
        hilum.predict(run, **given | {"out": tmp_path / "other.csv"})


def test_blank_films_are_named(films, run, place, tmp_path, caplog):
    (tmp_path / "new").mkdir()
    Image.open(images_of(films)[0]).save(tmp_path / "new" / "film.png")
    Image.new("L", (64, 64), 90).save(tmp_path / "new" / "grey.png")
    hilum.predict(run, records=tmp_path / "new", **place)
    assert "1 of 2 radiographs are blank, all of one grey level, and are scored as any other: grey.png" in (
        caplog.text
    )


def test_a_run_of_several_cells_says_which_have_a_model(films, place):
    grid = fitted(films, "grid", seeds=[0, 1])
    with pytest.raises(MissingError, match=r"holds 2 cells and no model: .* Fit one alone"):
        hilum.predict(grid, records=films, **place)
    (grid / "cells" / "fraction-1-seed-1" / MODEL_FILE).write_bytes(b"")
    with pytest.raises(MissingError, match=r"1 have a model: fraction-1-seed-1; name one, as in .*seed-1"):
        hilum.predict(grid, records=films, **place)
