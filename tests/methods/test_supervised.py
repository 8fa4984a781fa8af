import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hilum.config import TrainConfig
from hilum.data.batch import Batch
from hilum.methods.supervised import Supervised
from hilum.run import Run
from hilum.train.loop import fit
from hilum.train.optim import Fitting
from hilum.train.parallel import mean_over_processes, rank, synchronised, world
from tests import toys
from tests.processes import in_two_processes

NAN = float("nan")
CHEXPERT_5 = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
FILMS = torch.tensor([[1, 0, 0], [0, NAN, 0], [0, 1, NAN], [1, 0, 0], [NAN] * 3, [0, 0, 0], [1, NAN, 0]])
EXCLUSIVE = torch.tensor(
    [[1, 0, 0], [0, 1, 0], [1, 0, 0], [NAN] * 3, [1, 0, 0], [0, 0, 0], [NAN] * 3, [NAN] * 3]
)


def supervised(*, exclusive: bool, weighting: str = "balanced") -> Supervised:
    task = Supervised(toys.encoder(), findings=("a", "b", "c"), exclusive=exclusive, weighting=weighting)
    with torch.no_grad():
        task.model.head.weight.copy_(torch.linspace(-1, 1, task.model.head.weight.numel()).view(3, -1))
        task.model.head.bias.copy_(torch.tensor([0.5, -1.0, 0.2]))
    return task


def batch(labels: torch.Tensor, step: int = 0) -> Batch:
    found = toys.ToyLoader(num_views=1, batch_size=len(labels)).batch(step).to("cpu", toys.SPEC)
    return replace(found, labels=labels)


def logits_of(task: Supervised, labels: torch.Tensor) -> list[list[float]]:
    return task.model(batch(labels).views[0]).tolist()


def test_a_frozen_encoder_keeps_its_weights_and_its_batchnorm_statistics(tmp_path):
    task = Supervised(
        toys.encoder(), findings=toys.FINDINGS, exclusive=False, fitting=Fitting(head_only=True)
    )
    before = {name: tensor.clone() for name, tensor in task.model.encoder.state_dict().items()}
    config = TrainConfig(steps=5, batch_size=16, precision="float32")
    with Run.open(tmp_path / "run", config, {}) as run:
        fit(task, toys.ToyLoader(num_views=1), config, run)
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.model.encoder.state_dict().items())
    assert task.model.head.weight.any()


def test_exclusive_probabilities_sum_to_one():
    task = Supervised(toys.encoder(), findings=("a", "b", "c"), exclusive=True)
    assert torch.allclose(task.model.probabilities(torch.randn(4, 3)).sum(1), torch.ones(4))


def test_balanced_weighs_a_positive_by_negatives_per_positive():
    task = supervised(exclusive=False)
    total, known = 0.0, 0
    weights = (3 / 3, 3 / 1, 5 / 1)  # the third has no positive: counted as if it had one, and never used
    for row, labels in zip(logits_of(task, FILMS), FILMS.tolist(), strict=True):
        for logit, label, weight in zip(row, labels, weights, strict=True):
            if not math.isnan(label):
                probability = 1 / (1 + math.exp(-logit))
                total -= weight * math.log(probability) if label else math.log(1 - probability)
                known += 1
    assert float(task(batch(FILMS))["loss"].detach()) == pytest.approx(total / known, rel=1e-4)


def test_balanced_softmax_gives_each_finding_the_same_weight_in_sum():
    task = supervised(exclusive=True)
    labels = EXCLUSIVE
    weights = (4 / (3 * 3), 4 / (3 * 1), 4 / (3 * 1))
    total = 0.0
    for row, label in zip(logits_of(task, labels), labels.tolist(), strict=True):
        if 1 in label:
            finding = label.index(1)
            share = math.exp(row[finding]) / sum(math.exp(logit) for logit in row)
            total -= weights[finding] * math.log(share)
    assert float(task(batch(labels))["loss"].detach()) == pytest.approx(total / 4, rel=1e-4)


