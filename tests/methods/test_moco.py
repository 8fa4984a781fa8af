import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from hilum.data.batch import Batch
from hilum.errors import ConfigError
from hilum.methods.moco import MoCo, Settings, moco_loss
from hilum.train.parallel import mean_over_processes, rank, synchronised, world
from tests import toys
from tests.processes import in_two_processes

SMALL = {"queue_size": 40, "projection_dim": 8}


def moco(**settings) -> MoCo:
    arguments = Settings.build(SMALL | settings, "moco").model_dump()
    return MoCo(toys.encoder(), **arguments)


def batch(task: MoCo, step: int = 0) -> Batch:
    return toys.ToyLoader(num_views=2, columns=task.columns).batch(step).to("cpu", toys.SPEC)


def unit(rows: int, columns: int, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(rows, columns, generator=random), dim=1)


def enqueue(task: MoCo, keys: torch.Tensor) -> None:
    task._enqueue(keys, torch.full((len(keys), len(task.columns)), -1))


def test_the_queue_wraps_around_and_holds_the_newest_keys():
    task = moco(queue_size=10)
    keys = torch.arange(28.0).repeat(8, 1).T
    for first in range(0, 28, 4):
        enqueue(task, keys[first : first + 4])
    assert sorted(task.queue[:, 0].tolist()) == list(range(18, 28))
    assert int(task.enqueued) == 28


def test_keys_of_bfloat16_enter_a_queue_of_float32():
    task = moco()
    keys = unit(16, 8, 0).bfloat16()
    enqueue(task, keys)
    assert task.queue.dtype == torch.float32
    assert torch.equal(task.queue[:16], keys.float())


def test_a_queue_smaller_than_a_batch_is_refused_with_the_way_out():
    with pytest.raises(ConfigError, match=r"--queue-size is 15 and a batch adds 16 keys.*--queue-size 16"):
        moco(queue_size=15)(toys.ToyLoader(num_views=2).batch(0).to("cpu", toys.SPEC))
    task = moco(queue_size=16)
    task(batch(task))
    assert int(task.enqueued) == 16


@pytest.mark.parametrize("groups", [3, 16])
def test_a_batch_without_equal_groups_is_refused(groups):
    task = moco(shuffle_groups=groups)
    with pytest.raises(ConfigError, match=f"--shuffle-groups is {groups}.*16 radiographs"):
        task(batch(task))


def test_key_weights_are_the_moving_average_and_get_no_gradient():
    task = moco(momentum_keys=0.75)
    before = task.key_model.net.conv1[0].weight.clone()
    with torch.no_grad():
        for weight in task.model.parameters():
            weight += 1
    task.before_step(0.0)
    assert torch.allclose(task.key_model.net.conv1[0].weight, before + 0.25)
    assert not any(weight.requires_grad for weight in task.key_model.parameters())


@pytest.mark.parametrize(("progress", "moved"), [(0.0, 0.5), (0.5, 0.25), (1.0, 0.0)])
def test_the_momentum_of_the_keys_can_rise_to_one(progress, moved):
    task = moco(momentum_keys=0.5, momentum_schedule="cosine")
    before = task.key_project[0].weight.clone()
    with torch.no_grad():
        task.project[0].weight += 1
    task.before_step(progress)
    assert torch.allclose(task.key_project[0].weight, before + moved)


def test_the_queue_stands_still_in_evaluation():
    task = moco(queue_size=8).eval()  # and may be smaller than a batch, since none of it enters
    before = task.queue.clone()
    task(batch(task))
    assert torch.equal(task.queue, before)
    assert int(task.enqueued) == 0


def slow_loss(query, key, queue, temperature, hard, hard_weight, skipped) -> float:
    """InfoNCE, a query and a key at a time."""
    total = 0.0
    for i in range(len(query)):
        positive = math.exp(sum(a * b for a, b in zip(query[i], key[i], strict=True)) / temperature)
        others = 0.0
        for k in range(len(queue)):
            if skipped is not None and skipped[i][k]:
                continue
            similarity = sum(a * b for a, b in zip(query[i], queue[k], strict=True)) / temperature
            others += math.exp(similarity) * (hard_weight if hard is not None and hard[i][k] else 1)
        total -= math.log(positive / (positive + others))
    return total / len(query)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("skipped", [False, True])
