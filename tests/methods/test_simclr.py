import math

import pytest
import torch

from hilum.config import settings_in
from hilum.errors import ConfigError
from hilum.find import path
from hilum.methods.simclr import SimCLR, nt_xent
from tests import toys
from tests.test_losses import dot, unit


def test_nt_xent_is_equation_1_of_simclr():
    za, zb, temperature = unit(5, 7, 0), unit(5, 7, 1), 0.3
    z = [*za, *zb]
    total = 0.0
    for i in range(10):
        j = (i + 5) % 10
        others = sum(math.exp(dot(z[i], z[k]) / temperature) for k in range(10) if k != i)
        total += -math.log(math.exp(dot(z[i], z[j]) / temperature) / others)
    assert float(nt_xent(za, zb, temperature=temperature)) == pytest.approx(total / 10, rel=1e-5)


def test_nt_xent_is_lightlys():
    from lightly import loss

    za, zb = unit(9, 6, 0), unit(9, 6, 1)
    for temperature in (0.07, 0.5, 1.0):
        expected = loss.NTXentLoss(temperature=temperature)(za, zb)
        assert torch.allclose(nt_xent(za, zb, temperature=temperature), expected, rtol=1e-5)


def test_nt_xent_of_equal_embeddings_is_chance():
    same = unit(1, 5, 0).repeat(4, 1)
    assert float(nt_xent(same, same, temperature=0.2)) == pytest.approx(math.log(7))


def test_nt_xent_of_equal_views_and_orthogonal_radiographs_has_the_known_floor():
    z = torch.eye(4)
    floor = math.log(1 + 6 * math.exp(-1 / 0.5))  # one key at similarity 1, six at 0
    assert float(nt_xent(z, z, temperature=0.5)) == pytest.approx(floor)


def test_nt_xent_does_not_depend_on_the_order_of_radiographs_or_of_views():
    za, zb = unit(6, 5, 0).double(), unit(6, 5, 1).double()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    expected = nt_xent(za, zb, temperature=0.1)
    assert torch.allclose(nt_xent(za[order], zb[order], temperature=0.1), expected)
    assert torch.allclose(nt_xent(zb, za, temperature=0.1), expected)


def test_the_gradient_is_that_of_finite_differences():
    za, zb = (unit(3, 4, seed).double().requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, temperature=0.4), (za, zb))


def test_a_batch_of_one_radiograph_is_refused():
    task = SimCLR(toys.encoder(), temperature=0.2, projection_dim=8)
    with pytest.raises(ConfigError, match="1 radiograph"):
        task(toys.ToyLoader(num_views=2, batch_size=1).batch(0).to("cpu", toys.SPEC))


@pytest.mark.parametrize("wrong", [{"temperature": 0}, {"temperature": -1}, {"projection_dim": 0}])
def test_settings_that_have_no_meaning_are_refused(wrong):
    with pytest.raises(ConfigError, match="greater than 0"):
        settings_in(path("hilum.methods", "simclr")).build(wrong, "simclr")