def test_the_counts_are_of_all_labels_trained_on_so_far():
    task = supervised(exclusive=False)
    task(batch(FILMS))
    task.eval()(batch(FILMS))  # what is only evaluated is not counted
    task.train()(batch(FILMS[:2]))
    assert task.positives.tolist() == [3 + 1, 1, 0]
    assert task.negatives.tolist() == [3 + 1, 3 + 1, 5 + 2]


def test_without_weighting_nothing_is_counted_and_the_loss_is_the_plain_one():
    plain, balanced = (supervised(exclusive=False, weighting=name) for name in ("none", "balanced"))
    even = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])  # as many positives as negatives
    assert torch.equal(plain(batch(even))["loss"], balanced(batch(even))["loss"])
    assert not plain.positives.any()
    assert plain(batch(FILMS))["loss"] != balanced(batch(FILMS))["loss"]


def test_a_balanced_run_resumes_with_its_counts(tmp_path):
    class Stopping(toys.ToyLoader):
        def batches(self, first_step, last_step):
            return super().batches(first_step, min(3, last_step))

    weights = []
    config = TrainConfig(steps=6, batch_size=16)
    for interrupted in (False, True):
        path = tmp_path / str(interrupted)
        if interrupted:
            often = config.model_copy(update={"save_minutes": 0})
            with Run.open(path, config, {}) as run, pytest.raises(StopIteration):
                fit(_two_findings(), Stopping(), often, run)
        task = _two_findings()
        with Run.open(path, config, {}) as run:
            fit(task, toys.ToyLoader(), config, run)
        weights.append(task.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    labels = np.concatenate([toys.ToyLoader().batch(step).labels.numpy() for step in range(6)])
    assert task.positives.tolist() == np.nansum(labels == 1, 0).tolist()


def _two_findings() -> Supervised:
    return Supervised(toys.encoder(), findings=toys.FINDINGS, exclusive=False, weighting="balanced")


class FiveFindings(toys.ToyLoader):
    """The toys with five findings instead of two, 40 % of the labels unknown."""

    five = np.random.default_rng(0).integers(0, 2, (48, 5)).astype(np.float32)
    five[np.random.default_rng(1).random(five.shape) < 0.4] = NAN

    def batch(self, step):
        found = super().batch(step)
        return replace(found, labels=torch.from_numpy(self.five[found.rows.numpy()]))


@pytest.mark.parametrize("weighting", ["none", "balanced"])
def test_five_findings_with_unknown_labels_are_learnt(weighting, tmp_path):
    task = Supervised(toys.encoder(), findings=CHEXPERT_5, exclusive=False, weighting=weighting)
    config = TrainConfig(steps=60, batch_size=16, lr=3e-3, warmup=0, log_every=1, precision="float32")
    with Run.open(tmp_path / "run", config, {}) as run:
        fit(task, FiveFindings(), config, run)
        losses = [row["loss"] for row in run.metrics()]
    assert all(math.isfinite(loss) for loss in losses)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert task.model.findings == CHEXPERT_5


def in_one_of_two(folder: Path) -> None:
    found = {}
    for exclusive in (False, True):
        for weighting in ("none", "balanced"):
            task = supervised(exclusive=exclusive, weighting=weighting)
            forward = synchronised(task)
            loss = forward(batch(EXCLUSIVE).part(rank(), world()))["loss"]
            loss.backward()
            name = f"{exclusive} {weighting} "
            found |= {name + "loss": mean_over_processes(loss), name + "positives": task.positives}
            found |= {name + n: w.grad for n, w in task.model.head.named_parameters()}
    if rank() == 0:
        torch.save(found, folder / "found.pt")


def test_two_processes_with_unlike_numbers_of_labels_give_the_loss_of_one(tmp_path):
    in_two_processes(in_one_of_two, tmp_path)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    for exclusive in (False, True):
        for weighting in ("none", "balanced"):
            task = supervised(exclusive=exclusive, weighting=weighting)
            loss = task(batch(EXCLUSIVE))["loss"]
            loss.backward()
            alone = {"loss": loss, "positives": task.positives}
            alone |= {name: weight.grad for name, weight in task.model.head.named_parameters()}
            for name, value in alone.items():
                assert torch.allclose(found[f"{exclusive} {weighting} {name}"], value, rtol=1e-3, atol=1e-5)
