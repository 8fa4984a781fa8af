import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from hilum.config import TrainConfig
from hilum.data.batch import Batch
from hilum.methods.mean_teacher import MeanTeacher, Settings, mean_square, ramp, sum_on_labels
from hilum.methods.supervised import Supervised
from hilum.run import Run
from hilum.train.loop import fit
from hilum.train.parallel import mean_over_processes, rank, synchronised, world
from hilum.train.task import Task
from tests import toys
from tests.methods.test_pseudo_label import pseudo_label
from tests.processes import in_two_processes

UNKNOWN = float("nan")


def mean_teacher(**settings) -> MeanTeacher:
    task = MeanTeacher(
        toys.encoder(), findings=toys.FINDINGS, **Settings.build(settings, "mean_teacher").model_dump()
    )
    with torch.no_grad():  # behind a head of zeros no gradient passes, and all agree
        for classifier in (task.student, task.model):
            classifier.head.weight.normal_(generator=torch.Generator().manual_seed(1))
    return task


def batch(*, labelled: int = 16) -> Batch:
    one = toys.ToyLoader(num_views=2).batch(0).to("cpu", toys.SPEC)
    labels = one.labels.clone()
    labels[labelled:] = UNKNOWN
    return replace(one, labels=labels)


@pytest.mark.parametrize("exclusive", [False, True])
def test_without_consistency_the_loss_is_that_of_supervised_training(exclusive):
    task = mean_teacher(consistency_weight=0, exclusive=exclusive)
    other = Supervised(toys.encoder(), findings=toys.FINDINGS, exclusive=exclusive)
    other.load_state_dict({f"model.{name}": w for name, w in task.student.state_dict().items()}, strict=False)
    one = batch()
    loss, expected = task(one)["loss"], other(one)["loss"]
    assert torch.allclose(loss, expected, rtol=1e-6)
    loss.backward()
    expected.backward()
    for mine, its in zip(task.student.parameters(), other.model.parameters(), strict=True):
        assert torch.allclose(mine.grad, its.grad, atol=1e-7)


@pytest.mark.parametrize("consistency", ["probabilities", "logits"])
@pytest.mark.parametrize("exclusive", [False, True])
def test_the_loss_is_that_of_a_slow_formula(consistency, exclusive):
    task = mean_teacher(consistency=consistency, exclusive=exclusive, consistency_weight=3, ramp_up=0.5)
    with torch.no_grad():
        for weight in task.model.parameters():
            weight *= 1.1
    task.weight.fill_(3 * math.exp(-5 * (1 - 0.2 / 0.5) ** 2))
    one = batch(labelled=9)
    terms = task(one)
    with torch.no_grad():
        student, teacher = task.student(one.views[0]).tolist(), task.model(one.views[1]).tolist()

    def probabilities(logits: list[float]) -> list[float]:
        if exclusive:
            return [math.exp(z) / sum(map(math.exp, logits)) for z in logits]
        return [1 / (1 + math.exp(-z)) for z in logits]

    losses, squares = [], []
    for mine, its, labels in zip(student, teacher, one.labels.tolist(), strict=True):
        if exclusive and 1 in labels:
            # Toys may show both findings; the loss then is the sum over them.
            losses.append(
                -sum(math.log(p) for p, y in zip(probabilities(mine), labels, strict=True) if y == 1)
            )
        elif not exclusive:
            for p, y in zip(probabilities(mine), labels, strict=True):
                losses += [] if math.isnan(y) else [-math.log(p if y else 1 - p)]
        compared = (
            (probabilities(mine), probabilities(its)) if consistency == "probabilities" else (mine, its)
        )
        squares += [(a - b) ** 2 for a, b in zip(*compared, strict=True)]
    supervised, disagreement = sum(losses) / len(losses), sum(squares) / len(squares)
    assert float(terms["supervised"]) == pytest.approx(supervised, rel=1e-5)
    assert float(terms["disagreement"]) == pytest.approx(disagreement, rel=1e-5)
    weight = 3 * math.exp(-5 * 0.36)
    assert float(terms["consistency_weight"]) == pytest.approx(weight, rel=1e-5)
    assert float(terms["loss"].detach()) == pytest.approx(supervised + weight * disagreement, rel=1e-5)


def test_radiographs_without_labels_are_learnt_from():
    task = mean_teacher(ramp_up=0).eval()  # BatchNorm would pass a gradient from row to row
    one = batch(labelled=5)
    view = one.views[0].requires_grad_()
    task(one)["loss"].backward()
    assert (view.grad[5:].flatten(1).abs().sum(1) > 0).all()
    task.weight.fill_(0)
    view.grad = None
    task(one)["loss"].backward()
    assert not view.grad[5:].any()
    assert view.grad[:5].any()


