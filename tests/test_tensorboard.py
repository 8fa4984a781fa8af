import importlib.util
import json
import math

import pytest

from hilum.config import TrainConfig
from hilum.errors import DependencyError, Interrupted, MissingError, OutputError
from hilum.methods.supervised import Supervised
from hilum.run import Run
from hilum.tensorboard import event_folders, read_events
from hilum.train.loop import fit
from tests import toys

pytest.importorskip("tensorboard")


def settings(**changes):
    values = {"steps": 6, "batch_size": 16, "precision": "float32", "log_every": 1, "threads": 1}
    return TrainConfig(**{**values, "tensorboard": True, **changes})


def task():
    return Supervised(toys.encoder(), findings=toys.FINDINGS, exclusive=False)


def told(path):
    return {(one.name, one.step): one.value for one in read_events(path / "tensorboard").scalars}


def logged(path):
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return {
        (name, row["step"]): pytest.approx(float(value), rel=1e-6)
        for row in rows
        for name, value in row.items()
        if name not in ("step", "epoch")
    }


def test_every_number_of_metrics_is_written_with_its_step_and_epoch(tmp_path):
    with Run.open(tmp_path / "run", settings(), {}) as run:
        fit(task(), toys.ToyLoader(), settings(), run, validate=lambda model: {"x": 0.5, "flag": True})
        run.finish({})
    assert told(run.path) == logged(run.path)
    found = {one.step: one.epoch for one in read_events(run.path / "tensorboard").scalars}
    assert found[6] == pytest.approx(2.0)
    done = json.loads((run.path / "done.json").read_text())
    assert sorted(done["sha256"]) == ["config.yaml", "environment.json", "metrics.jsonl"]


def test_rows_can_be_seen_while_the_run_goes_on(tmp_path):
    with Run.open(tmp_path / "run", settings(), {}) as run:
        run.keep_events()
        for step in (1, 2):
            run.log({"step": step, "loss": 1 / step})
            assert told(run.path)["loss", step] == pytest.approx(1 / step)


def test_after_resuming_no_step_is_there_twice(tmp_path, monkeypatch):
    """Killed after step 5 with a checkpoint of step 3: steps 4 and 5 are trained again, otherwise."""
    path = tmp_path / "run"
    with Run.open(path, settings(), {}) as run:
        run.keep_events()
        for step in (1, 2, 3):
            run.log({"step": step, "epoch": step / 3, "loss": 0.1 * step})
        run.save_checkpoint(3, {"weights": b"w"})
        for step in (4, 5):
            run.log({"step": step, "epoch": step / 3, "loss": 7.0})
    with Run.open(path, settings(), {}) as run:
        assert run.load_checkpoint()[0] == 3
        run.keep_events()
        for step in (4, 5, 6):
            run.log({"step": step, "epoch": step / 3, "loss": 0.1 * step})
    assert len(list((path / "tensorboard").iterdir())) == 2
    assert told(path) == logged(path)
    # What TensorBoard itself makes of both files, not only what is read here.
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    theirs = EventAccumulator(str(path / "tensorboard"))
    theirs.Reload()
    assert [event.step for event in theirs.Scalars("loss")] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_begins_again_or_asks_for_events_late_has_all_of_them(tmp_path):
    path = tmp_path / "run"
    with Run.open(path, settings(), {}) as run:
        run.keep_events()
        run.log({"step": 0, "loss": 9.0})
        run.log({"step": 1, "loss": 9.0})
    with Run.open(path, settings(), {}) as run:
        assert run.load_checkpoint() is None
        run.keep_events()
        run.log({"step": 1, "loss": 0.5})
    assert told(path) == {("loss", 1): 0.5}
    late = tmp_path / "late"
    with Run.open(late, settings(tensorboard=False), {}) as run:
        run.log({"step": 1, "loss": 0.5})
        run.save_checkpoint(1, {"weights": b"w"})
    with Run.open(late, settings(), {}) as run:
        run.load_checkpoint()
        run.keep_events()
        run.log({"step": 2, "loss": 0.25})
    assert told(late) == {("loss", 1): 0.5, ("loss", 2): 0.25}


def test_stopped_and_resumed_training_gives_the_events_of_an_uninterrupted_one(tmp_path):
    import os
    import signal

    class Asked(Supervised):
        calls = 0

        def forward(self, batch):
            Asked.calls += 1
            if Asked.calls == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().forward(batch)

    for name, first in (("whole", None), ("parts", Asked)):
        if first:
            stopped = first(toys.encoder(), findings=toys.FINDINGS, exclusive=False)
            with Run.open(tmp_path / name, settings(), {}) as run, pytest.raises(Interrupted):
                fit(stopped, toys.ToyLoader(), settings(), run)
        with Run.open(tmp_path / name, settings(), {}) as run:
            fit(task(), toys.ToyLoader(), settings(), run)
    whole, parts = (
        {key: value for key, value in told(tmp_path / name).items() if key[0] in ("loss", "lr")}
        for name in ("whole", "parts")
    )
    assert whole == parts
    assert len(whole) == 12


def test_without_tensorboard_the_message_comes_before_the_run(tmp_path, monkeypatch):
    import hilum

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboard" else real(name)
    )
    for command in ("pretrain", "transfer"):
        values = {"method": "simclr"} if command == "pretrain" else {"fit": "linear"}
        with pytest.raises(DependencyError, match=r"pip install hilum\[tensorboard\]"):
            getattr(hilum, command)(
                **values, records=tmp_path / "none.csv", out=tmp_path / "run", tensorboard=True
            )
    assert not (tmp_path / "run").exists()


def test_logistic_regression_has_no_steps_to_show(tmp_path):
    import hilum
    from hilum.errors import ConfigError

    with pytest.raises(ConfigError, match="--fit logistic does not use --tensorboard"):
        hilum.transfer(records=tmp_path / "none.csv", out=tmp_path / "run", tensorboard=True)


def test_a_half_written_event_costs_only_itself_and_is_counted(tmp_path):
    with Run.open(tmp_path / "run", settings(), {}) as run:
        run.keep_events()
        for step in (1, 2, 3):
            run.log({"step": step, "loss": float(step)})
    (file,) = (run.path / "tensorboard").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    found = read_events(file)
    assert [one.step for one in found.scalars] == [1, 2]
    assert 0 < found.unread < 60
    assert math.isnan(found.scalars[0].epoch)
    spoilt = bytearray(whole)
    spoilt[-30] ^= 1
    file.write_bytes(bytes(spoilt))
    found = read_events(run.path / "tensorboard")
    assert [one.step for one in found.scalars] == [1, 2]
    assert found.unread > 0
    file.write_bytes(whole)
    assert read_events(file).unread == 0


def test_scalars_of_tensorflow_2_are_read_too(tmp_path):
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.scalar.summary_v2 import scalar_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(tmp_path / "old"))
    for step in (10, 20):
        summary = scalar_pb("epoch_loss", 2.0 / step)
        writer.add_event(Event(step=step, summary=summary))
    writer.close()
    found = read_events(tmp_path / "old").scalars
    assert [(one.step, one.value) for one in found] == [(10, pytest.approx(0.2)), (20, pytest.approx(0.1))]
    assert event_folders(tmp_path) == [tmp_path / "old"]


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    with Run.open(tmp_path / "run", settings(), {}) as run:
        (run.path / "tensorboard").write_text("in the way")
        with pytest.raises(OutputError, match="tensorboard"):
            run.keep_events()
    with pytest.raises(MissingError, match="no TensorBoard log"):
        read_events(tmp_path)
