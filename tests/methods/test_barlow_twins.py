import math

import pytest
import torch

from hilum.errors import ConfigError
from hilum.methods.barlow_twins import BarlowTwins, barlow_terms
from tests import toys


def normal(rows: int, columns: int, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=random, dtype=torch.float64) * 3 + 1


def standard(z: torch.Tensor) -> list[list[float]]:
    columns = []
    for column in z.T.tolist():
        mean = sum(column) / len(column)
        variance = sum((x - mean) ** 2 for x in column) / len(column)
        columns.append([(x - mean) / math.sqrt(variance + 1e-5) for x in column])
    return columns


def test_the_terms_are_the_sums_of_equation_1():
    za, zb = normal(6, 4, 0), normal(6, 4, 1)
    a, b = standard(za), standard(zb)
    c = [[sum(x * y for x, y in zip(a[i], b[j], strict=True)) / 6 for j in range(4)] for i in range(4)]
    invariance = sum((c[i][i] - 1) ** 2 for i in range(4))
    redundancy = sum(c[i][j] ** 2 for i in range(4) for j in range(4) if i != j)
    assert [float(term) for term in barlow_terms(za, zb)] == pytest.approx([invariance, redundancy])


def test_the_loss_is_lightlys():
    from lightly import loss

    za, zb = normal(12, 7, 0), normal(12, 7, 1)
    for weight in (0.0, 0.005, 1.0):
        invariance, redundancy = barlow_terms(za, zb)
        assert torch.allclose(
            invariance + weight * redundancy, loss.BarlowTwinsLoss(lambda_param=weight)(za, zb)
        )


def test_equal_views_of_independent_features_lose_nothing():
    # The columns of a Hadamard matrix but the first: mean 0, variance 1, orthogonal.
    z = torch.tensor([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]], dtype=torch.float64)
    assert [float(term) for term in barlow_terms(z, z)] == pytest.approx([0, 0], abs=1e-9)


def test_opposite_views_and_copied_features_lose_what_can_be_counted():
    column = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype=torch.float64)
    opposite = barlow_terms(column, -column)
    assert [float(term) for term in opposite] == pytest.approx([4, 0], rel=1e-4)
    copied = barlow_terms(column.repeat(1, 3), column.repeat(1, 3))
    assert [float(term) for term in copied] == pytest.approx([0, 6], rel=1e-4, abs=1e-9)


def test_collapsed_embeddings_have_a_finite_loss_and_gradient():
    z = torch.full((4, 3), 0.5, requires_grad=True)
    invariance, redundancy = barlow_terms(z, z)
    (invariance + redundancy).backward()
    assert (float(invariance.detach()), float(redundancy.detach())) == (3, 0)
    assert torch.isfinite(z.grad).all()


def test_the_gradient_is_that_of_finite_differences():
    za, zb = (normal(4, 3, seed).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(barlow_terms, (za, zb))


@pytest.mark.parametrize("sizes", [[16, 8], [8], []])
def test_the_projector_has_the_layers_that_are_asked_for(sizes):
    task = BarlowTwins(toys.encoder(), redundancy_weight=0.005, projector_sizes=sizes, scale=0.5)
    terms = task(toys.ToyLoader(num_views=2).batch(0).to("cpu", toys.SPEC))
    widths = [layer.out_features for layer in task.project if isinstance(layer, torch.nn.Linear)]
    assert widths == sizes
    assert torch.allclose(terms["loss"], 0.5 * (terms["invariance"] + 0.005 * terms["redundancy"]))


def test_a_batch_of_one_radiograph_is_refused():
    task = BarlowTwins(toys.encoder(), redundancy_weight=0.005, projector_sizes=[8, 8], scale=1.0)
    with pytest.raises(ConfigError, match="1 radiograph"):
        task(toys.ToyLoader(num_views=2, batch_size=1).batch(0).to("cpu", toys.SPEC))
