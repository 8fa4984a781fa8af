import logging
import signal

import pytest
import torch

from hilum.config import TrainConfig
from hilum.errors import ConfigError, Interrupted, NumericalError
from hilum.methods.supervised import Supervised
from hilum.run import Run
from hilum.train.device import choose_device
from hilum.train.loop import fit
from hilum.train.optim import LARS, Fitting, learning_rate, optimizer_for
from tests import toys


def supervised(seed=0):
    return Supervised(toys.encoder(seed), findings=toys.FINDINGS, exclusive=False)


def settings(**changes):
    return TrainConfig(
        **{"steps": 6, "batch_size": 16, "precision": "float32", "log_every": 1, "threads": 1, **changes}
    )


def train(path, config, validate=None, task=None):
    task = task or supervised()
    with Run.open(path, config, {}) as run:
        fit(task, toys.ToyLoader(num_views=1), config, run, validate=validate)
        return task, run.metrics()


def test_validation_does_not_leave_the_model_in_evaluation_mode(tmp_path):
    modes = []

    class Watched(Supervised):
        def forward(self, batch):
            modes.append(self.model.encoder.training)
            return super().forward(batch)

    task = Watched(toys.encoder(), findings=toys.FINDINGS, exclusive=False)
    train(tmp_path / "run", settings(), validate=lambda model: {"x": float(model.eval().training)}, task=task)
    assert modes == [True] * 6


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path):
    # Without BatchNorm, whose statistics are those of a part.
    from hilum.images.spec import InputSpec
    from hilum.models.encoder import Encoder

    weights = []
    for accumulate in (1, 4):
        torch.manual_seed(0)
        task = Supervised(Encoder("test_vit", InputSpec(side=32)), findings=("a", "b"), exclusive=False)
        loader = toys.ToyLoader(num_views=1)
        loader.labels[:] = loader.labels > 0.5  # equal numbers of known labels in each part
        config = settings(steps=1, accumulate=accumulate, optimizer="sgd", lr=0.1, warmup=0)
        with Run.open(tmp_path / str(accumulate), config, {}) as run:
            fit(task, loader, config, run)
        weights.append(task.state_dict())
    assert all(torch.allclose(weights[0][n], weights[1][n], atol=1e-6) for n in weights[0])


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_cause(tmp_path):
    task = supervised()
    with torch.no_grad():
        task.model.head.weight[0, 0] = float("nan")
    with pytest.raises(
        NumericalError, match=r"loss became nan at step 0.*model.head.weight.*--precision float32"
    ):
        train(tmp_path / "run", settings(), task=task)


def test_weights_that_the_last_step_broke_are_neither_validated_nor_kept(tmp_path):
    class Steep(Supervised):
        def forward(self, batch):
            return {"loss": 1e30 * self.model.head.weight.sum()}

    looked = []
    config = settings(steps=1, lr=1e30, warmup=0, optimizer="sgd", schedule="constant")
    with pytest.raises(NumericalError, match=r"after step 1 weights are not finite: model\.head.*--clip 1"):
        train(
            tmp_path / "run",
            config,
            task=Steep(toys.encoder(), findings=toys.FINDINGS, exclusive=False),
            validate=lambda model: looked.append(model) or {},
        )
    assert looked == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_being_asked_to_stop_saves_and_the_same_command_goes_on_to_the_bit(tmp_path, number, code):
    whole, _ = train(tmp_path / "whole", settings())

    class Asked(Supervised):
        calls = 0

        def forward(self, batch):
            self.calls += 1
            if self.calls == 3:
                signal.raise_signal(number)
            return super().forward(batch)

    task = Asked(toys.encoder(), findings=toys.FINDINGS, exclusive=False)
    with pytest.raises(Interrupted, match="stopped at step 3 of 6") as caught:
        train(tmp_path / "cut", settings(), task=task)
    assert caught.value.exit_code == code
    resumed, rows = train(tmp_path / "cut", settings(), task=supervised(seed=5))
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(torch.equal(t, resumed.state_dict()[n]) for n, t in whole.state_dict().items())


