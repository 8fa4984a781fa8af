"""Every way to fit, from the table to the page; and what is refused before anything is begun."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

import hilum
from hilum.cli import main
from hilum.commands import settings_of
from hilum.errors import ConfigError, MissingError, RecordsError
from hilum.images.phantom import FINDINGS, write_phantoms
from hilum.images.store import build_store
from hilum.inference import embed
from hilum.models.weights import to_bytes
from hilum.train.knn import choose_neighbours, vote

SMALL = {"image_size": 32, "store_size": 64, "replicates": 50, "precision": "float32"}
QUICK = {"batch_size": 16, "steps": 8, "workers": 0, "threads": 1}
RESNET, VIT = {"arch": "test_resnet"}, {"arch": "test_vit", "image_size": 64}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A table of 90 phantoms, split by patient."""
    folder = tmp_path_factory.mktemp("films")
    table = write_phantoms(folder / "phantoms", count=90, seed=1, size=64)
    split = folder / "films.csv"
    assert main(["records", "split", str(table), "--out", str(split), "--val", "0.2", "--test", "0.4"]) == 0
    return split


def place(films, **changes):
    return {"records": films, "store": films.parent / "store", **SMALL, **changes}


@pytest.fixture(scope="module")
def encoder(films):
    """A weights file of our own: a ResNet that has seen nothing."""
    from hilum.images.spec import InputSpec
    from hilum.models.encoder import Encoder

    torch.manual_seed(7)
    path = films.parent / "encoder.safetensors"
    path.write_bytes(to_bytes(Encoder("test_resnet", InputSpec(side=32))))
    return path


def weights(run):
    return {name: tensor.clone() for name, tensor in hilum.load(run).state_dict().items()}


@pytest.mark.parametrize(
    ("fit", "settings"),
    [
        ("logistic", {"penalty": 0.0327}),
        ("linear", QUICK | {"loss": "focal", "label_smoothing": 0.1}),
        ("finetune", QUICK | {"train_from": "layer3", "head_lr": 0.01, "weighting": "balanced"}),
        ("finetune", QUICK | {"layer_decay": 0.7, "mixup": 0.2, "ema": 0.9, "monitor": ""}),
        ("finetune", QUICK | {"loss": "asymmetric", "optimizer": "lars", "clip": 1.0}),
        ("linear_then_finetune", QUICK | {"linear_share": 0.5, "train_from": "layer4"}),
        ("lora", QUICK | VIT | {"lora_rank": 2, "lora_alpha": 4, "head_lr": 0.01}),
    ],
)
def test_each_fit_leaves_a_report_and_a_model_that_predicts_the_same(fit, settings, films, tmp_path):
    # `predict` chooses the precision by itself.
    given = place(films, precision="auto", **RESNET) | settings
    run = hilum.transfer(**given, fit=fit, out=tmp_path / "run")
    assert hilum.Report.read(run / "report.json").findings == FINDINGS
    assert (run / "report.html").exists()
    predictions = hilum.Predictions.read(run / "predictions.csv")
    again = hilum.predict(
        run, records=films, store=films.parent / "store", store_size=64, out=tmp_path / "again.csv"
    )
    both = hilum.Predictions.read(again).table.set_index("image").loc[predictions.table["image"]]
    assert np.allclose(both[list(FINDINGS)], predictions.scores, atol=1e-5)


def test_knn_votes_with_cached_features_and_keeps_no_model(films, encoder, tmp_path):
    run = hilum.transfer(**place(films), init=str(encoder), fit="knn", out=tmp_path / "run")
    records = hilum.Records.read(films)
    train, val, test = (records.where(split) for split in ("train", "val", "test"))
    folder = films.parent / "store" / "images"
    store = build_store(records.table["image"].tolist(), folder=folder, size=64, exclude_unreadable=False)
    seen = [embed(hilum.load(encoder), part, store, precision="float32") for part in (train, val, test)]
    count = choose_neighbours(seen[0], train.labels, seen[1], val.labels)
    expected = vote(seen[0], train.labels, seen[2], [count])[0]
    found = hilum.Predictions.read(run / "predictions.csv").table.set_index("image")
    assert np.allclose(found.loc[test.table["image"], list(FINDINGS)], expected, atol=1e-5)
    with pytest.raises(MissingError, match="the run kept its predictions and no model: knn has none"):
        hilum.predict(run, records=films, store=films.parent / "store", out=tmp_path / "again.csv")