@pytest.mark.parametrize("hard_weight", [0.5, 1.0, 3.0])
def test_the_loss_is_info_nce_with_weights(hard, skipped, hard_weight):
    random = torch.Generator().manual_seed(3)
    query, key, queue = unit(5, 6, 0), unit(5, 6, 1), unit(9, 6, 2)
    hard_mask = torch.rand(5, 9, generator=random) < 0.4 if hard else None
    skip_mask = torch.rand(5, 9, generator=random) < 0.3 if skipped else None
    found = moco_loss(
        query, key, queue, temperature=0.3, hard=hard_mask, hard_weight=hard_weight, skipped=skip_mask
    )
    rows = (z.tolist() for z in (query, key, queue))
    masks = (None if m is None else m.tolist() for m in (hard_mask, skip_mask))
    expected_hard, expected_skip = masks
    expected = slow_loss(*rows, 0.3, expected_hard, hard_weight, expected_skip)
    assert math.isclose(float(found), expected, rel_tol=1e-5)


def test_a_weight_of_two_is_appending_the_hard_keys_once_more():
    query, key, queue = unit(5, 6, 0), unit(5, 6, 1), unit(9, 6, 2)
    hard = torch.arange(9) % 3 == 0
    weighted = moco_loss(query, key, queue, temperature=0.2, hard=hard.expand(5, 9), hard_weight=2.0)
    appended = moco_loss(query, key, torch.cat([queue, queue[hard]]), temperature=0.2)
    assert torch.allclose(weighted, appended)


def test_a_query_without_negatives_has_no_loss_and_finite_gradients():
    query = unit(3, 6, 0).requires_grad_()
    skipped = torch.tensor([[True, True], [True, False], [False, False]])
    loss = moco_loss(query, unit(3, 6, 1), unit(2, 6, 2), temperature=0.2, skipped=skipped)
    loss.backward()
    assert torch.isfinite(query.grad).all()
    assert not query.grad[0].any()
    assert query.grad[1].any()


@pytest.mark.filterwarnings("ignore")
def test_losses_and_queue_are_lightlys():
    from lightly.loss import ntx_ent_loss

    theirs = ntx_ent_loss.NTXentLoss(temperature=0.2, memory_bank_size=(12, 8))
    task = moco(queue_size=12)
    theirs.memory_bank.bank.copy_(task.queue)
    for step in range(7):
        query, key = unit(4, 8, 2 * step).requires_grad_(), unit(4, 8, 2 * step + 1)
        ours = moco_loss(query, key, task.queue.clone(), temperature=0.2)
        assert torch.allclose(ours, theirs(query, key), rtol=1e-5)
        enqueue(task, key)
        assert torch.allclose(task.queue, theirs.memory_bank.bank)


def test_the_age_of_the_queue_is_that_of_a_slow_count():
    task = moco(queue_size=40)
    born: list[int | None] = [None] * 40
    for step in range(7):
        terms = task(batch(task, step))
        ages = [step - b for b in born if b is not None]
        assert float(terms["queue_age"]) == pytest.approx(sum(ages) / max(len(ages), 1))
        assert float(terms["queue_random"]) == born.count(None)
        for i in range(16):
            born[(step * 16 + i) % 40] = step


def test_the_projector_can_have_another_width_and_batchnorm():
    plain, wide = moco(), moco(projector_hidden=24, projector_norm=True)
    assert [type(layer).__name__ for layer in plain.project] == ["Linear", "ReLU", "Linear"]
    assert plain.project[0].out_features == plain.model.num_features
    assert [type(layer).__name__ for layer in wide.project] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert wide.project[0].out_features == 24


