"""The whole path as its user goes it: a table of films in, pages with numbers out."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hilum
from hilum.cli import main
from hilum.errors import ConfigError, OutputError, RecordsError
from hilum.images.phantom import FINDINGS, write_phantoms

SMALL = {"arch": "test_resnet", "image_size": 32, "store_size": 48}
QUICK = {"batch_size": 16, "steps": 8, "workers": 0, "threads": 1}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A table of 90 phantoms, split by patient, and a place for stores and runs."""
    folder = tmp_path_factory.mktemp("films")
    table = write_phantoms(folder / "phantoms", count=90, seed=1, size=64)
    split = folder / "films.csv"
    assert main(["records", "split", str(table), "--out", str(split), "--val", "0.2", "--test", "0.4"]) == 0
    return split


def place(films):
    return {"records": films, "store": films.parent / "store", **SMALL}


@pytest.fixture(scope="module")
def pretrained(films):
    return hilum.pretrain("simclr", **place(films), **QUICK, out=films.parent / "simclr")


def test_a_pretrained_encoder_is_a_run_that_says_what_made_it(pretrained, films):
    encoder = hilum.load(pretrained)
    assert (encoder.arch, encoder.input.side) == ("test_resnet", 32)
    environment = json.loads((pretrained / "environment.json").read_text())
    assert re.fullmatch("[0-9a-f]{64}", environment["records_sha256"])
    assert environment["store"] in {p.name for p in (films.parent / "store" / "images").iterdir()}
    assert {"torch", "timm", "numpy", "python"} <= set(environment["versions"])
    rows = [json.loads(line) for line in (pretrained / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "lr", "images_per_second", "data_wait"} <= set(rows[0]) | set(rows[-2])
    assert {"feature_std", "rankme"} <= set(rows[-1])


def test_the_same_command_again_does_nothing_and_writes_nothing(pretrained, films):
    before = {p: p.stat().st_mtime_ns for p in pretrained.rglob("*")}
    hilum.pretrain("simclr", **place(films), **QUICK, out=pretrained)
    assert {p: p.stat().st_mtime_ns for p in pretrained.rglob("*")} == before


def test_another_setting_on_a_finished_run_is_refused(pretrained, films):
    with pytest.raises(OutputError, match=r"finished run of other settings.*lr is"):
        hilum.pretrain("simclr", **place(films), **QUICK, out=pretrained, lr=0.5)


@pytest.mark.parametrize("fit", ["logistic", "linear", "finetune"])
def test_each_way_to_fit_gives_predictions_a_report_and_a_page(fit, films, pretrained):
    run = hilum.transfer(
        **place(films),
        **({} if fit == "logistic" else QUICK | {"steps": 2}),
        init=str(pretrained),
        fit=fit,
        out=films.parent / fit,
        replicates=50,
    )
    report = hilum.Report.read(run / "report.json")
    assert report.findings == FINDINGS
    assert report.evaluated == "test"
    numbers = [report.estimate("auroc", finding) for finding in FINDINGS]
    assert all(n.note or n.low <= n.value <= n.high for n in numbers)
    predictions = hilum.Predictions.read(run / "predictions.csv")
    assert set(predictions.table["split"]) == {"val", "test"}
    assert ((predictions.scores > 0) & (predictions.scores < 1)).all()
    page = (run / "report.html").read_text()
    assert not re.search(r"""(src|href)=["']?https?:""", page)
    assert re.search(rf"<title>hilum transfer: {fit} \({fit} on .+\)</title>", page)
    again = hilum.predict(
        run, records=films, store=films.parent / "store", store_size=48, out=films.parent / f"{fit}.csv"
    )
    both = hilum.Predictions.read(again).table.set_index("image").loc[predictions.table["image"]]
    assert np.allclose(both[list(FINDINGS)], predictions.scores, atol=1e-6)


def test_a_grid_has_a_cell_for_each_fraction_and_seed_and_finished_cells_are_kept(films, pretrained):
    settings = place(films) | {"label_fraction": [0.3, 1], "seeds": [0, 1], "replicates": 50}
    runs = [
        hilum.transfer(**settings, init=init, out=films.parent / name)
        for name, init in (("grid-pixels", "pixels"), ("grid-simclr", str(pretrained)))
    ]
    cells = sorted(p.name for p in (runs[0] / "cells").iterdir())
    assert cells == ["fraction-0.3-seed-0", "fraction-0.3-seed-1", "fraction-1-seed-0", "fraction-1-seed-1"]
    by_itself = (runs[0] / "compare.html").read_text()
    assert "<title>hilum transfer: grid-pixels (logistic on pixels)</title>" in by_itself
    assert "Label efficiency of grid-pixels" in by_itself
    found = hilum.compare(runs, out=films.parent / "compared", replicates=50)
    comparison = json.loads((found / "comparison.json").read_text())
    assert {mean["init"] for mean in comparison["means"]} == {"grid-pixels", "grid-simclr"}
    fits = {(mean["fraction"], mean["fits"]) for mean in comparison["means"]}
    assert fits == {(0.3, 2), (1.0, 1)}  # all labels are the same labels, whatever the seed
    assert all(d["low"] is None or d["low"] <= d["high"] for d in comparison["differences"])


def test_exclusive_findings_sum_to_one(tmp_path):
    from PIL import Image

    chance = np.random.default_rng(0)
    for name, level in (("normal", 60), ("viral", 120), ("covid", 180)):
        (tmp_path / "films" / name).mkdir(parents=True)
        for i in range(12):
            noise = chance.integers(0, 60, (48, 48))
            Image.fromarray((noise + level).astype(np.uint8)).save(tmp_path / "films" / name / f"{i}.png")
    run = hilum.transfer(
        records=tmp_path / "films", exclusive=True, init="pixels", out=tmp_path / "run",
        store=tmp_path / "store", image_size=32, store_size=48, replicates=50,
    )  # fmt: skip
    assert np.allclose(hilum.Predictions.read(run / "predictions.csv").scores.sum(1), 1)
    report = hilum.Report.read(run / "report.json")
    assert report.estimate("accuracy", "all").value > 0.6  # the classes differ in brightness alone


def test_pretraining_on_test_patients_is_refused_at_transfer(films, tmp_path):
    table = pd.read_csv(films, dtype=str, keep_default_na=False)
    table["image"] = [str(films.parent / image) for image in table["image"]]
    table.assign(split="").to_csv(tmp_path / "everything.csv", index=False)
    settings = place(films) | {"records": tmp_path / "everything.csv"}
    leaky = hilum.pretrain(
        "barlow_twins", **settings, **QUICK, out=tmp_path / "leaky", projector_sizes=[32, 32]
    )
    with pytest.raises(RecordsError, match=r"trained on \d+ patients and \d+ films of this test split"):
        hilum.transfer(**place(films), init=str(leaky), out=tmp_path / "probe")
    clean = hilum.pretrain(
        "barlow_twins",
        **settings,
        **QUICK,
        out=tmp_path / "clean",
        projector_sizes=[32, 32],
        hold_out=[films],
    )
    hilum.transfer(**place(films), init=str(clean), out=tmp_path / "probe2", replicates=50)
    run = hilum.transfer(
        **place(films), init=str(leaky), out=tmp_path / "probe3", replicates=50, allow_overlap=True
    )
    assert "was trained on" in (run / "report.html").read_text()


def test_evaluate_needs_no_model(films, tmp_path):
    records = hilum.Records.read(films)
    chance = np.random.default_rng(0).uniform(size=(len(records), len(FINDINGS)))
    hilum.Predictions.make(records, FINDINGS, chance).write(tmp_path / "guess.csv")
    folder = hilum.evaluate(tmp_path / "guess.csv", records=films, out=tmp_path / "report", replicates=100)
    estimate = hilum.Report.read(folder / "report.json").headline
    assert estimate.low < 0.5 < estimate.high


def test_an_interrupted_pretraining_resumes_to_the_bit_from_the_command_line(films, pretrained, monkeypatch):
    from hilum.data.loader import Loader

    whole = (pretrained / "model.safetensors").read_bytes()
    batches = Loader.batches
    monkeypatch.setattr(Loader, "batches", lambda self, first, last: batches(self, first, 5))
    out = films.parent / "cut"
    with pytest.raises(StopIteration):
        hilum.pretrain("simclr", **place(films), **QUICK, out=out, save_minutes=0)
    monkeypatch.undo()
    hilum.pretrain("simclr", **place(films), **(QUICK | {"workers": 1}), out=out)
    assert (out / "model.safetensors").read_bytes() == whole


def test_the_doctor_says_65_for_a_film_in_two_splits(films, tmp_path, capsys):
    assert main(["records", "check", str(films)]) == 0
    table = pd.read_csv(films, dtype=str, keep_default_na=False)
    table["image"] = [str(films.parent / image) for image in table["image"]]
    row = table[table["split"] == "train"].iloc[0]
    copied = tmp_path / "copy.png"
    copied.write_bytes(Path(row["image"]).read_bytes())
    extra = row.copy()
    extra["image"], extra["patient"], extra["split"] = str(copied), "somebody else", "test"
    pd.concat([table, extra.to_frame().T]).to_csv(tmp_path / "films.csv", index=False)
    assert main(["records", "check", str(tmp_path / "films.csv")]) == 65
    assert "overlap" in capsys.readouterr().out.lower()


def test_a_preview_is_a_picture(films, tmp_path):
    import cv2

    words = [
        "records",
        "preview",
        str(films),
        "--out",
        str(tmp_path / "p.png"),
        "--store",
        str(films.parent / "store"),
    ]
    assert main([*words, "--count", "3", "--image-size", "64", "--store-size", "48"]) == 0
    assert cv2.imread(str(tmp_path / "p.png")).shape[0] > 64


def test_messages_are_lines_with_exit_codes_not_traces(capsys, tmp_path):
    cases = [
        (["pretrain", "simclr", "--records", "nowhere.csv", "--out", str(tmp_path / "x")], 66, "nowhere.csv"),
        (["pretrain", "simcrl"], 2, "did you mean 'simclr'?"),
        (["transfer", "--record", "x"], 2, "did you mean '--records'?"),
        (["predict", str(tmp_path), "--records", "x.csv", "--out", "y"], 66, "give a run or a weights file"),
        (["records"], 2, "check, merge, preview, read, split"),
    ]
    for words, code, text in cases:
        assert main(words) == code
        shown = capsys.readouterr().err
        assert text in shown
        assert "Traceback" not in shown
    assert not (tmp_path / "x").exists()


def test_flags_yaml_and_python_are_the_same_settings(tmp_path):
    from hilum.cli import values
    from hilum.commands import settings_of

    cls = settings_of("pretrain", "moco")
    (tmp_path / "c.yaml").write_text("lr: 0.1\nview: {flip: 0.5}\nqueue-size: 100\n")
    words = [
        "moco",
        "--config",
        str(tmp_path / "c.yaml"),
        "--records",
        "a.csv",
        "--out",
        "o",
        "--no-compile",
        "--lr=0.2",
    ]
    from_flags = cls.build(values(words, cls, "method"), "flags")
    from_python = cls.build(
        {
            "method": "moco",
            "records": "a.csv",
            "out": "o",
            "lr": 0.2,
            "view": {"flip": 0.5},
            "queue_size": 100,
        },
        "python",
    )
    assert from_flags == from_python
    with pytest.raises(ConfigError, match="--lr is given twice"):
        values(["--lr", "1", "--lr", "2"], cls, "method")


@pytest.mark.slow
def test_torchrun_trains_one_model_on_two_processes(films, tmp_path):
    words = [
        "pretrain",
        "simclr",
        "--records",
        films,
        "--out",
        tmp_path / "run",
        "--store",
        tmp_path / "store",
    ]
    words += [
        "--arch",
        "test_resnet",
        "--image-size",
        32,
        "--store-size",
        48,
        "--batch-size",
        16,
        "--steps",
        8,
    ]
    words += ["--workers", 0, "--threads", 1, "--precision", "float32", "--log-every", 1]
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        "29541",
    ]
    subprocess.run([*torchrun, "-m", "hilum.cli", *map(str, words)], check=True, timeout=200)
    both = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert main([*map(str, words[:5]), str(tmp_path / "alone"), *map(str, words[6:])]) == 0
    alone = [json.loads(line) for line in (tmp_path / "alone" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in both] == [row["step"] for row in alone]
    # The first step sees equal weights; later ones add up in another order.
    for ours, theirs, least in zip(both[1:], alone[1:], [1e-5, *[1e-2] * 20], strict=False):
        if "loss" in ours:
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=least)
    assert both[-1]["rankme"] == pytest.approx(alone[-1]["rankme"], rel=0.05)


