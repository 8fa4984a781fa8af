"""What every pretraining method promises; a new file in hilum/methods is tested by being there."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hilum import find
from hilum.commands import settings_of
from hilum.commands.pretrain import task_in
from hilum.config import TrainConfig, settings_in
from hilum.data.batch import Batch
from hilum.run import Run
from hilum.train.loop import fit
from hilum.train.parallel import mean_over_processes, rank, synchronised, world
from hilum.train.task import Task
from tests import toys
from tests.processes import in_two_processes

METHODS = find.names("hilum.methods")
SMALL = {"queue_size": 40, "projector_sizes": [64, 64], "projection_dim": 32}


def task_of(method: str, seed: int = 0) -> Task:
    task_class = task_in(method)
    settings = settings_in(find.path("hilum.methods", method))
    small = SMALL | ({"text_model": toys.bert(), "text_freeze": 1} if "text" in task_class.needs else {})
    arguments = settings.build(
        {k: v for k, v in small.items() if k in settings.model_fields}, method
    ).model_dump()
    if "findings" in task_class.needs:
        arguments["findings"] = toys.FINDINGS
    return task_class(toys.encoder(seed, patches="patches" in task_class.needs), **arguments)


@torch.no_grad()
def awaken(task: Task) -> Task:
    """Behind a head or a branch that starts at zero no gradient passes."""
    for weight in task.parameters():
        if not weight.any():
            weight += 0.5
    return task


def batch_for(task: Task, step: int = 0, *, double: bool = False) -> Batch:
    batch = toys.ToyLoader.of(task).batch(step).to("cpu", task.input)
    return replace(batch, views=tuple(view.double() for view in batch.views)) if double else batch


@pytest.mark.parametrize("method", METHODS)
def test_a_method_documents_its_settings_and_cites_its_paper(method):
    source = find.path("hilum.methods", method)
    settings = settings_in(source)
    assert "https://" in source.read_text().split('"""')[1]
    assert settings.__doc__
    assert all(field.description for field in settings_of("pretrain", method).model_fields.values())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "bfloat16"])
def test_the_loss_is_a_finite_scalar(method, bfloat16):
    task = task_of(method)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        for step in range(4):  # a queue of 40 wraps around in the third step
            task.before_step(0.0)
            terms = task(batch_for(task, step))
    assert all(value.ndim == 0 and torch.isfinite(value) for value in terms.values())
    assert terms["loss"].dtype == torch.float32


@pytest.mark.parametrize("method", METHODS)
def test_every_trainable_weight_gets_a_gradient(method):
    task = task_of(method)
    awaken(task)
    task.before_step(0.5)
    task(batch_for(task))["loss"].backward()
    trained = {n: w.grad for n, w in task.named_parameters() if w.requires_grad}
    assert trained
    without = [name for name, gradient in trained.items() if gradient is None or not gradient.any()]
    assert without == []


@pytest.mark.parametrize("method", METHODS)
def test_twenty_steps_lower_the_loss(method, tmp_path):
    task = task_of(method)
    loader = toys.ToyLoader.of(task)
    config = TrainConfig(steps=20, batch_size=16, lr=3e-3, warmup=0, log_every=1, precision="float32")
    with Run.open(tmp_path / "run", config, {}) as run:
        fit(task, loader, config, run)
        # MoCo's loss rises while its queue, random and easy at first, fills with keys. DINO's has its
        # teacher's entropy in it, which rises as the centre is learnt; the student lowers the rest.
        rows = [row for row in run.metrics() if not row.get("queue_random")]
        losses = [row.get("kl", row["loss"]) for row in rows]
    assert sum(losses[-5:]) < sum(losses[:5])


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_is_equal_to_the_bit(method, tmp_path):
    weights = []
    for interrupted in (False, True):
        config = TrainConfig(steps=6, batch_size=16, ema=0.9, clip=1.0, log_every=1)
        path = tmp_path / str(interrupted)
        if interrupted:
            task = task_of(method)
            loader = toys.ToyLoader.of(task)
            loader.batches = lambda first, last, loader=loader: (
                loader.batch(step) for step in range(first, 3)
            )
            with Run.open(path, config, {}) as run, pytest.raises(StopIteration):
                # Saving after every step stands for a crash at any of them.
                fit(task, loader, config.model_copy(update={"save_minutes": 0}), run)
        task = task_of(method, seed=1 if interrupted else 0)  # what was initialised must not matter any more
        with Run.open(path, config, {}) as run:
            fit(task, toys.ToyLoader.of(task), config, run)
            assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4, 5, 6]
        weights.append(task.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def in_one_of_two(folder: Path) -> None:
    for method in METHODS:
        task = awaken(task_of(method).double())
        forward = synchronised(task)
        for step in range(2):  # a weight without a gradient stops the second
            task.before_step(step / 2)
            loss = forward(batch_for(task, step, double=True).part(rank(), world()))["loss"]
            loss.backward()
        whole = mean_over_processes(loss)
        if rank() == 0:
            gradients = {n: w.grad for n, w in task.named_parameters() if w.grad is not None}
            torch.save({"": whole, **gradients}, folder / f"{method}.pt")


def test_two_processes_give_the_loss_and_gradient_of_one(tmp_path):
    in_two_processes(in_one_of_two, tmp_path)
    for method in METHODS:
        task = awaken(task_of(method).double())
        for step in range(2):
            task.before_step(step / 2)
            loss = task(batch_for(task, step, double=True))["loss"]
            loss.backward()
        both = torch.load(tmp_path / f"{method}.pt", weights_only=True)
        assert float(both.pop("").detach()) == pytest.approx(float(loss.detach()), rel=1e-5), method
        assert both
        for name, gradient in both.items():
            alone = dict(task.named_parameters())[name].grad
            # Noise around 0 is all the gradient there is of an attention's bias of keys: softmax ignores it.
            noise = 1e-9 * max(float(w.grad.abs().max()) for w in task.parameters() if w.grad is not None)
            close = 1e-6 * float(alone.abs().max()) + noise
            assert torch.allclose(gradient, alone, rtol=1e-5, atol=close), (
                method,
                name,
            )
