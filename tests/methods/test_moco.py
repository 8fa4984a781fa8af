import torch

from hilum.methods.moco import MoCo
from tests import toys


def moco(queue_size: int, momentum_keys: float = 0.9) -> MoCo:
    return MoCo(
        toys.encoder(), temperature=0.2, momentum_keys=momentum_keys, queue_size=queue_size, projection_dim=8
    )


def test_the_queue_wraps_around_and_holds_the_newest_keys():
    task = moco(queue_size=10)
    keys = torch.arange(28.0).repeat(8, 1).T
    for first in range(0, 28, 4):
        task._enqueue(keys[first : first + 4])
    assert sorted(task.queue[:, 0].tolist()) == list(range(18, 28))
    assert int(task.oldest) == 28 % 10


def test_a_batch_larger_than_the_queue_leaves_its_last_keys():
    task = moco(queue_size=3)
    task._enqueue(torch.arange(8.0).repeat(8, 1).T)
    assert sorted(task.queue[:, 0].tolist()) == [5, 6, 7]


def test_key_weights_are_the_moving_average_and_get_no_gradient():
    task = moco(queue_size=16, momentum_keys=0.75)
    before = task.key_model.net.conv1[0].weight.clone()
    with torch.no_grad():
        for weight in task.model.parameters():
            weight += 1
    task.before_step(0.0)
    assert torch.allclose(task.key_model.net.conv1[0].weight, before + 0.25)
    assert not any(weight.requires_grad for weight in task.key_model.parameters())


def test_the_queue_stands_still_in_evaluation():
    task = moco(queue_size=16).eval()
    before = task.queue.clone()
    task(toys.ToyLoader(num_views=2).batch(0).to("cpu", toys.SPEC))
    assert torch.equal(task.queue, before)
