import json
import logging
import math

import numpy as np
import pandas as pd
import pytest

import hilum
from hilum.config import TrainConfig
from hilum.errors import ConfigError, MissingError, OutputError
from hilum.run import Run

ROWS = [
    {"step": 0, "epoch": 0.0, "rankme": 12.5, "collapsed": False},
    {"step": 1, "epoch": 0.5, "loss": 2.0, "lr": 1e-3},
    {"step": 2, "epoch": 1.0, "loss": float("nan"), "lr": 5e-4},
]


def run(folder, rows=ROWS, *, tensorboard=False):
    with Run.open(folder, TrainConfig(), {}) as one:
        if tensorboard:
            one.keep_events()
        for row in rows:
            one.log(row)
    return folder


def test_the_table_has_a_row_for_every_number_of_every_run(tmp_path):
    one, other = run(tmp_path / "one"), run(tmp_path / "other", ROWS[1:2])
    out = hilum.history([one, other], out=tmp_path / "all.csv")
    table = pd.read_csv(out)
    assert list(table) == ["run", "step", "epoch", "name", "value"]
    assert table["run"].value_counts().to_dict() == {"one": 6, "other": 2}
    mine = table[table["run"] == "one"]
    for row in ROWS:
        for name in row.keys() - {"step", "epoch"}:
            found = mine[(mine["step"] == row["step"]) & (mine["name"] == name)]
            assert found["epoch"].tolist() == [row["epoch"]]
            np.testing.assert_equal(found["value"].tolist(), [float(row[name])])


def test_what_validation_repeats_of_its_step_is_there_once(tmp_path):
    rows = [{"step": 1, "epoch": 1.0, "lr": 0.1, "loss": 1.0}, {"step": 1, "epoch": 1.0, "lr": 0.1, "x": 2.0}]
    table = pd.read_csv(hilum.history([run(tmp_path / "one", rows)], out=tmp_path / "all.csv"))
    assert sorted(table["name"]) == ["loss", "lr", "x"]


def test_cells_of_a_grid_are_runs_of_their_own(tmp_path):
    for cell in ("fraction-0.1-seed-0", "fraction-1-seed-0"):
        run(tmp_path / "grid" / "cells" / cell)
    table = pd.read_csv(hilum.history([tmp_path / "grid"], out=tmp_path / "all.csv"))
    assert set(table["run"]) == {"grid/cells/fraction-0.1-seed-0", "grid/cells/fraction-1-seed-0"}


def test_a_line_that_is_cut_short_is_left_out_and_said(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    folder = run(tmp_path / "one")
    whole = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(whole + '{"step": 3, "lo')
    table = pd.read_csv(hilum.history([folder], out=tmp_path / "all.csv"))
    assert len(table) == 6
    assert "one: 1 of 4 lines of metrics.jsonl could not be read" in caplog.text
    assert "the last line is cut short" in caplog.text
    (folder / "metrics.jsonl").write_text('[1]\n{"loss": 3}\n\xff\n' + whole)
    assert len(pd.read_csv(hilum.history([folder], out=tmp_path / "other.csv"))) == 6
    assert (
        "3 of 6 lines of metrics.jsonl could not be read and are left out (the first is line 1)"
        in caplog.text
    )


def test_old_tensorboard_logs_are_read_like_runs(tmp_path, caplog):
    pytest.importorskip("tensorboard")
    folder = run(tmp_path / "run", tensorboard=True)
    logs = tmp_path / "logs" / "version_0"
    logs.parent.mkdir()
    (folder / "tensorboard").rename(logs)
    ours, theirs, file = (
        pd.read_csv(hilum.history([source], out=tmp_path / f"{number}.csv"))
        for number, source in enumerate([folder, logs.parent, next(logs.iterdir())])
    )
    assert set(theirs["run"]) == {"logs/version_0"}
    order = ["name", "step"]
    for read in (theirs, file):
        pd.testing.assert_frame_equal(
            *(t.drop(columns="run").sort_values(order, ignore_index=True) for t in (ours, read)), rtol=1e-6
        )
    (event,) = logs.iterdir()
    event.write_bytes(event.read_bytes()[:-3])
    hilum.history([logs], out=tmp_path / "cut.csv")
    assert "bytes after the last whole event could not be read" in caplog.text


def test_the_copy_for_tensorboard_is_not_counted_twice(tmp_path):
    pytest.importorskip("tensorboard")
    folder = run(tmp_path / "run", tensorboard=True)
    assert len(pd.read_csv(hilum.history([folder], out=tmp_path / "all.csv"))) == 6


def test_asked_for_names_are_drawn(tmp_path):
    import cv2

    rows = [{"step": s, "epoch": s / 10, "loss": math.exp(-s / 10), "lr": 0.1} for s in range(1, 40)]
    folders = [run(tmp_path / name, rows) for name in "abc"]
    hilum.history(folders, out=tmp_path / "all.csv", plot=["loss", "lr"])
    assert cv2.imread(str(tmp_path / "all.png")).shape[1] > 1000


def test_what_is_not_there_is_said_in_one_message(tmp_path):
    folder = run(tmp_path / "one")
    with pytest.raises(MissingError, match="nothing: no such run or log"):
        hilum.history([tmp_path / "nothing"], out=tmp_path / "all.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingError, match=r"neither metrics.jsonl nor a TensorBoard log"):
        hilum.history([tmp_path / "empty"], out=tmp_path / "all.csv")
    with pytest.raises(ConfigError, match="did you mean 'loss'"):
        hilum.history([folder], out=tmp_path / "all.csv", plot=["los"])
    assert not (tmp_path / "all.csv").exists()
    (tmp_path / "all.csv").write_text("")
    with pytest.raises(OutputError, match="is there already"):
        hilum.history([folder], out=tmp_path / "all.csv")
    (folder / "metrics.jsonl").write_text("")
    with pytest.raises(MissingError, match="nothing was logged there yet"):
        hilum.history([folder], out=tmp_path / "new.csv")


def test_two_runs_of_one_name_are_told_apart_by_their_paths(tmp_path):
    folders = [run(tmp_path / side / "run") for side in "ab"]
    table = pd.read_csv(hilum.history(folders, out=tmp_path / "all.csv"))
    assert set(table["run"]) == {str(folder) for folder in folders}
    assert json.loads((folders[0] / "metrics.jsonl").read_text().splitlines()[0])["rankme"] == 12.5