def test_the_best_epoch_is_kept_across_a_resume(tmp_path):
    scores = iter([0.5, 0.9, 0.6])
    snapshots = []

    def validate(model):
        snapshots.append({n: t.clone() for n, t in model.state_dict().items()})
        return {"val_auroc": next(scores)}

    task, _ = train(tmp_path / "run", settings(steps=9, monitor="val_auroc"), validate=validate)
    assert all(torch.equal(t, snapshots[1][n]) for n, t in task.model.state_dict().items())
    again, _ = train(tmp_path / "run", settings(steps=9, monitor="val_auroc"), task=supervised(seed=3))
    assert all(torch.equal(t, snapshots[1][n]) for n, t in again.model.state_dict().items())


@pytest.mark.parametrize("batch_size", [16, 20])  # an epoch of 3 steps, or of 2.4
def test_what_is_kept_is_every_epoch_even_where_fewer_are_validated(tmp_path, batch_size):
    config = settings(steps=0, epochs=25, batch_size=batch_size)
    validated, kept = [], []
    loader = toys.ToyLoader(num_views=1, batch_size=batch_size)
    with Run.open(tmp_path / "run", config, {}) as run:
        fit(
            supervised(), loader, config, run,
            validate=lambda model: {"x": float(validated.append(1) or 0)},
            keep=lambda model, step: kept.append(step),
        )  # fmt: skip
    seen, ends = 0, []
    for step in range(1, 25 * 48 // batch_size + 1):
        epochs = seen // 48
        seen += batch_size
        if seen // 48 > epochs:
            ends.append(step)
    assert kept == ends
    assert len(kept) == 25
    assert len(validated) == 20


def test_where_epochs_are_kept_the_monitor_steers_the_rate_and_chooses_none(tmp_path):
    scores = iter([0.9, 0.8, 0.7, 0.6])
    config = settings(steps=12, monitor="val_auroc", schedule="plateau", patience=4, warmup=0, lr=0.1)
    kept, task = {}, supervised()

    def keep(model, step):
        kept[step] = {n: t.clone() for n, t in model.state_dict().items()}

    with Run.open(tmp_path / "run", config, {}) as run:
        fit(
            task, toys.ToyLoader(num_views=1), config, run,
            validate=lambda model: {"val_auroc": next(scores)}, keep=keep,
        )  # fmt: skip
        rates = [row["lr"] for row in run.metrics() if "loss" in row]
    assert list(kept) == [3, 6, 9, 12]
    assert all(torch.equal(t, kept[12][n]) for n, t in task.model.state_dict().items())
    assert rates == pytest.approx([0.1] * 9 + [0.01] * 3)


def test_patience_ends_the_run(tmp_path):
    scores = iter([0.9, 0.8, 0.7, 0.6])
    config = settings(steps=30, monitor="val_auroc", patience=2)
    _, rows = train(tmp_path / "run", config, validate=lambda model: {"val_auroc": next(scores)})
    assert rows[-1]["step"] == 9  # three epochs of 48 images in batches of 16


def test_a_monitored_metric_that_validation_does_not_give_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="validation gives val_auroc"):
        train(tmp_path / "run", settings(monitor="accuracy"), validate=lambda model: {"val_auroc": 0.5})


def test_another_number_of_threads_is_warned_of_on_resume(tmp_path, caplog, monkeypatch):
    train(tmp_path / "run", settings())
    standing = tmp_path / "run/checkpoints"
    assert standing.is_dir()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    with caplog.at_level(logging.WARNING):
        train(tmp_path / "run", settings())
    assert "resuming on 99 threads" in caplog.text


def test_the_learning_rate_warms_up_and_follows_its_schedule():
    config = TrainConfig(lr=1.0, warmup=0.1)
    assert [learning_rate(config, p) for p in (0, 0.05, 0.1, 0.55)] == pytest.approx([0, 0.5, 1, 0.5])
    assert learning_rate(config, 1.0) == pytest.approx(0)
    step = TrainConfig(lr=1.0, warmup=0, schedule="step")
    assert [learning_rate(step, p) for p in (0, 0.59, 0.6, 0.8)] == pytest.approx([1, 1, 0.1, 0.01])
    plateau = TrainConfig(lr=1.0, warmup=0, schedule="plateau", monitor="x")
    assert learning_rate(plateau, 0.5, drops=2) == pytest.approx(0.01)


