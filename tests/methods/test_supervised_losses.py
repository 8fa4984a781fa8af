"""The losses of supervised training, each against a slow formula written from its paper."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from hilum.config import TrainConfig
from hilum.errors import ConfigError
from hilum.losses import (
    beta_quantiles,
    masked_asymmetric,
    masked_bce,
    masked_cross_entropy,
    masked_focal,
    masked_focal_softmax,
    mixed_in_pairs,
    smoothed,
)
from hilum.methods.supervised import Settings, Supervised
from hilum.run import Run
from hilum.train.loop import fit
from hilum.train.parallel import mean_over_processes, rank, synchronised, world
from tests import toys
from tests.methods.test_supervised import EXCLUSIVE, FILMS, batch
from tests.processes import in_two_processes

NAN = float("nan")
RANDOM = torch.Generator().manual_seed(0)
LOGITS = 3 * torch.randn(7, 3, generator=RANDOM, dtype=torch.float64)
SOFT = FILMS.double().clone()
SOFT[0, 0], SOFT[5, 1] = 0.7, 0.55
WEIGHT = torch.tensor([2.0, 0.5, 3.0], dtype=torch.float64)
ASL = {"gamma_positive": 1.0, "gamma_negative": 4.0, "margin": 0.05}


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def slow_mean(labels: torch.Tensor, term) -> float:
    """The mean over known labels of `term(logit, weight, 1 or 0)`, mixed where a label is between."""
    terms = []
    for logits, row in zip(LOGITS.tolist(), labels.tolist(), strict=True):
        for logit, label, weight in zip(logits, row, WEIGHT.tolist(), strict=True):
            if not math.isnan(label):
                terms.append(label * term(logit, weight, 1) + (1 - label) * term(logit, weight, 0))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("labels", [FILMS.double(), SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_is_equation_4_of_lin(labels, gamma):
    def term(logit, weight, label):
        p = sigmoid(logit)
        return -weight * (1 - p) ** gamma * math.log(p) if label else -(p**gamma) * math.log(1 - p)

    found = masked_focal(LOGITS, labels, gamma=gamma, positive_weight=WEIGHT)
    assert float(found) == pytest.approx(slow_mean(labels, term), rel=1e-9)


@pytest.mark.parametrize("labels", [FILMS.double(), SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize(
    "settings",
    [ASL, ASL | {"margin": 0.0}, ASL | {"gamma_positive": 0.0, "gamma_negative": 0.5, "margin": 0.3}],
)
def test_asymmetric_is_the_loss_of_ridnik(labels, settings):
    plus, minus, margin = settings.values()

    def term(logit, weight, label):
        p = sigmoid(logit)
        if label:
            return -weight * (1 - p) ** plus * math.log(p)
        lowered = max(p - margin, 0)
        return -(lowered**minus) * math.log(1 - lowered)

    found = masked_asymmetric(LOGITS, labels, **settings, positive_weight=WEIGHT)
    assert float(found) == pytest.approx(slow_mean(labels, term), rel=1e-9)


def test_asymmetric_is_that_of_timm_and_focal_that_of_torchvision():
    timm = pytest.importorskip("timm.loss.asymmetric_loss")
    vision = pytest.importorskip("torchvision.ops")
    labels = FILMS.nan_to_num()
    theirs = timm.AsymmetricLossMultiLabel(gamma_neg=4, gamma_pos=1, clip=0.05, reduction="mean")
    found = masked_asymmetric(LOGITS.float(), labels, **ASL)
    assert float(found) == pytest.approx(float(theirs(LOGITS.float(), labels)), rel=1e-4)
    other = vision.sigmoid_focal_loss(LOGITS.float(), labels, alpha=-1, gamma=2, reduction="mean")
    assert float(masked_focal(LOGITS.float(), labels, gamma=2.0)) == pytest.approx(float(other), rel=1e-5)


def test_focal_softmax_weighs_the_finding_that_is_there_by_how_hard_it_is():
    labels, total = EXCLUSIVE[:7].double(), 0.0
    rows = [
        (row, label.index(1))
        for row, label in zip(LOGITS.tolist(), labels.tolist(), strict=True)
        if 1 in label
    ]
    for row, finding in rows:
        p = math.exp(row[finding]) / sum(math.exp(logit) for logit in row)
        total -= WEIGHT.tolist()[finding] * (1 - p) ** 2 * math.log(p)
    found = masked_focal_softmax(LOGITS, labels, gamma=2.0, weight=WEIGHT)
    assert float(found) == pytest.approx(total / len(rows), rel=1e-9)


def test_without_gamma_and_margin_all_are_cross_entropy():
    bce = masked_bce(LOGITS, SOFT, positive_weight=WEIGHT)
    none = {"gamma_positive": 0.0, "gamma_negative": 0.0, "margin": 0.0}
    assert torch.allclose(masked_focal(LOGITS, SOFT, gamma=0.0, positive_weight=WEIGHT), bce)
    assert torch.allclose(masked_asymmetric(LOGITS, SOFT, **none, positive_weight=WEIGHT), bce)
    whole = masked_cross_entropy(LOGITS, EXCLUSIVE[:7].double(), weight=WEIGHT)
    assert torch.allclose(
        masked_focal_softmax(LOGITS, EXCLUSIVE[:7].double(), gamma=0.0, weight=WEIGHT), whole
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_losses_and_gradients_stay_finite_for_extreme_logits(gamma, margin):
    asymmetric = {"gamma_positive": gamma, "gamma_negative": gamma, "margin": margin}
    for label in (0.0, 1.0, NAN):
        logits = torch.tensor([[-1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4]], requires_grad=True)
        labels = torch.full_like(logits, label)
        one_hot = torch.eye(7)[:1]
        for loss in (
            masked_focal(logits, labels, gamma=gamma),
            masked_asymmetric(logits, labels, **asymmetric),
            masked_focal_softmax(logits, one_hot, gamma=gamma),
        ):
            (gradient,) = torch.autograd.grad(loss, logits)
            assert torch.isfinite(loss)
            assert torch.isfinite(gradient).all()


def test_a_batch_without_labels_gives_no_loss_and_no_gradient():
    logits = torch.zeros(2, 3, requires_grad=True)
    unknown = torch.full((2, 3), NAN)
    for value in (
        masked_focal(logits, unknown, gamma=2.0),
        masked_asymmetric(logits, unknown, **ASL),
        masked_focal_softmax(logits, unknown, gamma=2.0),
    ):
        value.backward()
        assert value == 0
        assert not logits.grad.any()


def test_smoothing_is_that_of_torch_and_keeps_the_unknown():
    classes = torch.tensor([0, 2, 1, 1, 0, 2, 2])
    targets = smoothed(torch.eye(3, dtype=torch.float64)[classes], 0.1, exclusive=True)
    theirs = torch.nn.functional.cross_entropy(LOGITS, classes, label_smoothing=0.1)
    assert torch.allclose(masked_cross_entropy(LOGITS, targets), theirs)
    assert smoothed(torch.tensor([[1.0, 0.0]]), 0.1, exclusive=False).tolist() == [
        [pytest.approx(0.95), pytest.approx(0.05)]
    ]
    assert torch.equal(smoothed(FILMS, 0.1, exclusive=False).isnan(), FILMS.isnan())
    assert torch.equal(smoothed(FILMS, 0.0, exclusive=False).nan_to_num(9), FILMS.nan_to_num(9))


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 4.0])
def test_shares_of_mixup_follow_their_beta_distribution(alpha):
    uniforms = torch.rand(20000, generator=torch.Generator().manual_seed(1))
    ones = torch.tensor([1.0, 0.0]).repeat(10000)
    shares = mixed_in_pairs(ones, uniforms, beta_quantiles(alpha)).double().numpy()
    shares[1::2] = 1 - shares[1::2]  # of the row itself
    beta = stats.beta(alpha, alpha)
    quarters, _ = np.histogram(shares, [0, *beta.ppf([0.25, 0.5, 0.75]), 1])
    assert abs(quarters - 5000).max() < 5 * np.sqrt(5000 * 0.75)
    exact, inner = beta.ppf(uniforms.double().numpy()), abs(uniforms.numpy() - 0.5) < 0.5 - 1 / 4096
    assert abs(shares - exact)[inner].max() < (1e-6 if alpha <= 1 else 1e-3)
    assert abs(shares - exact).max() < (1e-6 if alpha <= 1 else 0.03)


def test_mixup_is_the_weighted_mean_of_a_film_and_its_partner():
    views = torch.randn(7, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    uniforms = torch.linspace(0.1, 0.9, 7)
    mixed, labels = (mixed_in_pairs(part, uniforms, beta_quantiles(0.4)) for part in (views, SOFT))
    for i in range(7):
        partner = {0: 1, 1: 0, 2: 3, 3: 2, 4: 5, 5: 4, 6: 6}[i]
        share = stats.beta(0.4, 0.4).ppf(float(uniforms[i]))
        assert torch.allclose(mixed[i], share * views[i] + (1 - share) * views[partner], atol=1e-3)
        for mine, own, other in zip(
            labels[i].tolist(), SOFT[i].tolist(), SOFT[partner].tolist(), strict=True
        ):
            if math.isnan(own) or math.isnan(other):
                assert math.isnan(mine)
            else:
                assert mine == pytest.approx(share * own + (1 - share) * other, abs=1e-3)
    assert torch.allclose(mixed[6], views[6])


@pytest.mark.parametrize("exclusive", [False, True])
def test_the_task_trains_on_mixed_and_smoothed_labels(exclusive):
    task = supervised(exclusive=exclusive, mixup=0.4, label_smoothing=0.1)
    one = batch(EXCLUSIVE)
    drawn = one.uniforms(1)[:, 0]
    known = [[not math.isnan(label) for label in row] for row in EXCLUSIVE.tolist()]
    if exclusive:
        known = [[1 in row] * 3 for row in EXCLUSIVE.tolist()]
    images, total, count = [], 0.0, 0
    shares = [stats.beta(0.4, 0.4).ppf(float(u)) for u in drawn]
    for i, share in enumerate(shares):
        images.append(share * one.views[0][i] + (1 - share) * one.views[0][i ^ 1])
    for i, (logits, share) in enumerate(zip(task.model(torch.stack(images)).tolist(), shares, strict=True)):
        if exclusive and known[i][0] and known[i ^ 1][0]:
            every = math.log(sum(math.exp(logit) for logit in logits))
            targets = target(EXCLUSIVE[i], EXCLUSIVE[i ^ 1], share, 3)
            total -= sum(t * (logit - every) for t, logit in zip(targets, logits, strict=True))
            count += 1
        for f, label in enumerate([] if exclusive else target(EXCLUSIVE[i], EXCLUSIVE[i ^ 1], share, 2)):
            if known[i][f] and known[i ^ 1][f]:
                p = sigmoid(logits[f])
                total -= label * math.log(p) + (1 - label) * math.log(1 - p)
                count += 1
    assert float(task(one)["loss"].detach()) == pytest.approx(total / count, rel=1e-3)
    fresh = supervised(exclusive=exclusive, mixup=0.4, label_smoothing=0.1).eval()
    plain = supervised(exclusive=exclusive).eval()
    assert fresh(one)["loss"] == plain(one)["loss"]  # what is only evaluated is not mixed


def target(own: torch.Tensor, other: torch.Tensor, share: float, values: int) -> list[float]:
    mixed = [share * a + (1 - share) * b for a, b in zip(own.tolist(), other.tolist(), strict=True)]
    return [0.9 * label + 0.1 / values for label in mixed]


def supervised(*, exclusive: bool = False, **settings) -> Supervised:
    task = Supervised(toys.encoder(), findings=("a", "b", "c"), exclusive=exclusive, **settings)
    with torch.no_grad():
        task.model.head.weight.copy_(torch.linspace(-1, 1, task.model.head.weight.numel()).view(3, -1))
        task.model.head.bias.copy_(torch.tensor([0.5, -1.0, 0.2]))
    return task


CHOICES = [
    {"loss": "focal"},
    {"loss": "focal", "exclusive": True},
    {"loss": "asymmetric", "weighting": "balanced"},
    {"mixup": 0.4},
    {"mixup": 0.4, "exclusive": True, "label_smoothing": 0.1},
    {"mixup": 0.4, "weighting": "balanced", "loss": "focal", "label_smoothing": 0.1},
]


@pytest.mark.parametrize("choice", CHOICES)
def test_soft_labels_are_learnt_from_and_leave_the_counts_alone(choice):
    soft = FILMS.clone()
    soft[1, 1], soft[3, 2] = 0.6, 0.8
    task = supervised(**choice)
    loss = task(batch(soft))["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert task.model.head.weight.grad.any()
    other = supervised(**choice)
    other(batch(FILMS))
    counts = (soft == 1).sum(0) if choice.get("weighting") else torch.zeros(3)
    assert task.positives.tolist() == counts.tolist()
    if choice.get("exclusive"):  # there a radiograph has one finding, or is unknown
        assert torch.allclose(loss, supervised(**choice)(batch(torch.where(soft == 1, 1.0, FILMS)))["loss"])


@pytest.mark.parametrize("choice", [CHOICES[2], CHOICES[5]])
def test_a_run_with_it_learns_and_resumes_to_the_bit(choice, tmp_path):
    def task():
        return Supervised(toys.encoder(), findings=toys.FINDINGS, **({"exclusive": False} | choice))

    class Stopping(toys.ToyLoader):
        def batches(self, first_step, last_step):
            return super().batches(first_step, min(9, last_step))

    config = TrainConfig(steps=20, batch_size=16, lr=3e-3, warmup=0, log_every=1, precision="float32")
    weights = []
    for interrupted in (False, True):
        path = tmp_path / str(interrupted)
        if interrupted:
            often = config.model_copy(update={"save_minutes": 0})
            with Run.open(path, config, {}) as run, pytest.raises(StopIteration):
                fit(task(), Stopping(), often, run)
        one = task()
        with Run.open(path, config, {}) as run:
            fit(one, toys.ToyLoader(), config, run)
            losses = [row["loss"] for row in run.metrics()]
        weights.append(one.state_dict())
    assert sum(losses[-5:]) < sum(losses[:5])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert "quantiles" not in weights[0]


@pytest.mark.parametrize("choice", CHOICES)
def test_bfloat16_gives_a_finite_float32_loss(choice):
    with torch.autocast("cpu", torch.bfloat16):
        loss = supervised(**choice)(batch(EXCLUSIVE))["loss"]
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)


def in_one_of_two(folder: Path) -> None:
    found = {}
    for i, choice in enumerate(CHOICES[2:]):
        task = supervised(**choice).double()
        forward = synchronised(task)
        loss = forward(double(EXCLUSIVE).part(rank(), world()))["loss"]
        loss.backward()
        found[f"{i} loss"] = mean_over_processes(loss)
        found |= {f"{i} {n}": w.grad for n, w in task.named_parameters()}
    if rank() == 0:
        torch.save(found, folder / "found.pt")


def double(labels: torch.Tensor):
    one = batch(labels.double())
    return replace(one, views=tuple(view.double() for view in one.views))


def test_two_processes_give_the_loss_and_gradient_of_one(tmp_path):
    in_two_processes(in_one_of_two, tmp_path)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    for i, choice in enumerate(CHOICES[2:]):
        task = supervised(**choice).double()
        loss = task(double(EXCLUSIVE))["loss"]
        loss.backward()
        assert torch.allclose(found[f"{i} loss"], loss.detach(), rtol=1e-5), choice
        for name, weight in task.named_parameters():
            close = 1e-6 * float(weight.grad.abs().max()) + 1e-9
            assert torch.allclose(found[f"{i} {name}"], weight.grad, rtol=1e-5, atol=close), (choice, name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_smoothing": 1.0}, "--label-smoothing is 1.0; input should be less than 1"),
        ({"label_smoothing": -0.1}, "--label-smoothing is -0.1; input should be greater than or equal to 0"),
        ({"mixup": -1}, "--mixup is -1; input should be greater than or equal to 0"),
        ({"focal_gamma": -1}, "--focal-gamma is -1"),
        ({"margin": 1}, "--margin is 1; input should be less than 1"),
        ({"loss": "focl"}, "did you mean 'focal'?"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ConfigError) as caught:
        Settings.build(settings, "supervised")
    assert message in str(caught.value)


def test_asymmetric_is_refused_for_exclusive_findings():
    with pytest.raises(ConfigError, match="for exclusive ones use focal"):
        supervised(exclusive=True, loss="asymmetric")


def test_the_defaults_of_the_task_are_those_of_its_settings():
    task = Supervised(toys.encoder(), findings=("a",), exclusive=False)
    told = Supervised(toys.encoder(), findings=("a",), **Settings().model_dump())
    plain = {name: value for name, value in vars(task).items() if not name.startswith("_")}
    assert plain == {name: value for name, value in vars(told).items() if not name.startswith("_")}
    assert np.isclose(float(task.asymmetry["margin"]), 0.05)
