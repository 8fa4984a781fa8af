import json
import re

import cv2
import numpy as np
import pandas as pd
import pytest

import hilum
from hilum.cli import main
from hilum.errors import ConfigError, OutputError, RecordsError, WeightsError
from hilum.images.phantom import write_phantoms
from hilum.records.boxes import boxes_of

SMALL = {"image_size": 64, "store_size": 64}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    table = write_phantoms(folder / "phantoms", count=80, seed=1, size=80)
    split = folder / "phantoms" / "films.csv"
    assert main(["records", "split", str(table), "--out", str(split), "--val", "0.3", "--test", "0.4"]) == 0
    return split


@pytest.fixture(scope="module")
def probes(films):
    """A ResNet, and a ViT that pools by its class token, with heads by logistic regression."""
    made = {}
    for arch, pool in (("test_resnet", "mean"), ("test_vit", "token")):
        place = {"records": films, "store": films.parent / "store", "out": films.parent / arch}
        made[arch] = hilum.transfer(
            **place, **SMALL, init="random", arch=arch, pool=pool, seed=3, fit="logistic", replicates=20,
            findings=["Effusion", "Cardiomegaly"], device="cpu",
        )  # fmt: skip
    return made


def asked(films, out, **more):
    place = {"records": films, "store": films.parent / "store", "store_size": 64, "out": out}
    return place | {"finding": "Cardiomegaly", "split": "test", "device": "cpu", "replicates": 50} | more


def test_a_logistic_run_gives_pictures_a_table_scores_and_an_offline_page(films, probes, tmp_path):
    page = hilum.explain(probes["test_resnet"], **asked(films, tmp_path / "maps", limit=12, sanity=True))
    assert page == tmp_path / "maps" / "maps.html"
    assert "</b> labelled present<br>" in page.read_text()  # the label, and not what the model decides
    table = pd.read_csv(page.parent / "maps.csv")
    assert len(table) == 12
    records = hilum.Records.read(films).where("test")
    boxed = [len(found) > 0 for found in boxes_of(records, "Cardiomegaly")]
    first = records.table["image"][np.array(boxed)].tolist()[:12]
    assert table["image"].tolist()[: len(first)] == first  # films with boxes come first
    flat = table["high"] == table["low"]
    for side in ("x", "y"):
        assert table[side].between(0, 80).equals(~flat)  # a flat map has no highest point
    for name in table["overlay"]:
        picture = cv2.imread(str(page.parent / name))
        assert picture.shape[0] > 80  # the film at its own size, with a legend
        assert picture.shape[1] > 80
    maps = np.load(page.parent / "maps.npy", allow_pickle=False)
    assert maps.shape == (12, 2, 2)
    assert np.allclose(maps.max((1, 2)), table["high"], atol=1e-6)
    text = page.read_text()
    assert (f"Flat, films without colours: {flat.sum()};" in text) == bool(flat.any())
    assert "So few cells hardly say where" in text
    assert not re.search(r"""(src|href)=["']?https?:""", text)
    assert "<script" not in text
    assert str(films.parent) not in text
    scores = json.loads((page.parent / "scores.json").read_text())
    assert list(scores["estimates"]) == ["pointing", "energy", "iou", "hit_rate"]
    assert set(scores["estimates"]["iou"]) == {"grad_cam", "random weights", "centre", "uniform"}
    assert scores["validation"] > 0
    for row in scores["estimates"].values():
        assert all(0 <= one["low"] <= one["value"] <= one["high"] <= 1 for one in row.values())
        assert all(one["images"] == min(12, sum(boxed)) for one in row.values())
    stages = json.loads((page.parent / "sanity.json").read_text())["stages"]
    assert (stages[0]["stage"], stages[-1]["stage"]) == ("head", "other films")


def test_the_probability_is_that_of_predict(films, probes, tmp_path):
    asked_for = asked(films, tmp_path / "maps", limit=0, precision="float32", score="never")
    page = hilum.explain(probes["test_resnet"], **asked_for)
    assert not (page.parent / "scores.json").exists()
    place = {"records": films, "store": films.parent / "store", "store_size": 64, "split": "test"}
    out = hilum.predict(probes["test_resnet"], **place, device="cpu", out=tmp_path / "predictions.csv")
    theirs = hilum.Predictions.read(out).table.set_index("image")["Cardiomegaly"]
    ours = pd.read_csv(page.parent / "maps.csv").set_index("image")["probability"]
    assert np.allclose(ours, theirs[ours.index], atol=0.01)  # bfloat16, where predict chooses it
    assert len(ours) == len(theirs)


