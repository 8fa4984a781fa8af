import json
from pathlib import Path

import pandas as pd
import pytest

from hilum.cli import main
from hilum.commands import settings_of
from hilum.errors import ConfigError
from tests.report.samples import sample

WORDS = ["evaluate", "predictions.csv", "--records", "films.csv", "--out", "report", "--replicates", "50"]


@pytest.fixture
def files(tmp_path):
    records, predictions = sample(patients=40)
    table = records.table.assign(image=[f"{i}.png" for i in range(len(records))])
    table.to_csv(tmp_path / "films.csv", index=False)
    predictions.table.assign(image=[str(tmp_path / name) for name in table["image"]]).to_csv(
        tmp_path / "predictions.csv", index=False
    )
    return tmp_path


@pytest.mark.parametrize(
    "wrong", ["sensitivity=1.5", "sensitivity=0", "specificity", "f1=0.9", "youden=", "0.5", "sensitivity=x"]
)
def test_a_threshold_that_means_nothing_is_refused(wrong):
    with pytest.raises(ConfigError, match=f"--threshold is '{wrong}'; expected youden, f1, or a rate"):
        settings_of("evaluate").build(
            {"predictions": "p", "records": "r", "out": "o", "threshold": wrong}, "evaluate"
        )


@pytest.mark.parametrize("share", [0, 1, 2, "nan", -0.1])
def test_a_prevalence_is_between_0_and_1(share):
    with pytest.raises(ConfigError, match="--prevalence"):
        settings_of("evaluate").build(
            {"predictions": "p", "records": "r", "out": "o", "prevalence": {"Edema": share}}, "evaluate"
        )


def test_the_settings_reach_the_report(files, monkeypatch):
    monkeypatch.chdir(files)
    more = ["--threshold", "sensitivity=0.9", "--prevalence", "Effusion=0.02", "--calibrate", "temperature"]
    assert main([*WORDS, *more]) == 0
    report = json.loads((files / "report" / "report.json").read_text())
    assert "sensitivity 0.9" in report["thresholds"][0]["criterion"]
    assert report["prevalence"] == {"Effusion": 0.02}
    assert [fit["method"] for fit in report["recalibration"]] == ["temperature"] * 2


def test_a_wrong_setting_is_one_message_and_leaves_nothing(files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    for more, message in (
        (["--threshold", "sensitivity=1.5"], "--threshold is 'sensitivity=1.5'"),
        (["--prevalence", "Efusion=0.02"], "did you mean 'Effusion'"),
        (["--threshold", "f1", "--thresholds", "report.json"], "give one of them"),
    ):
        assert main([*WORDS, *more]) == 2
        assert message in capsys.readouterr().err
        assert not (files / "report").exists()


def test_films_that_were_moved_are_named_and_found_by_their_old_root(files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    predictions = pd.read_csv("predictions.csv")
    moved = predictions.assign(image=[f"/gone/films/{Path(image).name}" for image in predictions["image"]])
    moved.to_csv("predictions.csv", index=False)
    assert main(WORDS) == 65
    error = capsys.readouterr().err
    assert "120 radiographs are not in the records ('/gone/films/0.png'" in error
    assert f"nearest of the records by its file name is '{files}/0.png'" in error
    assert f"moved from '/gone/films' to '{files}', name its old place: --root" in error
    assert main([*WORDS, "--root", "/gone/films"]) == 0
    moved.assign(image=[f"/gone/other-{i}.png" for i in range(120)]).to_csv("predictions.csv", index=False)
    assert main([*WORDS[:-3], "again"]) == 65
    assert "no file of the records has the name 'other-0.png'" in capsys.readouterr().err


def test_a_split_table_still_has_the_columns_that_subgroups_name(files, monkeypatch):
    monkeypatch.chdir(files)
    films = pd.read_csv("films.csv").drop(columns="split")
    for name in films["image"]:
        (files / name).touch()
    films.assign(diagnosis=["mild", "severe"] * 60).to_csv("films.csv", index=False)
    assert main(["records", "split", "films.csv", "--test", "0.5", "--out", "out/split.csv"]) == 0
    predictions = pd.read_csv("predictions.csv").assign(split="")
    predictions.to_csv("predictions.csv", index=False)
    words = ["out/split.csv" if word == "films.csv" else word for word in WORDS]
    assert main([*words, "--subgroups", "diagnosis"]) == 0
    report = json.loads((files / "report" / "report.json").read_text())
    assert [group["column"] for group in report["subgroups"]] == ["diagnosis"]
