import pytest
import torch
from torch import nn

from hilum.models.ema import copy_of, move_towards, rising_momentum


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    made(torch.randn(8, 1, 4, 4))  # so that BatchNorm's statistics are no longer the initial ones
    return made


def test_a_copy_shares_nothing_and_gets_no_gradient():
    source = net(0)
    copy = copy_of(source)
    with torch.no_grad():
        for tensor in copy.state_dict().values():
            tensor.fill_(7)
    assert not any(weight.requires_grad for weight in copy.parameters())
    assert all(weight.requires_grad for weight in source.parameters())
    assert not any((tensor == 7).all() for tensor in source.state_dict().values())


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.99, 1.0])
@pytest.mark.parametrize("buffers", [False, True])
def test_each_weight_moves_by_equation_2_and_statistics_are_kept_or_copied(momentum, buffers):
    source, average = net(0), copy_of(net(1))
    was = {name: tensor.clone() for name, tensor in average.state_dict().items()}
    left = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    move_towards(average, source, momentum=momentum, buffers=buffers)
    statistics = {name for name, _ in average.named_buffers()}
    for name, found in average.state_dict().items():
        if name in statistics:
            assert torch.equal(found, left[name] if buffers else was[name]), name
        else:
            expected = momentum * was[name] + (1 - momentum) * left[name]
            assert torch.allclose(found, expected, atol=1e-7), name
    assert all(torch.equal(tensor, left[name]) for name, tensor in source.state_dict().items())


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_a_momentum_of_nothing_copies_and_of_one_keeps_to_the_bit(momentum):
    source, average = net(0), copy_of(net(1))
    expected = [weight.clone() for weight in (average if momentum else source).parameters()]
    move_towards(average, source, momentum=momentum, buffers=False)
    assert all(torch.equal(a, b) for a, b in zip(average.parameters(), expected, strict=True))


def test_many_small_moves_follow_the_closed_form():
    source, average = net(0), copy_of(net(1))
    start = [weight.clone() for weight in average.parameters()]
    for _ in range(20):
        move_towards(average, source, momentum=0.9, buffers=False)
    for found, first, goal in zip(average.parameters(), start, source.parameters(), strict=True):
        assert torch.allclose(found, goal + 0.9**20 * (first - goal), atol=1e-6)


def test_a_module_without_weights_has_an_average_too():
    move_towards(nn.ReLU(), nn.ReLU(), momentum=0.5, buffers=True)


def test_a_rising_momentum_goes_from_the_first_to_one_and_never_back():
    values = [rising_momentum(0.99, step / 100) for step in range(101)]
    assert values[0] == pytest.approx(0.99)
    assert values[-1] == 1
    assert values == sorted(values)
