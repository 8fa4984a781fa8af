"""The sweep itself, with a toy in place of each training; tests/commands/test_sweep_real.py trains."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import hilum
from hilum.commands import _sweep_places, settings_of
from hilum.commands._sweep_axes import Range, axes_of
from hilum.commands.sweep import plan
from hilum.errors import ConfigError, HilumError, Interrupted, OutputError
from hilum.report.sweep import SweepRow, choices, figures

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Runs sweeps of the toy; `started` tells which cells were begun since it was asked last."""
    monkeypatch.setattr(_sweep_places, "CHILD", "tests.commands.sweep_child")
    monkeypatch.setenv("STARTED", str(tmp_path / "started"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return Toy(tmp_path)


class Toy:
    def __init__(self, folder):
        self.folder, self.out = folder, folder / "sweep"

    def sweep(self, **settings):
        shared = {"method": "simclr", "records": "none.csv", "objective": "toy_auroc", "out": self.out}
        return hilum.sweep("pretrain", **(shared | settings))

    def started(self):
        path = self.folder / "started"
        names = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return names

    def rows(self):
        with (self.out / "sweep.csv").open() as file:
            return list(csv.DictReader(file))


def test_every_combination_is_run_once_and_the_best_is_said(toy, capsys):
    toy.sweep(axes={"lr": [1e-4, "1e-2"], "batch_size": "32,64"}, parallel=2)
    names = {f"lr={lr},batch_size={size}" for lr in ("0.0001", "0.01") for size in (32, 64)}
    assert set(toy.started()) == names
    assert {row["run"].split("/")[-1] for row in toy.rows()} == names
    assert [row["status"] for row in toy.rows()] == ["done"] * 4
    assert float(toy.rows()[-1]["validation"]) == pytest.approx(1 - 0.1 / 3)
    assert "Best by validation: lr 0.01" in capsys.readouterr().out
    page = (toy.out / "sweep.html").read_text()
    assert page.count("<svg") == 2
    assert "0.967" in page
    toy.sweep(axes={"lr": [1e-4, "1e-2"], "batch_size": "32,64"})
    assert toy.started() == []
    toy.sweep(axes={"lr": [1e-4, "1e-2"], "batch_size": "32,64,16"})
    assert sorted(toy.started()) == ["lr=0.0001,batch_size=16", "lr=0.01,batch_size=16"]


def test_a_failed_run_stops_no_other_and_is_tried_again(toy, capsys):
    for _ in range(2):
        with pytest.raises(HilumError, match="2 of 3 runs failed"):
            toy.sweep(axes={"lr": [0.5, 0.6, 0.01]})
    assert toy.started() == ["lr=0.5", "lr=0.6", "lr=0.01", "lr=0.5", "lr=0.6"]
    failed, killed, done = toy.rows()
    assert (failed["status"], failed["reason"]) == ("failed", "the table has a hole in row 3")
    assert (killed["status"], killed["reason"].split(":")[0]) == ("failed", "died of SIGKILL")
    assert done["status"] == "done"
    assert "the table has a hole" in capsys.readouterr().out


def test_the_lowest_is_best_of_a_loss(toy, capsys):
    toy.sweep(axes={"lr": [1e-4, 1e-2]}, objective="toy_loss")
    assert "Best by validation: lr 0.01 (toy_loss 0.000" in capsys.readouterr().out


def test_a_cell_of_other_settings_is_refused_before_anything_runs(toy):
    toy.sweep(axes={"lr": [1e-4]})
    toy.started()
    with pytest.raises(ConfigError, match=r"finished run of other settings.*batch_size is 8, was 64"):
        toy.sweep(axes={"lr": [1e-4, 1e-2]}, batch_size=8)
    assert toy.started() == []


def test_a_folder_that_is_no_sweep_is_refused(toy):
    toy.out.mkdir()
    (toy.out / "thesis.tex").write_text("")
    with pytest.raises(OutputError, match="no sweep"):
        toy.sweep(axes={"lr": [1e-4]})


def start(out, tmp_path, times):
    environment = os.environ | {"STARTED": str(tmp_path / "started")}
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.commands.sweep_driver", str(out)],
        env=environment,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    started = tmp_path / "started"
    while not started.exists() or started.read_text().count("lr=0.7") < times:
        assert time.monotonic() < until
        assert child.poll() is None, child.communicate()[1]
        time.sleep(0.05)
    return child


def free(folder):
    """Waits until nobody writes a run any more."""
    import fcntl

    with (folder / ".lock").open() as lock:
        until = time.monotonic() + 30
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_sweep_that_was_stopped_or_killed_goes_on_and_leaves_no_process(number, tmp_path):
    out = tmp_path / "sweep"
    child = start(out, tmp_path, 1)
    time.sleep(0.5)
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    if number == signal.SIGTERM:
        assert "stopped, and what ran was saved" in said
        rows = json.loads((out / "sweep.json").read_text())
        assert [row["status"] for row in rows] == ["done", "done", "stopped"]
    free(out / "cells" / "lr=0.7")  # its process ended with the sweep
    assert (tmp_path / "started").read_text().split() == ["lr=0.001", "lr=0.01", "lr=0.7"]
    again = start(out, tmp_path, 2)
    time.sleep(0.5)
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=60)
    assert (tmp_path / "started").read_text().split()[3:] == ["lr=0.7"]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_cells_are_tasks_of_ray_that_fail_and_stop_as_processes_do(toy):
    pytest.importorskip("ray")
    timer = threading.Thread(target=interrupt_when, args=(toy.folder / "started", "lr=0.7"))
    timer.start()
    with pytest.raises(Interrupted):
        toy.sweep(axes={"lr": [0.5, 1e-2, 1e-3, 0.7]}, spread="ray", parallel=2)
    timer.join()
    assert [row["status"] for row in toy.rows()] == ["failed", "done", "done", "stopped"]
    assert toy.rows()[0]["reason"] == "the table has a hole in row 3"
    free(toy.out / "cells" / "lr=0.7")


def interrupt_when(path, name):
    while not path.exists() or name not in path.read_text():
        time.sleep(0.1)
    time.sleep(3)
    os.kill(os.getpid(), signal.SIGINT)


TPE = {"search": "tpe", "axes": {"lr": "1e-4..0.3:log", "optimizer": ["sgd", "lars"]}}


def test_tpe_goes_on_where_it_was_and_proposes_no_trial_twice(toy):
    toy.sweep(**TPE, trials=2)
    first = toy.started()
    assert len(set(first)) == 2
    toy.sweep(**TPE, trials=2)
    assert toy.started() == []
    toy.sweep(**TPE, trials=4, parallel=2)
    assert len(set(toy.started()) | set(first)) == 4
    assert len(toy.rows()) == 4
    lrs = [float(row["lr"]) for row in toy.rows()]
    assert all(1e-4 <= lr <= 0.3 for lr in lrs)
    import optuna

    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{toy.out}/study.db")
    best = max(toy.rows(), key=lambda row: float(row["validation"] or 0))
    assert study.best_params["lr"] == pytest.approx(float(best["lr"]), rel=1e-3)
    with pytest.raises(ConfigError, match="study of other axes"):
        toy.sweep(search="tpe", axes={"lr": "1e-4..0.2:log"}, trials=20)


def test_tpe_stops_runs_that_are_worse_than_the_median(toy, monkeypatch):
    monkeypatch.setenv("EPOCH", "1")
    from optuna.trial import Trial

    monkeypatch.setattr(Trial, "should_prune", lambda trial: True)
    toy.sweep(**TPE, trials=1)
    (row,) = toy.rows()
    assert row["status"] == "pruned"
    assert row["reason"].startswith("toy_auroc was")
    assert row["validation"] == ""
    toy.sweep(**TPE, trials=1)
    assert len(toy.started()) == 1
    assert toy.rows()[0]["status"] == "pruned"


def test_random_draws_are_the_same_each_time_and_of_more_the_first(toy):
    asked = {
        "search": "random",
        "axes": {"lr": "1e-4..1e-1:log", "batch_size": "8..12"},
        "records": "none.csv",
    }

    def cells(trials, seed=0):
        settings = asked | {"trials": trials, "search_seed": seed, "method": "simclr", "out": toy.out}
        _, found = plan(settings_of("sweep").build({"command": "pretrain", **settings}, "sweep"))
        return [cell.stages[0].config.model_dump() for cell in found]

    assert cells(20)[:5] == cells(5)
    assert cells(5) != cells(5, seed=1)
    many = cells(400)
    below = sum(config["lr"] < 10**-2.5 for config in many)
    assert 160 < below < 240  # the middle by ratios; 40 is four standard deviations
    assert {config["batch_size"] for config in many} == {8, 9, 10, 11, 12}


def test_everything_that_is_wrong_is_said_at_once(toy):
    axes = {
        "lr": ["fast", 1],
        "batch_siz": [3],
        "out": "a",
        "epochs": [1, "1.0"],
        "view": [{"flip": 0}, {"flip": 0}],
    }
    with pytest.raises(ConfigError) as caught:
        toy.sweep(axes=axes | {"arch.x": ["b"], "momentum": "0.1..0.9"}, trials=3, warmpu=0.1, seed="x")
    said = str(caught.value)
    for part in (
        "--lr is 'fast'; input should be a valid number",
        "axes.batch_siz: pretrain simclr has no setting 'batch_siz'; did you mean 'batch_size'?",
        "axes.out: every cell has a folder of its own",
        "axes.epochs has 1 twice",
        "axes.view has flip=0 twice",
        "axes.arch.x: arch has no parts",
        "axes.momentum is a range, and a grid needs a list",
        "--trials is for --search random and tpe",
        "no setting 'warmpu', nor has sweep; did you mean 'warmup'?",
        "--seed is 'x'",
    ):
        assert part in said, said
    assert not toy.out.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"search": "random"}, "needs --trials"),
        ({"objective": "test_auroc"}, "the test split chooses nothing"),
        ({"search": "tpe", "trials": 2, "objective": ""}, "what to judge them by"),
        ({"axes": {}}, "axes is empty"),
        ({"axes": {"lr": {"low": 3, "high": 2}}}, "low is below high"),
        ({"axes": {"lr": {"low": 0, "high": 2, "log": True}}}, "low must be above 0"),
        ({"axes": {"lr": {"low": "a", "high": 2}}}, "numbers low and high"),
        ({"axes": {"lr": 0.1}}, "expected a list of values"),
        ({"axes": {"how": {"fast": 3}}}, "fast stands for no settings"),
        ({"axes": {"how": {"fast": {"lr": 1}}, "lr": [2]}}, "axes how and lr both set lr"),
        ({"init": "runs/nowhere"}, "no such run or file"),
        ({"then": {"init": "random"}}, r"then.init is the sweep's to say"),
        ({"then": {"fti": "linear"}}, "no setting 'fti'; did you mean 'fit'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(settings, message, toy):
    with pytest.raises(ConfigError, match=message):
        toy.sweep(**({"axes": {"lr": [0.1]}} | settings))
    assert not toy.out.exists()


def test_axes_are_lists_ranges_or_names():
    given = {"lr": "1e-3..10:log", "init": "random,runs/a", "how": {"a": {"lr": 1, "fit": "linear"}}}
    rates, inits, hows = axes_of(given, [])
    assert rates.range == Range(1e-3, 10, True)
    assert rates.range.at(0.5, whole=False) == pytest.approx(0.1)
    assert [value.label for value in inits.values] == ["random", "runs/a"]
    assert hows.values[0].settings == {"lr": 1, "fit": "linear"}


def test_a_part_of_a_setting_and_a_list_can_be_axes(toy):
    axes = {"view.flip": [0, 0.5], "projector_sizes": [[512], [512, 1024]]}
    settings = {
        "command": "pretrain",
        "method": "barlow_twins",
        "records": "r.csv",
        "view": {"crop_min": 0.3},
    }
    _, cells = plan(settings_of("sweep").build(settings | {"axes": axes, "out": toy.out}, "sweep"))
    last = cells[-1].stages[0].config
    assert last.view == {"crop_min": 0.3, "flip": 0.5}
    assert last.projector_sizes == [512, 1024]
    assert cells[-1].name == "view.flip=0.5,projector_sizes=512-1024"


def test_a_pretraining_and_the_transfer_that_scores_it_share_their_table(toy):
    settings = {
        "command": "pretrain",
        "method": "simclr",
        "records": "r.csv",
        "store_size": 99,
        "arch": "resnet18",
    }
    settings |= {"axes": {"lr": [1, 2]}, "then": {"fit": "linear"}, "out": toy.out}
    _, cells = plan(settings_of("sweep").build(settings, "sweep"))
    first, second = cells[0].stages
    assert second.config.init == str(first.folder) == str(toy.out / "pretrained" / "lr=1")
    assert (second.config.fit, second.config.store_size) == ("linear", 99)
    assert (second.config.records, second.config.out) == (Path("r.csv"), toy.out / "cells" / "lr=1")


def row(validation, **labels):
    return SweepRow(labels, "done", validation, 0.4321, 0.8, 1.0, 1.0, "", "run")


def test_seeds_are_averaged_and_fractions_chosen_apart():
    rows = [
        row(value, lr=lr, seeds=seed, label_fraction=fraction)
        for fraction, lr, seed, value in (
            ("0.1", "1", "0", 0.9), ("0.1", "1", "1", 0.5), ("0.1", "2", "0", 0.75), ("0.1", "2", "1", 0.75),
            ("1", "1", "0", 0.8), ("1", "2", "0", 0.7),
        )
    ]  # fmt: skip
    small, large = choices(rows, lowest=False)
    assert (small.fraction, small.labels, small.validation, small.runs) == ("0.1", {"lr": "2"}, 0.75, 2)
    assert (large.fraction, large.labels, large.validation) == ("1", {"lr": "1"}, 0.8)
    assert choices(rows, lowest=True)[0].labels == {"lr": "1"}


def test_two_axes_have_a_heat_map_of_means_and_the_test_split_is_in_no_figure():
    rows = [row(value, lr=lr, wd=wd) for lr, wd, value in (("1", "a", 0.5), ("1", "b", 0.6), ("2", "a", 0.7))]
    scan, heat = figures(rows, "val_auroc")
    assert heat.rows == (("1", "0.500", "0.600"), ("2", "0.700", "n/a"))
    assert ("lr", "1", "0.550", "2") in scan.rows
    assert "0.432" not in heat.svg + scan.svg


def test_help_is_quick_and_imports_nothing_heavy():
    heavy = "any(name in sys.modules for name in ('torch', 'optuna', 'ray', 'pandas', 'numpy', 'matplotlib'))"
    code = f"import sys; from hilum.cli import main; main(['sweep', '--help']); sys.exit({heavy})"
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begin < 5  # 0.3 s on a machine that does nothing else
    assert "--search grid|random|tpe" in done.stdout
