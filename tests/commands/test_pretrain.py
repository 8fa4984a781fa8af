import json
import re

import pandas as pd
import pytest

import hilum
from hilum.cli import main
from hilum.errors import ConfigError, RecordsError
from hilum.images.phantom import write_phantoms
from hilum.report.pretraining import health
from tests import toys

QUICK = {
    "arch": "test_resnet",
    "image_size": 32,
    "store_size": 40,
    "batch_size": 16,
    "workers": 0,
    "threads": 1,
    "log_every": 2,
}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    return write_phantoms(folder / "phantoms", count=60, seed=1, size=48)


def place(films):
    return {"records": films, "store": films.parent / "store"}


def rows_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_health_is_in_the_metrics_and_on_the_page(films, tmp_path):
    run = hilum.pretrain(
        "simclr", **place(films), **QUICK, steps=6, watch_finding="Effusion", out=tmp_path / "run"
    )
    looks = [row for row in rows_of(run) if "rankme" in row]
    assert [row["step"] for row in looks] == [0, 6]
    assert {"feature_std", "rankme", "alignment", "uniformity", "knn_auroc", "collapsed"} <= set(looks[0])
    page = (run / "report.html").read_text()
    assert "Healthy at step 6: embeddings use" in page
    assert all(name in page for name in ("uniformity", "knn_auroc", "records_sha256", "arch"))
    assert not re.search(r"""(src|href)=["']?https?:""", page)
    assert str(tmp_path) not in page