def test_a_grid_of_knn_has_a_cell_for_each_fraction_and_seed(films, encoder, tmp_path):
    run = hilum.transfer(
        **place(films), init=str(encoder), fit="knn", neighbours=3, label_fraction=[0.3, 1], seeds=[0, 1],
        out=tmp_path / "run",
    )  # fmt: skip
    assert len(list((run / "cells").iterdir())) == 4
    assert (run / "compare.html").exists()


@pytest.mark.parametrize("fit", ["logistic", "knn", "linear"])
def test_shots_limit_the_labels_of_each_cell(fit, films, encoder, tmp_path):
    more = QUICK | {"steps": 2} if fit == "linear" else {}
    run = hilum.transfer(
        **place(films), **more, init=str(encoder), fit=fit, shots=2, seeds=[0, 1], out=tmp_path / "run"
    )
    assert sorted(p.name for p in (run / "cells").iterdir()) == ["shots-2-seed-0", "shots-2-seed-1"]
    done = json.loads((run / "cells" / "shots-2-seed-1" / "done.json").read_text())
    assert (done["shots"], done["seed"]) == (2, 1)


def test_few_shots_are_what_is_learnt_from(films, encoder, tmp_path):
    """With one neighbour every probability is the label of one of the shots."""
    run = hilum.transfer(
        **place(films), init=str(encoder), fit="knn", shots=1, neighbours=1, out=tmp_path / "run"
    )
    scores = hilum.Predictions.read(run / "predictions.csv").scores
    assert set(scores.ravel().tolist()) == {0.0, 1.0}
    shots = hilum.Records.read(films).where("train").shots(1, seed=0).labels
    assert {tuple(row) for row in scores.tolist()} <= {tuple(row) for row in shots.tolist()}


def test_lora_leaves_an_ordinary_classifier(films, tmp_path):
    from hilum.images.spec import InputSpec
    from hilum.models.classifier import Classifier
    from hilum.models.encoder import Encoder

    settings = place(films, **VIT) | QUICK | {"lr": 0.05, "monitor": ""}
    found = weights(hilum.transfer(**settings, fit="lora", out=tmp_path / "run"))
    torch.manual_seed(0)
    plain = Classifier(Encoder("test_vit", InputSpec(side=64)), FINDINGS, exclusive=False).state_dict()
    assert found.keys() == plain.keys()
    changed = {name for name in plain if not torch.equal(plain[name], found[name])}
    adapted = {f"encoder.net.blocks.{i}.attn.{part}.weight" for i in range(6) for part in ("qkv", "proj")}
    assert changed == adapted | {"head.weight", "head.bias"}


def test_training_from_a_block_leaves_those_before_it_as_they_were(films, encoder, tmp_path):
    settings = place(films) | QUICK | {"monitor": "", "ema": 0.5}
    run = hilum.transfer(
        **settings, init=str(encoder), fit="finetune", train_from="layer4", out=tmp_path / "run"
    )
    before, after = hilum.load(encoder).net.state_dict(), hilum.load(run).encoder.net.state_dict()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]) != name.startswith("layer4."), name


def test_the_moving_average_is_what_is_kept(films, encoder, tmp_path):
    settings = place(films) | QUICK | {"init": str(encoder), "fit": "linear", "monitor": "", "views": "plain"}
    plain = weights(hilum.transfer(**settings, out=tmp_path / "plain"))
    slow = weights(hilum.transfer(**settings, ema=0.999, out=tmp_path / "slow"))
    assert 0 < slow["head.weight"].abs().sum() < plain["head.weight"].abs().sum()


def test_a_linear_then_finetune_cut_in_each_part_goes_on_to_the_same_weights(
    films, encoder, tmp_path, monkeypatch
):
    from hilum.data.loader import Loader

    settings = place(films) | QUICK | {"init": str(encoder), "linear_share": 0.5, "monitor": ""}
    settings |= {"fit": "linear_then_finetune", "save_minutes": 0}
    batches = Loader.batches
    for cut in (2, 6):
        monkeypatch.setattr(Loader, "batches", lambda self, first, last, cut=cut: batches(self, first, cut))
        with pytest.raises(StopIteration):
            hilum.transfer(**settings, out=tmp_path / "run")
    monkeypatch.undo()
    found, expected = (weights(hilum.transfer(**settings, out=tmp_path / out)) for out in ("run", "whole"))
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