@pytest.mark.parametrize(
    ("arch", "method", "cells"),
    [
        ("test_resnet", "grad_cam_plus_plus", (2, 2)),
        ("test_resnet", "occlusion", (8, 8)),
        ("test_vit", "grad_cam", (4, 4)),
        ("test_vit", "rollout", (4, 4)),
    ],
)
def test_every_method_draws(films, probes, tmp_path, arch, method, cells):
    more = {"stride": 8, "patch": 16} if method == "occlusion" else {}
    page = hilum.explain(probes[arch], **asked(films, tmp_path / "maps", limit=2, method=method, **more))
    assert np.load(page.parent / "maps.npy", allow_pickle=False).shape == (2, *cells)


def test_films_without_labels_or_boxes_are_drawn_and_not_scored(films, probes, tmp_path):
    table = pd.read_csv(films, dtype=str, keep_default_na=False)[["image", "patient"]]
    table["image"] = [str(films.parent / image) for image in table["image"]]
    table.head(3).to_csv(tmp_path / "bare.csv", index=False)
    page = hilum.explain(probes["test_resnet"], **asked(tmp_path / "bare.csv", tmp_path / "maps", split=""))
    assert not (page.parent / "scores.json").exists()
    assert len(pd.read_csv(page.parent / "maps.csv")) == 3
    assert "unknown" in page.read_text()
    with pytest.raises(RecordsError, match="no film has a box of 'Cardiomegaly': there is no column boxes"):
        hilum.explain(
            probes["test_resnet"],
            **asked(tmp_path / "bare.csv", tmp_path / "scored", split="", score="always"),
        )


def test_without_validation_boxes_what_needs_a_threshold_is_undefined(films, probes, tmp_path):
    page = hilum.explain(probes["test_resnet"], **asked(films, tmp_path / "maps", split="", limit=6))
    scores = json.loads((page.parent / "scores.json").read_text())
    assert scores["estimates"]["pointing"]["grad_cam"]["value"] is not None
    for metric in ("iou", "hit_rate"):
        one = scores["estimates"][metric]["grad_cam"]
        assert one["value"] is None
        assert "no validation film" in one["note"]


@pytest.mark.parametrize(
    ("arch", "more", "error", "message"),
    [
        ("test_resnet", {"finding": "Cardiomegali"}, ConfigError, "did you mean 'Cardiomegaly'"),
        ("test_resnet", {"method": "rollout"}, ConfigError, "test_resnet is no ViT"),
        ("test_resnet", {"method": "patches"}, ConfigError, "scores no patches"),
        ("test_resnet", {"layer": "layer9"}, ConfigError, "no layer 'layer9'; did you mean"),
        ("test_resnet", {"layer": "layer3", "method": "occlusion"}, ConfigError, "layer is for grad_cam"),
        ("test_vit", {"method": "rollout", "against": True}, ConfigError, "against is for gradients"),
        ("test_resnet", {"stride": 3}, ConfigError, "patch and stride are for occlusion"),
        ("test_resnet", {"method": "occlusion", "patch": 99}, ConfigError, "of images of 64"),
        (
            "test_resnet",
            {"split": "nowhere"},
            RecordsError,
            "--split nowhere has no radiographs; splits there are train",
        ),
    ],
)
def test_what_does_not_fit_is_one_message_before_anything_is_written(
    films, probes, tmp_path, arch, more, error, message
):
    with pytest.raises(error, match=message):
        hilum.explain(probes[arch], **asked(films, tmp_path / "maps", **more))
    assert not (tmp_path / "maps").exists()


def test_an_encoder_and_a_folder_in_use_are_refused(films, probes, tmp_path):
    small = {"records": films, "store": films.parent / "store", **SMALL, "arch": "test_resnet"}
    run = hilum.pretrain("simclr", **small, batch_size=16, steps=1, workers=0, out=tmp_path / "simclr")
    with pytest.raises(WeightsError, match="hilum transfer --init"):
        hilum.explain(run, **asked(films, tmp_path / "maps"))
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="is there already"):
        hilum.explain(probes["test_resnet"], **asked(films, tmp_path / "maps"))
