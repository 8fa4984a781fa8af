import copy

import pytest
import torch

from hilum.config import TrainConfig
from hilum.errors import ConfigError
from hilum.methods.supervised import Supervised
from hilum.models.lora import LowRank, add_lora, merge_lora
from hilum.models.weights import load, to_bytes
from hilum.run import Run
from hilum.train.loop import fit
from hilum.train.optim import Fitting
from tests import toys

LORA = Fitting(lora_rank=4, lora_alpha=8.0)


def films(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 1, 64, 64, generator=torch.Generator().manual_seed(0))


def task() -> Supervised:
    return Supervised(toys.encoder(patches=True), findings=toys.FINDINGS, exclusive=False, fitting=LORA)


def test_at_first_nothing_is_changed():
    plain, adapted = toys.encoder(patches=True).eval(), toys.encoder(patches=True).eval()
    add_lora(adapted, rank=4, alpha=8.0)
    assert sum(isinstance(m, LowRank) for m in adapted.modules()) == 2 * len(plain.net.blocks)
    assert torch.equal(plain(films()), adapted(films()))


def test_the_change_is_the_product_of_two_small_matrices_times_alpha_over_rank():
    torch.manual_seed(0)
    linear = torch.nn.Linear(5, 3)
    adapted = LowRank(copy.deepcopy(linear), rank=2, alpha=6.0)
    adapted.b.data.normal_()
    x = torch.randn(4, 5)
    for row, out in zip(x, adapted(x), strict=True):
        expected = linear.weight @ row + linear.bias + 6.0 / 2 * (adapted.b @ (adapted.a @ row))
        assert torch.allclose(out, expected, atol=1e-6)


def test_only_the_small_matrices_and_the_head_are_trained(tmp_path):
    ours = task()
    trained = {name for name, weight in ours.named_parameters() if weight.requires_grad}
    assert all(name.endswith((".a", ".b")) or name.startswith("model.head.") for name in trained)
    assert len(trained) == 2 * 2 * 6 + 2
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    config = TrainConfig(steps=4, batch_size=16, precision="float32", lr=0.01, warmup=0, threads=1)
    with Run.open(tmp_path / "run", config, {}) as run:
        fit(ours, toys.ToyLoader(sides=[64]), config, run)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, before[name]) == (name not in trained), name


def test_merged_it_is_an_ordinary_classifier_with_the_same_outputs(tmp_path):
    model = task().model.eval()
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if name.endswith((".b", "head.weight")):
            weight.data.normal_(generator=generator).mul_(0.1)
    adapted = model(films())
    merge_lora(model.encoder)
    assert torch.allclose(model(films()), adapted, atol=1e-5)
    plain = toys.encoder(patches=True)
    assert model.encoder.state_dict().keys() == plain.state_dict().keys()
    assert not torch.allclose(model.encoder(films()), plain.eval()(films()), atol=1e-2)
    (tmp_path / "model.safetensors").write_bytes(to_bytes(model))
    assert torch.equal(load(tmp_path / "model.safetensors")(films()), model(films()))


def test_an_encoder_that_is_no_vit_is_refused():
    with pytest.raises(ConfigError, match=r"--fit lora .*test_resnet is none; take --fit finetune"):
        add_lora(toys.encoder(), rank=4, alpha=8.0)
