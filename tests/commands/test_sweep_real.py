"""Sweeps that train: tiny encoders on phantoms, each cell in a process of its own."""

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import hilum
from hilum.cli import main
from hilum.errors import HilumError, RecordsError
from hilum.images.phantom import write_phantoms

SMALL = {"arch": "test_resnet", "image_size": 32, "store_size": 48}
QUICK = {"batch_size": 16, "steps": 2, "workers": 0, "threads": 1}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    table = write_phantoms(folder / "phantoms", count=60, seed=1, size=64)
    split = folder / "films.csv"
    assert main(["records", "split", str(table), "--out", str(split), "--val", "0.3", "--test", "0.3"]) == 0
    return split


def rows_of(out):
    with (out / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def val_auroc(run, films):
    """By scikit-learn, from the files alone."""
    predictions = hilum.Predictions.read(run / "predictions.csv").where("val")
    records = hilum.Records.read(films)
    labels = records.table.set_index("image").loc[predictions.table["image"], list(predictions.findings)]
    pairs = [(labels[f], predictions.table[f]) for f in predictions.findings if labels[f].nunique() == 2]
    return np.mean([roc_auc_score(truth, score) for truth, score in pairs])


def test_pretrainings_are_scored_by_a_probe_on_validation(films):
    out = films.parent / "lambda"
    settings = (
        SMALL | QUICK | {"projector_sizes": [8], "method": "barlow_twins", "store": films.parent / "store"}
    )
    hilum.sweep(
        "pretrain",
        records=films,
        **settings,
        axes={"redundancy_weight": [0.1, 0.001]},
        then={"fit": "logistic", "replicates": 50},
        parallel=2,
        out=out,
    )
    rows = rows_of(out)
    assert [row["redundancy_weight"] for row in rows] == ["0.1", "0.001"]
    for row in rows:
        run = out / "cells" / f"redundancy_weight={row['redundancy_weight']}"
        assert float(row["validation"]) == pytest.approx(val_auroc(run, films))
        test = hilum.Report.read(run / "report.json").headline
        assert [float(row[name]) for name in ("test", "low", "high")] == [test.value, test.low, test.high]
    assert not (out / "compare.html").exists()


def test_strategies_over_fractions_are_compared_and_a_failed_one_is_named(films):
    out = films.parent / "strategies"
    strategies = {
        "pixels": {"init": "pixels", "fit": "logistic"},
        "mistyped": {"init": "random", "fit": "finetune", "arch": "resnet-18", "lr": 0.1},
        "random encoder": {"init": "random", "fit": "logistic"},
    }
    with pytest.raises(HilumError, match="1 of 3 runs failed"):
        hilum.sweep(
            "transfer",
            records=films,
            store=films.parent / "store",
            **SMALL,
            threads=1,
            replicates=50,
            label_fraction=[0.5, 1],
            axes={"strategy": strategies},
            parallel=3,
            out=out,
        )
    done = {row["strategy"]: row for row in rows_of(out)}
    assert [row["status"] for row in done.values()] == ["done", "failed", "done"]
    assert "resnet-18" in done["mistyped"]["reason"]
    comparison = json.loads((out / "comparison.json").read_text())
    assert {mean["init"] for mean in comparison["means"]} == {"pixels", "random encoder"}
    assert 'href="leaderboard.html"' in (out / "sweep.html").read_text()
    assert "pixels" in (out / "leaderboard.html").read_text()
    assert {mean["fraction"] for mean in comparison["means"]} == {0.5, 1}
    runs = sorted((out / "cells" / "strategy=pixels" / "cells").iterdir())
    assert float(done["pixels"]["validation"]) == pytest.approx(np.mean([val_auroc(r, films) for r in runs]))


def test_a_table_without_split_is_refused_where_a_pretraining_would_see_the_test(films, tmp_path):
    whole = films.parent / "phantoms" / "records.csv"
    with pytest.raises(RecordsError, match="has no split, so the pretraining would see"):
        hilum.sweep(
            "pretrain",
            method="simclr",
            records=whole,
            axes={"lr": [1]},
            then={"fit": "logistic"},
            out=tmp_path / "x",
        )
    assert not (tmp_path / "x").exists()