def losses(path):
    """By step; the last line of a run that was killed may be half a line."""
    lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
    return {row["step"]: row["loss"] for row in map(json.loads, lines) if "loss" in row}


@pytest.mark.slow
def test_a_run_begun_by_one_process_goes_on_with_two(films, tmp_path):
    words = ["pretrain", "simclr", "--records", films, "--store", films.parent / "store"]
    words += ["--arch", "test_resnet", "--image-size", 32, "--store-size", 48, "--batch-size", 16]
    words += ["--steps", 60, "--workers", 0, "--threads", 1, "--precision", "float32", "--log-every", 1]
    words = [*map(str, words), "--save-minutes", "0"]
    process = subprocess.Popen([sys.executable, "-m", "hilum.cli", *words, "--out", tmp_path / "run"])
    rows = tmp_path / "run" / "metrics.jsonl"
    while not rows.exists() or len(rows.read_text().splitlines()) < 8:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    begun = max(json.loads(line)["step"] for line in rows.read_text().splitlines() if line.endswith("}"))
    assert 0 < begun < 60
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        "29543",
    ]
    again = [*torchrun, "-m", "hilum.cli", *words, "--out", str(tmp_path / "run")]
    subprocess.run(again, check=True, timeout=200)
    assert main([*words, "--out", str(tmp_path / "alone")]) == 0
    found = [
        [
            (row["step"], row["loss"])
            for row in map(json.loads, path.read_text().splitlines())
            if "loss" in row
        ]
        for path in (rows, tmp_path / "alone" / "metrics.jsonl")
    ]
    assert [step for step, _ in found[0]] == [step for step, _ in found[1]] == list(range(1, 61))
    assert [loss for _, loss in found[0]] == pytest.approx([loss for _, loss in found[1]], rel=0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_all_processes_saves_and_exits_with_its_code(films, tmp_path, number, code):
    words = [
        "pretrain",
        "simclr",
        "--records",
        films,
        "--out",
        tmp_path / "run",
        "--store",
        films.parent / "store",
    ]
    words += [
        "--arch",
        "test_resnet",
        "--image-size",
        32,
        "--store-size",
        48,
        "--batch-size",
        16,
        "--steps",
        5000,
    ]
    words += ["--workers", 2, "--threads", 1, "--log-every", 1]
    process = subprocess.Popen(
        [sys.executable, "-m", "hilum.cli", *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    rows = tmp_path / "run" / "metrics.jsonl"
    while not rows.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    os.killpg(process.pid, number)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == code
    assert "and saved; the same command goes on from here" in shown
    assert "Traceback" not in shown
    assert list((tmp_path / "run" / "checkpoints").iterdir())
