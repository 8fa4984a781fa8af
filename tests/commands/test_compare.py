"""hilum compare on runs as transfer leaves them, made without training."""

import json

import numpy as np
import pytest
import yaml

import hilum
from hilum.cli import main
from hilum.errors import ConfigError
from hilum.records.table import Records
from hilum.report.evaluate import evaluate
from tests.report.samples import sample


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of two seeds each; one is fine-tuned."""
    folder = tmp_path_factory.mktemp("runs")
    records, predictions = sample(patients=60)
    table = records.table.assign(image=[str(folder / f"{i}.png") for i in range(len(records.table))])
    records = Records(table, records.findings)
    records.write(folder / "films.csv")
    for place, (name, fit) in enumerate((("probe", "logistic"), ("tuned", "finetune"))):
        settings = {
            "records": str(folder / "films.csv"),
            "uncertain": "refuse",
            "init": "random",
            "fit": fit,
            "label_fraction": [1.0],
        }
        for seed in (0, 1):
            cell = folder / name / "cells" / f"seed-{seed}"
            cell.mkdir(parents=True)
            noise = np.random.default_rng([place, seed]).uniform(0, 0.2, predictions.scores.shape)
            mine = hilum.Predictions.make(records, records.findings, 0.8 * predictions.scores + noise)
            mine.write(cell / "predictions.csv")
            evaluate(mine, records, replicates=2).write(cell / "report.json")
            (cell / "config.yaml").write_text(yaml.safe_dump(settings | {"seeds": [seed], "shots": 5}))
            (cell / "done.json").write_text(json.dumps({"parameters": 3}))
        (folder / name / "config.yaml").write_text(yaml.safe_dump(settings | {"seeds": [0, 1]}))
        (folder / name / "done.json").write_text("{}")
    return folder


def test_any_two_runs_by_several_metrics_with_a_leaderboard(runs, tmp_path):
    words = ["--against", "all", "--metric", "auroc", "accuracy", "--replicates", "200"]
    out = tmp_path / "out"
    assert main(["compare", str(runs / "probe"), str(runs / "tuned"), "--out", str(out), *words]) == 0
    found = json.loads((out / "comparison.json").read_text())
    assert found["metrics"] == ["auroc", "accuracy"]
    assert found["settings"]["fit"] == {"probe": "logistic", "tuned": "finetune"}
    assert {(s["init"], s["shots"], s["parameters"], s["floor"]) for s in found["standings"]} == {
        ("probe", 5, 3, True),
        ("tuned", 5, 3, True),
    }
    assert {"compare.html", "leaderboard.html"} <= {path.name for path in out.iterdir()}


def test_one_metric_may_go_without_a_list_and_an_unknown_one_is_refused(runs, tmp_path):
    both = [runs / "probe", runs / "tuned"]
    out = hilum.compare(both, out=tmp_path / "out", metric="average_precision", replicates=50)
    assert json.loads((out / "comparison.json").read_text())["metric"] == "average_precision"
    with pytest.raises(ConfigError, match=r"metric.*'f2'.*'auroc', .*'box_precision_boxed' or 'froc'"):
        hilum.compare(both, out=tmp_path / "other", metric=["f2"])
