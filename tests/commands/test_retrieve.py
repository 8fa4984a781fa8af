import json

import pandas as pd
import pytest

import hilum
from hilum.errors import ConfigError, OutputError, RecordsError
from hilum.images.phantom import write_phantoms
from tests import toys

SMALL = {
    "arch": "test_resnet",
    "image_size": 32,
    "store_size": 32,
    "batch_size": 16,
    "workers": 0,
    "threads": 1,
}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """48 phantoms to train on, and 24 of other patients."""
    folder = tmp_path_factory.mktemp("films")
    table = pd.read_csv(write_phantoms(folder / "phantoms", count=72, seed=3, size=32), dtype=str)
    last = table["patient"].drop_duplicates().tolist()[-12:]
    table["split"] = table["patient"].isin(last).map({True: "test", False: "train"})
    table.to_csv(folder / "phantoms" / "films.csv", index=False)
    return folder / "phantoms" / "films.csv"


@pytest.fixture(scope="module")
def run(films):
    place = {"records": films, "store": films.parent / "store", "out": films.parent / "clip"}
    return hilum.pretrain("clip", **place, **SMALL, steps=4, text_model=toys.bert(), max_tokens=32)


def place(films):
    return {"records": films, "store": films.parent / "store", "store_size": 32}


def test_retrieval_is_scored_with_intervals_beside_chance(run, films):
    out = hilum.retrieve(run, **place(films), split="test", replicates=200, out=films.parent / "found.json")
    found = json.loads(out.read_text())
    test = pd.read_csv(films, dtype=str).query("split == 'test'")
    assert (found["images"], found["texts"]) == (len(test), test["text"].nunique())
    assert found["patients"] == 12
    for name, one in found["metrics"].items():
        assert one["low"] <= one["value"] <= one["high"], name
    assert found["metrics"]["image_to_text_recall@10"]["chance"] > 10 / len(test) - 1e-9
    with pytest.raises(OutputError, match="is there already"):
        hilum.retrieve(run, **place(films), out=out)


def test_films_that_it_was_trained_on_are_refused(run, films):
    with pytest.raises(RecordsError, match="was trained on"):
        hilum.retrieve(run, **place(films), split="train", out=films.parent / "train.json")


def test_half_an_average_is_refused(films):
    asked = {"steps": 2, "text_model": toys.bert(), "ema": 0.9, "out": films.parent / "averaged"}
    with pytest.raises(ConfigError, match="two towers"):
        hilum.pretrain("clip", records=films, store=films.parent / "store", **SMALL, **asked)
    assert not (films.parent / "averaged").exists()
