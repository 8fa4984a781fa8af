import math

import pytest
import torch

from hilum.errors import ConfigError
from hilum.methods.vicreg import VICReg, lacking_deviation, redundancy
from tests import toys


def normal(seed: int, rows: int = 6, columns: int = 4) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=random, dtype=torch.float64) * 0.8 + 2


def vicreg(weights: tuple[float, float, float] = (25.0, 25.0, 1.0)) -> VICReg:
    invariance, variance, covariance = weights
    return VICReg(
        toys.encoder(),
        invariance_weight=invariance,
        variance_weight=variance,
        covariance_weight=covariance,
        projector_sizes=[16, 12],
    )


def batch(size: int = 16):
    return toys.ToyLoader(num_views=2, batch_size=size).batch(0).to("cpu", toys.SPEC)


def covariance_of(a: list[float], b: list[float]) -> float:
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    return sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True)) / (len(a) - 1)


def test_the_variance_term_is_equation_1():
    z = normal(0)
    expected = sum(max(0, 1 - math.sqrt(covariance_of(f, f) + 1e-4)) for f in z.T.tolist()) / 4
    assert expected > 0
    assert float(lacking_deviation(z)) == pytest.approx(expected)


def test_the_covariance_term_is_equation_4():
    features = normal(0).T.tolist()
    expected = sum(covariance_of(features[i], features[j]) ** 2 for i in range(4) for j in range(4) if i != j)
    assert float(redundancy(normal(0))) == pytest.approx(expected / 4)


@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_the_loss_is_lightlys(weights):
    from lightly import loss

    task = vicreg(weights)
    za, zb = (task.expand(task.model(view)) for view in batch().views)
    expected = loss.VICRegLoss(*weights)(za, zb)
    assert torch.allclose(task(batch())["loss"], expected, rtol=1e-4)


def test_the_three_terms_are_logged_and_make_the_loss():
    terms = vicreg((2.0, 3.0, 5.0))(batch())
    total = 2 * terms["invariance"] + 3 * terms["variance"] + 5 * terms["covariance"]
    assert torch.allclose(terms["loss"], total, rtol=1e-5)


def test_the_invariance_is_the_mean_square_of_differences():
    task = vicreg()
    za, zb = (task.expand(task.model(view)).tolist() for view in batch().views)
    squares = [(x - y) ** 2 for a, b in zip(za, zb, strict=True) for x, y in zip(a, b, strict=True)]
    assert float(task(batch())["invariance"]) == pytest.approx(sum(squares) / (16 * 12), rel=1e-4)


def test_collapsed_embeddings_lose_all_of_the_variance_and_none_of_the_covariance():
    z = torch.full((5, 3), 7.0, requires_grad=True)
    terms = lacking_deviation(z), redundancy(z)
    sum(terms).backward()
    # 0.01 is the root of the small constant, 1e-4.
    assert [float(term.detach()) for term in terms] == pytest.approx([1 - 0.01, 0])
    assert torch.isfinite(z.grad).all()


def test_spread_and_independent_features_lose_nothing_and_copies_are_counted():
    z = 2 * torch.tensor([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]], dtype=torch.float64)
    assert (float(lacking_deviation(z)), float(redundancy(z))) == (0, 0)
    # Three copies of a feature of variance 4 / 3: six pairs of covariance 4 / 3, divided by three features.
    copies = z[:, :1].repeat(1, 3) / 2
    assert float(redundancy(copies)) == pytest.approx(6 * (4 / 3) ** 2 / 3)


def test_the_gradients_are_those_of_finite_differences():
    z = normal(0, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lacking_deviation, z)
    assert torch.autograd.gradcheck(redundancy, z)


def test_a_batch_of_one_radiograph_is_refused():
    with pytest.raises(ConfigError, match="1 radiograph"):
        vicreg()(batch(1))