def test_metadata_chooses_negatives_by_the_cells_of_query_and_key():
    task = moco(hard_negatives="view", hard_negative_weight=3, skip_own_patient=True)
    assert task.columns == ("view", "patient")
    codes = [torch.arange(16) % 3 - 1, torch.arange(16) // 4]  # a third of views unknown
    keys = [codes[0].flip(0), codes[1]]  # the key's film may be another of the patient
    first, second = (
        replace(
            batch(task, step),
            codes={"view": codes[0], "patient": codes[1] + step},
            partner_codes={"view": keys[0], "patient": keys[1] + step},
        )
        for step in (0, 1)
    )
    task(first)
    before = {name: tensor.clone() for name, tensor in task.state_dict().items()}
    queue, kept = before["queue"], before["queue_codes"]
    assert torch.equal(kept[:16], torch.stack(keys, 1))
    assert (kept[16:] == -1).all()
    terms = task(second)
    task.load_state_dict(before)
    with torch.no_grad():
        query, key = (
            functional.normalize(project(model(view)), dim=1)
            for project, model, view in (
                (task.project, task.model, second.views[0]),
                (task.key_project, task.key_model, second.views[1]),
            )
        )
    hard = [[int(a) == int(b) != -1 for b in kept[:, 0]] for a in second.codes["view"]]
    skipped = [[int(a) == int(b) != -1 for b in kept[:, 1]] for a in second.codes["patient"]]
    expected = slow_loss(query.tolist(), key.tolist(), queue.tolist(), 0.2, hard, 3, skipped)
    assert float(terms["loss"].detach()) == pytest.approx(expected, rel=1e-5)
    assert float(terms["hard_share"]) == pytest.approx(sum(map(sum, hard)) / (16 * 40))


def test_columns_are_asked_for_only_when_they_are_read():
    assert tuple(moco().columns) == ()
    assert tuple(moco(hard_negatives="site").columns) == ("site",)
    assert tuple(moco(hard_negatives="patient", skip_own_patient=True).columns) == ("patient",)


def test_shuffled_groups_normalise_keys_with_others_than_their_queries():
    task = moco(shuffle_groups=4)
    one = batch(task)
    task(one)
    keys = task.queue[:16].clone()
    order = one.uniforms(1)[:, 0].argsort().tolist()
    assert order != sorted(order)
    for group in range(4):
        rows = order[4 * group : 4 * group + 4]
        with torch.no_grad():
            alone = functional.normalize(task.key_project(task.key_model(one.views[1][rows])), dim=1)
        assert torch.allclose(keys[rows], alone, atol=1e-6)


def in_one_of_two(folder: Path) -> None:
    for number, settings in enumerate(IN_PARALLEL):
        task = moco(**settings).double()
        forward = synchronised(task)
        for step in range(2):
            task.zero_grad()
            whole = forward(doubled(batch(task, step)).part(rank(), world()))["loss"]
            whole.backward()
        whole = mean_over_processes(whole)
        if rank() == 0:
            gradients = {n: w.grad for n, w in task.named_parameters() if w.grad is not None}
            torch.save([whole, task.queue, task.queue_codes, gradients], folder / f"{number}.pt")


IN_PARALLEL = [
    {},
    {"shuffle_groups": 4, "projector_norm": True},
    {"hard_negatives": "view", "skip_own_patient": True},
]


def doubled(one: Batch) -> Batch:
    return replace(one, views=tuple(view.double() for view in one.views))


def test_two_processes_shuffle_and_choose_negatives_as_one(tmp_path):
    in_two_processes(in_one_of_two, tmp_path)
    for number, settings in enumerate(IN_PARALLEL):
        task = moco(**settings).double()
        for step in range(2):
            task.zero_grad()
            loss = task(doubled(batch(task, step)))["loss"]
            loss.backward()
        whole, queue, codes, gradients = torch.load(tmp_path / f"{number}.pt", weights_only=True)
        assert float(whole.detach()) == pytest.approx(float(loss.detach()), rel=1e-5)
        assert torch.allclose(queue, task.queue, atol=1e-5)
        assert torch.equal(codes, task.queue_codes)
        for name, gradient in gradients.items():
            alone = dict(task.named_parameters())[name].grad
            assert torch.allclose(gradient, alone, rtol=1e-4, atol=1e-5 * float(alone.abs().max())), name
