"""Trained on one data set, tested on another that has films of it under other names."""

import json
import logging
from pathlib import Path

import cv2
import pandas as pd
import pytest

from hilum.commands import settings_of
from hilum.commands._open import held_out, open_store, refuse_overlap, write_trained_on
from hilum.commands._pretext import open_trainable
from hilum.config import StoreConfig
from hilum.errors import RecordsError
from hilum.images.phantom import write_phantoms
from hilum.records.table import Records
from hilum.run import Run


@pytest.fixture
def place(tmp_path):
    """Tables of two sites, with other films and other patients."""
    tables = {}
    for seed, site in enumerate(("nih", "rsna", "chexpert")):
        path = write_phantoms(tmp_path / site, count=6, seed=seed, size=64)
        table = pd.read_csv(path, dtype=str, keep_default_na=False).assign(site=site, split="test")
        table["patient"] = site + "-" + table["patient"]
        table.to_csv(path, index=False)
        tables[site] = path
    return tables


def opened(path, size=48):
    return open_store(StoreConfig(store=path.parents[1] / "store", store_size=size), Records.read(path))


def trained(place, site, name, init="random", **more):
    run = Run(place[site].parents[1] / name)
    run.path.mkdir()
    write_trained_on(run, *opened(place[site]), init, **more)
    return run.path


def test_testing_on_a_part_of_what_was_trained_on_is_refused_with_the_way_out(place, caplog):
    run = trained(place, "nih", "run")
    with pytest.raises(RecordsError, match=r"trained on NIH ChestX-ray14\. .*share films(.|\n)*--hold-out"):
        refuse_overlap(run, *opened(place["rsna"]), allow=False)
    with caplog.at_level(logging.WARNING):
        assert refuse_overlap(run, *opened(place["rsna"]), allow=True) == 0
    assert "can mean little" in caplog.text


def test_another_data_set_and_the_same_one_are_not_refused_for_their_names(place):
    run = trained(place, "nih", "run")
    assert refuse_overlap(run, *opened(place["chexpert"]), allow=False) == 0
    with pytest.raises(RecordsError, match=r"was trained on \d patients and 6 films"):
        refuse_overlap(run, *opened(place["nih"]), allow=False)


def test_a_film_is_known_again_in_another_file_under_another_patient_and_at_another_size(place):
    run = trained(place, "chexpert", "run")
    copies = place["chexpert"].parents[1] / "copies"
    copies.mkdir()
    table = pd.read_csv(place["chexpert"], dtype=str, keep_default_na=False)
    for image in table["image"]:
        film = cv2.imread(str(place["chexpert"].parent / image), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(copies / f"{Path(image).stem}.png"), film, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    table["image"] = [f"{Path(image).stem}.png" for image in table["image"]]
    table["patient"] = "other-" + table["patient"]
    table.drop(columns="site").to_csv(copies / "copies.csv", index=False)
    with pytest.raises(RecordsError, match="was trained on 0 patients and 6 films"):
        refuse_overlap(run, *opened(copies / "copies.csv", size=32), allow=False)


def test_what_a_run_started_from_counts_too(place):
    first = trained(place, "nih", "first")
    second = trained(place, "chexpert", "second", init=str(first))
    with pytest.raises(RecordsError, match="was trained on CheXpert, NIH ChestX-ray14"):
        refuse_overlap(second, *opened(place["rsna"]), allow=False)


def test_patients_that_were_held_out_by_name_may_be_tested_on(place):
    run = trained(place, "nih", "run", hold_out=[place["rsna"]])
    assert refuse_overlap(run, *opened(place["rsna"]), allow=False) == 0
    later = trained(place, "chexpert", "later", init=str(run))
    assert refuse_overlap(later, *opened(place["rsna"]), allow=False) == 0
    again = trained(place, "nih", "again", init=str(run))  # on all of it, this time
    with pytest.raises(RecordsError, match="share films"):
        refuse_overlap(again, *opened(place["rsna"]), allow=False)


def test_runs_from_before_data_sets_were_noted_are_read(place):
    run = trained(place, "nih", "run")
    before = json.loads((run / "trained_on.json").read_text())
    del before["datasets"]
    (run / "trained_on.json").write_text(json.dumps(before))
    assert refuse_overlap(run, *opened(place["rsna"]), allow=False) == 0
    trained(place, "chexpert", "later", init=str(run))


def test_names_of_hospitals_are_not_kept(place):
    table = pd.read_csv(place["nih"], dtype=str, keep_default_na=False)
    table.assign(site="St Mary").to_csv(place["nih"], index=False)
    assert "Mary" not in (trained(place, "nih", "run") / "trained_on.json").read_text()


def test_only_tables_that_name_patients_alike_count_as_held_out(place):
    alike = pd.read_csv(place["nih"], dtype=str, keep_default_na=False).head(2)
    alike["image"] = [str(place["nih"].parent / image) for image in alike["image"]]
    alike.to_csv(place["nih"].parent / "alike.csv", index=False)
    table = pd.read_csv(place["nih"], dtype=str, keep_default_na=False)
    table.assign(split="").to_csv(place["nih"], index=False)
    tables = [place["nih"].parent / "alike.csv", place["rsna"]]
    config = settings_of("pretrain", "simclr").build(
        {"method": "simclr", "records": place["nih"], "out": "run", "hold_out": tables}, "pretrain"
    )
    found = open_trainable(config)
    assert found.left_out["held out"] >= 2
    assert found.held_out == (tables[0],)


def test_holding_out_still_takes_patients_and_images(place):
    records = Records.read(place["nih"])
    assert len(held_out(records, [place["nih"]])) == 0
    assert len(held_out(records, [place["rsna"]])) == 6
