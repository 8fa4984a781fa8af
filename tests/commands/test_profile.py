import csv
import json

import pytest

import hilum
from hilum.cli import main
from hilum.commands import _cell, profile
from hilum.errors import ConfigError, OutputError

SMALL = {"arch": ["test_resnet"], "image_size": [32], "threads": 1, "steps": 1}


def cell(**changes):
    settings = {"temperature": 0.2, "projection_dim": 32}
    common = {"method": "simclr", "method_settings": settings, "arch": "test_resnet", "image_size": 32}
    steps = {"batch_size": 4, "steps": 2, "optimizer": "adamw", "precision": "float32", "memory_limit": 0}
    machine = {"device": "cpu", "threads": 1, "compile": False, "channels": 1}
    return common | steps | machine | changes


@pytest.mark.parametrize("channels", [1, 3])
def test_a_cell_is_time_and_memory_of_a_step(channels):
    found = _cell.measure(cell(channels=channels))
    assert found["status"] == "ok", found
    assert found["images_per_second"] == pytest.approx(4 / found["seconds_per_step"], rel=0.01)
    assert 0.05 < found["memory_gib"] < 50


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MemoryError("no more"), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), "out of memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "out of memory"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "failed"),
    ],
)
def test_out_of_memory_is_told_from_any_other_failure(monkeypatch, error, status):
    def fails(cell):
        raise error

    monkeypatch.setattr(_cell, "_measure", fails)
    found = _cell.measure(cell())
    assert found["status"] == status
    assert str(error) in found["error"]


def test_out_of_memory_kills_a_cell_only_and_what_is_measured_is_kept(tmp_path, capsys, monkeypatch):
    asked = SMALL | {"batch_size": [4, 6000], "memory": 2.0, "out": tmp_path / "table"}
    hilum.profile("simclr", **asked)
    rows = json.loads((tmp_path / "table" / "profile.json").read_text())
    assert [row["status"] for row in rows] == ["ok", "out of memory"]
    assert "out of memory" in capsys.readouterr().out
    written = list(csv.DictReader((tmp_path / "table" / "profile.csv").read_text().splitlines()))
    assert [row["batch_size"] for row in written] == ["4", "6000"]
    monkeypatch.setattr(profile, "_measure", lambda cell, limit: {"status": "failed", "error": cell["arch"]})
    hilum.profile("simclr", **(asked | {"arch": ["test_resnet", "another"]}))
    again = json.loads((tmp_path / "table" / "profile.json").read_text())
    assert again[:2] == rows
    assert [row["error"] for row in again[2:]] == ["another", "another"]
    assert "failed: another" in capsys.readouterr().out


def test_a_process_that_dies_is_out_of_memory_if_it_was_killed(monkeypatch):
    class Died:
        stdout = ""
        stderr = "some last words\n"

    for code, status in ((-9, "out of memory"), (-11, "failed"), (1, "failed")):
        Died.returncode = code
        monkeypatch.setattr(profile.subprocess, "run", lambda *args, **kwargs: Died)
        found = profile._measure(cell(), 0)
        assert found["status"] == status
        assert "some last words" in found["error"]


def test_what_makes_no_sense_is_refused(tmp_path, capsys):
    with pytest.raises(ConfigError, match="--batch-size 0, --channels 2"):
        hilum.profile("simclr", **(SMALL | {"batch_size": [0], "channels": [2]}), out=tmp_path / "table")
    (tmp_path / "profile.json").write_text("{}x")
    with pytest.raises(OutputError, match="is no table of hilum profile"):
        hilum.profile("simclr", **SMALL, out=tmp_path)
    assert main(["profile", "simclr", "--help"]) == 0
    assert "--temperature" in capsys.readouterr().out
