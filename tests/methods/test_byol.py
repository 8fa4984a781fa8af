import math

import pytest
import torch

from hilum.config import TrainConfig
from hilum.errors import ConfigError
from hilum.methods.byol import BYOL, byol_loss, spread
from hilum.run import Run
from hilum.train.loop import fit
from tests import toys


def normal(seed: int) -> torch.Tensor:
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def byol(momentum_target: float = 0.75, predictor_sizes: tuple[int, ...] = (12,)) -> BYOL:
    return BYOL(
        toys.encoder(),
        momentum_target=momentum_target,
        projector_sizes=[16, 8],
        predictor_sizes=list(predictor_sizes),
    )


def batch(size: int = 16):
    return toys.ToyLoader(num_views=2, batch_size=size).batch(0).to("cpu", toys.SPEC)


def test_the_loss_is_equation_2():
    prediction, target = normal(0), normal(1)
    total = 0.0
    for p, t in zip(prediction.tolist(), target.tolist(), strict=True):
        of_p, of_t = (math.sqrt(sum(x * x for x in row)) for row in (p, t))
        total += sum((x / of_p - y / of_t) ** 2 for x, y in zip(p, t, strict=True))
    assert float(byol_loss(prediction, target)) == pytest.approx(total / 5)


def test_the_loss_is_two_more_than_twice_lightlys_negative_cosine_similarity():
    from lightly import loss

    prediction, target = normal(0), normal(1)
    expected = 2 + 2 * loss.NegativeCosineSimilarity()(prediction, target)
    assert torch.allclose(byol_loss(prediction, target), expected)


def test_the_loss_is_0_for_the_same_direction_2_for_a_right_angle_and_4_for_the_opposite():
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 0.1]])
    assert [float(byol_loss(a, other)) for other in (7 * a, b, -a)] == pytest.approx([0, 2, 4])


def test_the_gradient_is_that_of_finite_differences():
    assert torch.autograd.gradcheck(byol_loss, (normal(0).requires_grad_(), normal(1).requires_grad_()))


def test_the_task_adds_both_directions():
    task = byol()
    views = batch().views
    predictions = [task.predict(task.project(task.model(view))) for view in views]
    targets = [task.target_project(task.target_model(view)) for view in views]
    expected = byol_loss(predictions[0], targets[1]) + byol_loss(predictions[1], targets[0])
    assert torch.allclose(task(batch())["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 1.0])
def test_the_target_follows_with_a_momentum_that_rises_to_1_along_a_cosine(progress):
    task = byol(momentum_target=0.75)
    kept = 1 - (1 - 0.75) * (math.cos(math.pi * progress) + 1) / 2
    target, online = task.target_project[0].weight, task.project[0].weight
    before = target.clone()
    with torch.no_grad():
        online += 1
    task.before_step(progress)
    assert torch.allclose(target, kept * before + (1 - kept) * (before + 1))


def test_no_gradient_reaches_the_target_and_all_of_the_rest_gets_one():
    task = byol()
    task(batch())["loss"].backward()
    for name, weight in task.named_parameters():
        if name.startswith("target"):
            assert not weight.requires_grad
            assert weight.grad is None
        else:
            assert weight.grad is not None, name


def test_the_predictor_puts_out_what_the_projector_does():
    task = byol(predictor_sizes=())
    assert [layer.weight.shape for layer in task.predict] == [(8, 8)]


def test_the_spread_is_0_when_all_targets_are_the_same():
    assert float(spread(normal(0)[:1].repeat(4, 1))) == pytest.approx(0, abs=1e-12)
    assert float(spread(torch.eye(4))) == pytest.approx(3 / 4)


def test_one_radiograph_at_a_time_is_refused(tmp_path):
    config = TrainConfig(steps=1, batch_size=4, accumulate=4)
    with Run.open(tmp_path / "run", config, {}) as run, pytest.raises(ConfigError, match="1 radiograph"):
        fit(byol(), toys.ToyLoader(num_views=2, batch_size=4), config, run)
