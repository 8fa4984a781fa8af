import torch

from hilum.config import TrainConfig
from hilum.methods.supervised import Supervised
from hilum.run import Run
from hilum.train.loop import fit
from tests import toys


def test_a_frozen_encoder_keeps_its_weights_and_its_batchnorm_statistics(tmp_path):
    task = Supervised(toys.encoder(), findings=toys.FINDINGS, exclusive=False, freeze=True)
    before = {name: tensor.clone() for name, tensor in task.model.encoder.state_dict().items()}
    config = TrainConfig(steps=5, batch_size=16, precision="float32")
    with Run.open(tmp_path / "run", config, {}) as run:
        fit(task, toys.ToyLoader(num_views=1), config, run)
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.model.encoder.state_dict().items())
    assert task.model.head.weight.any()


def test_exclusive_probabilities_sum_to_one():
    task = Supervised(toys.encoder(), findings=("a", "b", "c"), exclusive=True)
    assert torch.allclose(task.model.probabilities(torch.randn(4, 3)).sum(1), torch.ones(4))