@pytest.mark.slow
def test_a_linear_then_finetune_killed_in_each_part_goes_on_to_the_same_weights(films, encoder, tmp_path):
    words = ["transfer", "--records", films, "--store", films.parent / "store", "--init", encoder]
    words += ["--fit", "linear_then_finetune", "--linear-share", 0.5, "--monitor", "", "--store-size", 64]
    words += ["--batch-size", 16, "--steps", 20, "--workers", 0, "--threads", 1, "--precision", "float32"]
    words = [*map(str, words), "--replicates", "20", "--save-minutes", "0", "--log-every", "1"]
    rows = tmp_path / "run" / "metrics.jsonl"
    for reached in (2, 12):
        process = subprocess.Popen(
            [sys.executable, "-m", "hilum.cli", *words, "--out", str(tmp_path / "run")],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stderr=subprocess.DEVNULL,
        )
        while not rows.exists() or f'"step": {reached},' not in rows.read_text():
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "run" / "done.json").exists()
    for out in ("run", "whole"):
        assert main([*words, "--out", str(tmp_path / out)]) == 0
    found, expected = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    first = hilum.load(encoder).net.state_dict()
    assert not torch.equal(expected["encoder.net.conv1.0.weight"], first["conv1.0.weight"])


def test_more_shots_than_there_are_are_refused_before_a_run_is_begun(films, encoder, tmp_path):
    with pytest.raises(ConfigError, match="shots is 500"):
        hilum.transfer(**place(films), init=str(encoder), shots=500, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def refused(**settings):
    cls = settings_of("transfer")
    with pytest.raises(ConfigError) as caught:
        cls.build({"records": "films.csv", "out": "run", **settings}, "transfer")
    return str(caught.value)


def test_a_setting_that_a_fit_does_not_use_is_refused():
    said = refused(fit="logistic", lora_rank=4, lr=0.1)
    assert "--fit logistic does not use --lora-rank (for --fit lora), --lr (for --fit linear or" in said
    assert "leave that out, or choose another fit" in said
    for fit, idle in (
        ("logistic", {"neighbours": 5}),
        ("knn", {"penalty": 0.1}),
        ("knn", {"views": "plain"}),
        ("linear", {"train_from": "layer3"}),
        ("linear", {"layer_decay": 0.7}),
        ("linear", {"head_lr": 0.1}),
        ("finetune", {"linear_share": 0.1}),
        ("finetune", {"lora_alpha": 1}),
        ("lora", {"layer_decay": 0.7}),
        ("logistic", {"mixup": 0.1}),
        ("logistic", {"uncertain": ["ignore", "Edema=soft"]}),
    ):
        assert f"--fit {fit} does not use --{next(iter(idle)).replace('_', '-')}" in refused(fit=fit, **idle)


def test_the_numbers_of_a_loss_belong_to_it(films, tmp_path):
    assert "--focal-gamma belong to --loss focal, and loss is cross_entropy" in refused(
        fit="linear", focal_gamma=1.0
    )
    assert "--gamma-negative and --margin belong to --loss asymmetric, and loss is focal" in refused(
        fit="linear", loss="focal", gamma_negative=2.0, margin=0.1
    )
    losses = []
    for gamma in (0.0, 5.0):
        settings = place(films) | QUICK | {"fit": "linear", "loss": "focal", "focal_gamma": gamma}
        settings |= {"init": "random", "arch": "resnet10t", "image_size": 64, "log_every": 1, "steps": 2}
        run = hilum.transfer(**settings, out=tmp_path / f"{gamma}")
        losses.append(hilum.Run(run).metrics()[0]["loss"])
    assert losses[1] == pytest.approx(losses[0] / 32, rel=0.05)  # at probability one half (1 - p)^5 is 1/32


def test_every_setting_that_only_some_fits_read_is_a_setting_and_every_fit_a_fit():
    cls = settings_of("transfer")
    fits = {"logistic", "knn", "linear", "finetune", "linear_then_finetune", "lora"}
    for names, readers in cls.READ_BY.items():
        assert set(names.split()) <= set(cls.model_fields)
        assert set(readers.split()) < fits


def test_the_settings_that_a_run_writes_repeat_it():
    cls = settings_of("transfer")
    for fit in ("logistic", "knn", "linear", "finetune", "linear_then_finetune", "lora"):
        config = cls.build({"records": "films.csv", "out": "run", "fit": fit}, "transfer")
        assert cls.build(config.model_dump(), "config.yaml") == config


def test_shots_and_fractions_exclude_each_other():
    assert "shots and label_fraction both limit the labels" in refused(shots=5, label_fraction=[0.1])


def test_a_block_that_is_not_there_is_refused_before_a_run_is_begun(films, encoder, tmp_path):
    settings = place(films) | QUICK | {"init": str(encoder), "fit": "finetune", "out": tmp_path / "run"}
    with pytest.raises(ConfigError, match="has no block 'layer5'; did you mean 'layer"):
        hilum.transfer(**settings, train_from="layer5")
    with pytest.raises(ConfigError, match="views have no setting 'flipp'"):
        hilum.transfer(**settings, view={"flipp": 0.5})
    with pytest.raises(ConfigError, match="--fit lora adapts the attention of a ViT"):
        hilum.transfer(**settings | {"fit": "lora"})
    assert not (tmp_path / "run").exists()


def test_an_input_that_the_weights_contradict_is_refused(films, encoder, tmp_path):
    settings = place(films) | {"init": str(encoder), "out": tmp_path / "run"}
    with pytest.raises(ConfigError, match=r"--image-size is 48, but the weights of .* say 32"):
        hilum.transfer(**settings | {"image_size": 48})
    with pytest.raises(ConfigError, match=r"--arch is resnet34, but the weights of .* say test_resnet"):
        hilum.transfer(**settings, arch="resnet34")
    with pytest.raises(ConfigError, match="--store-size is 16, but the encoder sees 32 pixels"):
        hilum.transfer(**settings | {"store_size": 16})


def test_a_finding_of_one_class_in_training_is_refused_with_its_numbers(films, encoder, tmp_path):
    table = pd.read_csv(films, dtype=str, keep_default_na=False)
    table["image"] = [str(films.parent / image) for image in table["image"]]
    table["Hernia"] = ["0" if split == "train" else str(i % 2) for i, split in enumerate(table["split"])]
    table.to_csv(tmp_path / "films.csv", index=False)
    count = int((table["split"] == "train").sum())
    settings = place(tmp_path / "films.csv", store=films.parent / "store") | {"init": str(encoder)}
    with pytest.raises(
        RecordsError, match=rf"Hernia has 0 positive and {count} negative; nothing can be learnt"
    ):
        hilum.transfer(**settings, out=tmp_path / "run")
    hilum.transfer(**settings, findings=list(FINDINGS), out=tmp_path / "run")


def test_a_finding_of_one_class_in_a_cell_is_said_in_its_report(films, encoder, tmp_path, caplog):
    run = hilum.transfer(
        **place(films), init=str(encoder), label_fraction=[0.03], penalty=0.1, out=tmp_path / "run"
    )
    labelled = hilum.Records.read(films).where("train").share(0.03, seed=0).labels
    assert ((labelled == 1).sum(0) == 0).any() or ((labelled == 0).sum(0) == 0).any()
    assert "its scores mean nothing" in caplog.text
    assert "its scores mean nothing" in (run / "report.html").read_text()


def test_each_fit_is_tested_on_another_data_set_with_the_thresholds_chosen_at_home(films, encoder, tmp_path):
    other = write_phantoms(tmp_path / "other", count=60, seed=9, size=64)
    table = pd.read_csv(other, dtype=str)
    renamed = table.assign(patient="other-" + table["patient"]).rename(
        columns={"Effusion": "Pleural Effusion"}
    )
    renamed.to_csv(tmp_path / "other" / "renamed.csv", index=False)
    told = place(films, init=str(encoder), test_records=tmp_path / "other" / "renamed.csv", subgroups=["sex"])
    run = hilum.transfer(out=tmp_path / "run", threshold="f1", calibrate="platt", **told)
    home = json.loads((run / "report.json").read_text())
    away = json.loads((run / "external" / "report.json").read_text())
    assert {g["column"] for g in home["subgroups"]} == {"sex"}
    assert "F1" in home["thresholds"][0]["criterion"]
    assert {t["finding"]: t["value"] for t in home["thresholds"]} == {
        t["finding"]: t["value"] for t in away["thresholds"]
    }
    assert away["images"] == 60
    assert "Effusion" in away["findings"]
    assert any("Pleural Effusion" in note for note in away["notes"])
    assert len(pd.read_csv(run / "external" / "predictions.csv")) == 60


def test_another_data_set_with_patients_of_the_training_is_refused_before_a_run_is_begun(
    films, encoder, tmp_path
):
    with pytest.raises(RecordsError, match=r"of its patients and .* films are in the training or validation"):
        hilum.transfer(
            out=tmp_path / "run",
            **place(films, init=str(encoder), test_records=films.parent / "phantoms" / "records.csv"),
        )
    assert not (tmp_path / "run").exists()
