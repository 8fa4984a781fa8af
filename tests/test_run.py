import errno
import json
import os
import random

import pytest

from hilum.config import TrainConfig, read_yaml
from hilum.durable import sha256, write_atomically
from hilum.errors import OutputError, StorageError
from hilum.run import Run

CONFIG = TrainConfig()


def test_a_run_writes_down_what_repeats_it(tmp_path):
    with Run.open(tmp_path / "run", CONFIG, {"versions": {"torch": "2"}}) as run:
        run.log({"step": 1, "loss": 0.5})
        run.finish({"images": 3})
    assert TrainConfig.build(read_yaml(tmp_path / "run/config.yaml"), "file") == CONFIG
    done = json.loads((tmp_path / "run/done.json").read_text())
    assert done["sha256"]["metrics.jsonl"] == sha256(tmp_path / "run/metrics.jsonl")


def test_other_settings_are_refused_by_name(tmp_path):
    Run.open(tmp_path / "run", CONFIG, {}).close()
    with pytest.raises(OutputError, match=r"unfinished run of other settings \(lr is 0.5, was 0.001\)"):
        Run.open(tmp_path / "run", TrainConfig(lr=0.5), {})


def test_settings_that_change_no_number_may_change(tmp_path):
    Run.open(tmp_path / "run", CONFIG, {}).close()
    Run.open(tmp_path / "run", TrainConfig(workers=3, log_every=1), {}).close()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "thesis.docx").write_text("")
    with pytest.raises(OutputError, match=r"thesis\.docx"):
        Run.open(tmp_path, CONFIG, {})


def test_two_processes_cannot_write_one_run(tmp_path):
    with Run.open(tmp_path / "run", CONFIG, {}), pytest.raises(OutputError, match="another process"):
        Run.open(tmp_path / "run", CONFIG, {})
    Run.open(tmp_path / "run", CONFIG, {}).close()


def test_two_checkpoints_are_kept_and_the_newest_is_taken(tmp_path):
    with Run.open(tmp_path / "run", CONFIG, {}) as run:
        for step in (1, 2, 3):
            run.save_checkpoint(step, {"weights": bytes([step])})
        assert run.load_checkpoint() == (3, {"weights": b"\x03"})
        assert sorted(p.name for p in (run.path / "checkpoints").iterdir()) == ["000000002", "000000003"]


def test_one_flipped_bit_anywhere_in_a_checkpoint_is_noticed_and_the_previous_one_used(tmp_path, caplog):
    chance = random.Random(0)
    with Run.open(tmp_path / "run", CONFIG, {}) as run:
        for _ in range(100):
            for step in (1, 2):
                run.save_checkpoint(step, {"tensors": chance.randbytes(200), "standing.json": b'{"step": 1}'})
            victim = chance.choice(sorted((run.path / "checkpoints/000000002").iterdir()))
            content = bytearray(victim.read_bytes())
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            victim.write_bytes(content)
            found = run.load_checkpoint()
            assert found is not None
            assert found[0] == 1
    assert "000000002: skipped, " in caplog.text
    assert "begins anew" not in caplog.text


def test_that_no_checkpoint_can_be_read_is_said(tmp_path, caplog):
    with Run.open(tmp_path / "run", CONFIG, {}) as run:
        assert run.load_checkpoint() is None
        assert caplog.text == ""
        run.save_checkpoint(1, {"weights": b"good"})
        (run.path / "checkpoints/000000001/weights").write_bytes(b"g")
        assert run.load_checkpoint() is None
    assert "weights is damaged" in caplog.text
    assert "no checkpoint can be read; the run begins anew" in caplog.text


def test_rows_after_the_checkpoint_are_cut(tmp_path):
    with Run.open(tmp_path / "run", CONFIG, {}) as run:
        run.log({"step": 1})
        run.save_checkpoint(1, {"weights": b"1"})
        run.log({"step": 2})
        with (run.path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 3, "lo')
        run.load_checkpoint()
        assert run.metrics() == [{"step": 1}]


def test_a_full_disk_keeps_the_last_good_checkpoint_and_says_so(tmp_path, monkeypatch):
    with Run.open(tmp_path / "run", CONFIG, {}) as run:
        run.save_checkpoint(1, {"weights": b"good"})
        calls = []

        def full(handle):
            calls.append(handle)
            if len(calls) == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"disk is full.*MiB are free.*same command again"):
            run.save_checkpoint(2, {"weights": b"better"})
        monkeypatch.undo()
        assert run.load_checkpoint() == (1, {"weights": b"good"})
        assert not list((run.path / "checkpoints").glob("*.part"))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.EIO, "failing")))
    with pytest.raises(StorageError, match="failing"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_what_a_killed_process_left_half_written_is_removed_when_the_run_is_opened_again(tmp_path):
    with Run.open(tmp_path / "run", CONFIG, {}) as run:
        (run.path / ".report.json.0a1b2c3d.part").write_bytes(b"ha")
    with Run.open(tmp_path / "run", CONFIG, {}) as run:
        assert not list(run.path.glob("*.part"))
        assert not list(run.path.glob(".*.part"))