def test_a_batch_without_any_label_has_a_finite_gradient():
    task = mean_teacher(ramp_up=0)
    terms = task(batch(labelled=0))
    terms["loss"].backward()
    assert float(terms["supervised"]) == 0
    assert all(torch.isfinite(w.grad).all() for w in task.student.parameters())
    assert any(w.grad.any() for w in task.student.parameters())


def test_gradients_reach_every_weight_of_the_student_and_none_of_the_teacher():
    task = mean_teacher()
    with torch.no_grad():
        for weight in task.student.parameters():
            if not weight.any():  # behind a branch that starts at zero no gradient passes
                weight += 0.5
    task(batch())["loss"].backward()
    assert all(weight.grad.any() for weight in task.student.parameters())
    assert not any(weight.requires_grad for weight in task.model.parameters())


def test_the_teacher_is_what_is_kept_and_the_moving_average_of_the_student(tmp_path):
    task = mean_teacher(momentum_teacher=0.9)
    expected = {name: weight.clone() for name, weight in task.student.named_parameters()}
    move, before_step = [], task.before_step

    def watched(progress: float) -> None:
        move.append(progress)
        for name, weight in task.student.named_parameters():
            expected[name] = 0.9 * expected[name] + 0.1 * weight.detach()
        before_step(progress)

    task.before_step = watched
    config = TrainConfig(steps=6, batch_size=16, lr=3e-3, warmup=0, precision="float32")
    with Run.open(tmp_path / "run", config, {}) as run:
        fit(task, toys.ToyLoader.of(task), config, run)
    assert len(move) == 6
    for name, weight in task.model.named_parameters():
        assert torch.allclose(weight, expected[name], atol=1e-6), name
    statistics = [m.running_mean for m in task.model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(mean.any() for mean in statistics)  # gathered by the teacher itself


def test_a_slow_teacher_is_faster_in_the_ramp_up():
    task = mean_teacher(momentum_teacher=0.999, ramp_up=0.5)
    for progress, moved in ((0.49, 0.01), (0.5, 0.001)):
        before = task.model.head.bias.clone()
        with torch.no_grad():
            task.student.head.bias.copy_(before + 1)
        task.before_step(progress)
        assert torch.allclose(task.model.head.bias - before, torch.tensor(moved), atol=1e-6)


def test_the_weight_follows_progress_alone():
    task = mean_teacher(consistency_weight=4, ramp_up=0.5)
    for progress in (0.9, 0.0, 0.25):
        task.before_step(progress)
        assert float(task.weight) == pytest.approx(4 * ramp(progress, 0.5))
    assert "weight" not in task.state_dict()
    assert ramp(0.0, 0.0) == 1
    assert ramp(0.0, 0.5) == pytest.approx(math.exp(-5))


def test_exclusive_labels_are_counted_by_radiograph():
    labels = torch.tensor([[1.0, 0.0], [UNKNOWN, 1.0], [0.0, UNKNOWN], [UNKNOWN, UNKNOWN]])
    assert int(sum_on_labels(torch.zeros(4, 2), labels, exclusive=True)[1]) == 2
    assert int(sum_on_labels(torch.zeros(4, 2), labels, exclusive=False)[1]) == 4


def test_the_mean_square_is_computed_in_float32():
    a, b = torch.rand(4, 2, generator=torch.Generator().manual_seed(0)), torch.full((4, 2), 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        assert mean_square(a.bfloat16(), b).dtype == torch.float32


def in_one_of_two(folder: Path) -> None:
    for number, task in enumerate(tasks()):
        forward = synchronised(task)
        loss = forward(doubled_batch().part(rank(), world()))["loss"]
        loss.backward()
        whole = mean_over_processes(loss)
        if rank() == 0:
            gradients = {n: w.grad for n, w in task.named_parameters() if w.grad is not None}
            torch.save([whole, gradients], folder / f"{number}.pt")


def tasks() -> list[Task]:
    both = mean_teacher(ramp_up=0), pseudo_label(ramp_up=0, threshold=0.6)
    return [task.double() for task in both]


def doubled_batch() -> Batch:
    one = batch(labelled=5)  # all of them in the first process
    return replace(one, views=tuple(view.double() for view in one.views), labels=one.labels.double())


def test_two_processes_learn_from_radiographs_without_labels_as_one(tmp_path):
    in_two_processes(in_one_of_two, tmp_path)
    for number, task in enumerate(tasks()):
        terms = task(doubled_batch())
        terms["loss"].backward()
        assert float(terms["loss"].detach()) > float(terms["supervised"]) > 0
        whole, gradients = torch.load(tmp_path / f"{number}.pt", weights_only=True)
        assert float(whole.detach()) == pytest.approx(float(terms["loss"].detach()), rel=1e-5)
        for name, gradient in gradients.items():
            alone = dict(task.named_parameters())[name].grad
            assert torch.allclose(gradient, alone, rtol=1e-4, atol=1e-5 * float(alone.abs().max())), name
