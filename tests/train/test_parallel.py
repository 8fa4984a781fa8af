import copy

import pytest
import timm
import torch
import torch.distributed as dist

from hilum.train.parallel import _share_statistics


@pytest.fixture
def group(tmp_path):
    """A group of one process: what is shared is then what is there."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("arch", ["test_resnet", "test_efficientnet", "densenet121", "resnet18"])
def test_shared_statistics_are_those_of_the_networks_own_norms(group, arch):
    torch.manual_seed(0)
    alone = timm.create_model(arch, in_chans=1, num_classes=3, drop_rate=0.0).double()
    shared = copy.deepcopy(alone)
    _share_statistics(shared)
    images = torch.randn(4, 1, 64, 64, dtype=torch.float64)
    for net in (alone, shared):
        net.train()(images).square().mean().backward()
    for name, weight in alone.named_parameters():
        found = dict(shared.named_parameters())[name].grad
        assert torch.allclose(found, weight.grad, rtol=1e-8, atol=1e-12), name
    for name, buffer in alone.named_buffers():
        assert torch.allclose(dict(shared.named_buffers())[name], buffer), name
    assert torch.allclose(shared.eval()(images), alone.eval()(images))