def test_watching_a_finding_does_not_change_what_is_learnt(films, tmp_path):
    runs = [
        hilum.pretrain(
            "simclr", **place(films), **QUICK, steps=3, watch_finding=name, out=tmp_path / f"run{name}"
        )
        for name in ("", "Effusion")
    ]
    weights = [(run / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]
    assert not any("knn_auroc" in row for row in rows_of(runs[0]))


def test_the_settings_of_a_run_repeat_it_without_naming_the_method(films, tmp_path):
    run = hilum.pretrain("simclr", **place(films), **QUICK, steps=2, temperature=0.3, out=tmp_path / "run")
    words = ["pretrain", "--config", str(run / "config.yaml"), "--out", str(tmp_path / "again")]
    assert main(words) == 0
    both = [(path / "model.safetensors").read_bytes() for path in (run, tmp_path / "again")]
    assert both[0] == both[1]
    assert main(["pretrain", f"--config={run / 'config.yaml'}", "--method", "moco", "--help"]) == 0


def test_a_classifier_is_watched_by_its_encoder(films, tmp_path):
    run = hilum.pretrain("supervised", **place(films), **QUICK, steps=2, out=tmp_path / "run")
    assert {"rankme", "loss"} <= {name for row in rows_of(run) for name in row}


def test_a_finding_that_nobody_has_cannot_be_watched(films, tmp_path):
    asked = place(films) | QUICK | {"out": tmp_path / "run", "steps": 2}
    with pytest.raises(RecordsError, match="Oedema"):
        hilum.pretrain("simclr", **asked, watch_finding="Oedema")
    import pandas as pd

    table = pd.read_csv(films, dtype=str, keep_default_na=False).assign(Effusion="0")
    table["image"] = [str(films.parent / image) for image in table["image"]]
    table.to_csv(tmp_path / "films.csv", index=False)
    with pytest.raises(RecordsError, match="found 0 and 60"):
        hilum.pretrain("simclr", **(asked | {"records": tmp_path / "films.csv"}), watch_finding="Effusion")


def test_a_dry_run_says_what_a_run_takes_and_writes_nothing(films, tmp_path, capsys):
    out, store = tmp_path / "run", tmp_path / "store"
    words = ["pretrain", "simclr", "--records", str(films), "--out", str(out), "--store", str(store)]
    words += [w for n, v in QUICK.items() for w in (f"--{n.replace('_', '-')}", str(v))]
    assert main([*words, "--epochs", "4", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert not out.exists()
    assert not store.exists()
    for expected in (
        r"Dry run: nothing was written",
        r"radiographs +60 of \d+ patients; none left out",
        r"memory +[\d.]+ [GM]iB of this process",
        r"one step +[\d.]+ s for 16 radiographs",
        r"whole run +15 steps, ",
        r"store +about [\d.]+ MiB of .* to be made once in about",
        r"checkpoints +[\d.]+ MiB",
        r"weights +[\d.]+ MiB",
    ):
        assert re.search(expected, shown), (expected, shown)
    assert main([*words, "--steps", "2", "--save-minutes", "0"]) == 0
    capsys.readouterr()
    assert main([*words[:5], str(tmp_path / "other"), *words[6:], "--dry-run"]) == 0
    again = capsys.readouterr().out
    assert re.search(r"store +[\d.]+ MiB, is there already", again)
    promised = float(re.search(r"weights +([\d.]+) MiB", again)[1])
    assert (out / "model.safetensors").stat().st_size / 2**20 == pytest.approx(promised, abs=0.1)


def test_one_radiograph_at_a_time_is_refused_where_there_is_batch_norm(films, tmp_path):
    asked = place(films) | QUICK | {"out": tmp_path / "run", "steps": 2, "batch_size": 2, "accumulate": 2}
    with pytest.raises(ConfigError, match="1 radiograph at a time; the BatchNorm in"):
        hilum.pretrain("supervised", **asked)


def test_the_page_says_when_a_run_collapsed():
    def row(step, rank, collapsed):
        return {"step": step, "rankme": rank, "feature_std": 0.1, "collapsed": collapsed}

    fallen = [row(0, 40.0, False), row(100, 2.0, True), row(200, 2.0, True)]
    assert health(fallen).startswith("COLLAPSED: flagged at step 100, and so it was at step 200")
    assert "but flagged as collapsed at step 100" in health([*fallen, row(300, 30.0, False)])
    assert "not watched" in health([{"step": 1, "loss": 2.0}])


def test_a_label_free_method_never_reads_a_label(films, tmp_path):
    table = pd.read_csv(films, dtype=str)
    table["Nodule"] = "who knows"
    table["Cardiomegaly"] = "-1"
    table.to_csv(films.parent / "spoilt.csv", index=False)
    asked = {"store": films.parent / "store", **QUICK, "steps": 2}
    run = hilum.pretrain("simclr", records=films.parent / "spoilt.csv", out=tmp_path / "run", **asked)
    clean = hilum.pretrain("simclr", records=films, out=tmp_path / "clean", **asked)
    assert (run / "model.safetensors").read_bytes() == (clean / "model.safetensors").read_bytes()
    spoilt = {"records": films.parent / "spoilt.csv", "findings": ["Cardiomegaly"]}
    with pytest.raises(RecordsError, match="Cardiomegaly"):
        hilum.pretrain("supervised", **spoilt, **asked, out=tmp_path / "taught")


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("moco", {"queue_size": 8}, "queue-size is 8 and a batch adds 16"),
        ("moco", {"hard_negatives": "laterality"}, "reads the column laterality, which the table lacks"),
        ("mae", {}, "mae needs an encoder of patches, a ViT; --arch is test_resnet"),
        (
            "simclr",
            {"pool": "top_k", "top_k": 5},
            "top_k is 5, but the encoder's last map has 1×1 = 1 places",
        ),
        ("simclr", {"positives": "patient", "positive_study": "same"}, "need the column 'study'"),
        ("dino", {"patch_weight": 1}, "no ViT"),
        ("clip", {"text_model": "BERT", "max_tokens": 4000}, "max-tokens is 4000"),
    ],
)
def test_what_does_not_fit_is_one_clear_message(films, tmp_path, method, settings, message):
    settings = {**settings, **({"text_model": toys.bert()} if "text_model" in settings else {})}
    with pytest.raises((ConfigError, RecordsError)) as caught:
        hilum.pretrain(method, **place(films), **QUICK, steps=2, out=tmp_path / "run", **settings)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_columns_that_a_method_reads_are_in_the_table(films, tmp_path):
    table = pd.read_csv(films, dtype=str).drop(columns="text")
    table.to_csv(films.parent / "silent.csv", index=False)
    asked = {"store": films.parent / "store", **QUICK, "steps": 2, "out": tmp_path / "run"}
    with pytest.raises(RecordsError, match="there is no column text"):
        hilum.pretrain("clip", records=films.parent / "silent.csv", text_model=toys.bert(), **asked)