@pytest.mark.parametrize("drop", [0.5, 0.2])
def test_the_rate_drops_by_what_is_asked(tmp_path, drop):
    """At 60 % and 80 %; or, of validation, at each stall of half the patience: by the rule, step for step."""
    step = TrainConfig(lr=1.0, warmup=0, schedule="step", drop=drop)
    for percent in range(100):
        rate = 1.0
        for at in (60, 80):
            rate = rate * drop if percent >= at else rate
        assert learning_rate(step, percent / 100) == pytest.approx(rate)
    values = [0.5, 0.4, 0.4, 0.6, 0.5, 0.5, 0.5, 0.5]
    scores = iter(values)
    config = settings(
        steps=24, monitor="x", schedule="plateau", patience=5, warmup=0, lr=0.1, drop=drop, optimizer="sgd"
    )
    _, rows = train(tmp_path / "run", config, validate=lambda model: {"x": next(scores)})
    expected, rate, best, stalled = [], 0.1, 0.0, 0
    for value in values:
        expected += [rate] * 3
        best, stalled = (value, 0) if value > best else (best, stalled + 1)
        if stalled in (2, 4):
            rate *= drop
    assert rate == pytest.approx(0.1 * drop**3)
    assert [row["lr"] for row in rows if "loss" in row] == pytest.approx(expected)


def test_a_drop_that_is_none_or_that_nothing_reads_is_refused():
    for drop in (0, 1, -0.5):
        with pytest.raises(ValueError, match="above 0 and below 1"):
            TrainConfig(schedule="step", drop=drop)
    with pytest.raises(ValueError, match="for schedules step and plateau, and schedule is cosine"):
        TrainConfig(drop=0.5)


def test_biases_and_normalisation_are_not_decayed():
    groups = optimizer_for(supervised(), settings(weight_decay=0.1)).param_groups
    assert {(g["weight_decay"], all(w.ndim > 1 for w in g["params"])) for g in groups} == {
        (0.1, True),
        (0.0, False),
    }


def test_lars_is_algorithm_1_of_its_paper():
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    optimizer = LARS([{"params": [weight], "weight_decay": 0.1}], lr=2.0, momentum=0.9, trust=0.001)
    expected, velocity = weight.detach().clone(), torch.zeros(1, 2)
    for gradient in (torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, -1.0]])):
        weight.grad = gradient.clone()
        optimizer.step()
        update = gradient + 0.1 * expected
        velocity = 0.9 * velocity + 0.001 * float(expected.norm() / update.norm()) * update
        expected = expected - 2.0 * velocity
        assert torch.allclose(weight, expected)


def test_a_device_that_is_not_there_is_a_settings_error():
    with pytest.raises(ConfigError, match="--device is 'quantum'"):
        choose_device("quantum")


def test_a_part_of_one_radiograph_is_refused_where_batch_norm_trains(tmp_path):
    with pytest.raises(
        ConfigError, match=r"16 parts is 1 radiograph at a time; the BatchNorm in model\.encoder"
    ):
        train(tmp_path / "run", settings(accumulate=16))
    frozen = Supervised(
        toys.encoder(), findings=toys.FINDINGS, exclusive=False, fitting=Fitting(head_only=True)
    )
    train(tmp_path / "frozen", settings(accumulate=16), task=frozen)


def test_with_an_interval_validation_comes_before_the_first_step_and_at_the_end(tmp_path):
    with Run.open(tmp_path / "run", settings(), {}) as run:
        loader = toys.ToyLoader(num_views=1)
        fit(supervised(), loader, settings(), run, validate=lambda model: {"x": 1.0}, validate_every=4)
        assert [row["step"] for row in run.metrics() if "x" in row] == [0, 4, 6]
        fit(supervised(), loader, settings(), run, validate=lambda model: {"x": 1.0}, validate_every=4)
        assert [row["step"] for row in run.metrics() if "x" in row] == [0, 4, 6]
