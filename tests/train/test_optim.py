import itertools

import pytest
import torch

from hilum.config import TrainConfig
from hilum.images.spec import InputSpec
from hilum.methods.supervised import Supervised
from hilum.models.encoder import Encoder
from hilum.run import Run
from hilum.train.loop import fit
from hilum.train.optim import Fitting, learning_rate, optimizer_for
from tests import toys

ALL_BY_ITSELF = TrainConfig(steps=10, batch_size=16, precision="float32", log_every=1, threads=1)


def supervised(fitting: Fitting, *, patches: bool = False) -> Supervised:
    encoder = toys.encoder(patches=patches)
    return Supervised(encoder, findings=toys.FINDINGS, exclusive=False, fitting=fitting)


def rates(task: Supervised, lr: float) -> dict[str, tuple[float, float]]:
    """The learning rate and decay of every weight that is trained, by name."""
    optimizer = optimizer_for(task, TrainConfig(lr=lr, weight_decay=0.05))
    names = {id(weight): name.removeprefix("model.") for name, weight in task.named_parameters()}
    return {
        names[id(weight)]: (lr * group["scale"], group["weight_decay"])
        for group in optimizer.param_groups
        for weight in group["params"]
    }


def test_each_block_has_the_rate_of_the_next_times_the_decay():
    found = rates(supervised(Fitting(layer_decay=0.5, head_scale=3.0), patches=True), lr=0.1)
    assert found["head.weight"] == pytest.approx((0.3, 0.05))
    assert found["head.bias"] == pytest.approx((0.3, 0))
    assert found["encoder.net.norm.weight"] == pytest.approx((0.1, 0))
    for i in range(6):  # the toy has six blocks
        weight, bias = f"encoder.net.blocks.{i}.mlp.fc1.weight", f"encoder.net.blocks.{i}.mlp.fc1.bias"
        assert found[weight] == pytest.approx((0.1 * 0.5 ** (6 - i), 0.05))
        assert found[bias] == pytest.approx((0.1 * 0.5 ** (6 - i), 0))
    for name in ("patch_embed.proj.weight", "cls_token", "pos_embed"):
        assert found[f"encoder.net.{name}"] == pytest.approx((0.1 * 0.5**7, 0.05))


def test_a_resnets_rates_are_per_stage():
    found = rates(supervised(Fitting(layer_decay=0.1)), lr=1.0)
    stages = {"conv1.0": 1e-5, "bn1": 1e-5, "layer1.0.conv1": 1e-4, "layer2.0.conv1": 1e-3}
    stages |= {"layer3.0.conv1": 1e-2, "layer4.0.conv1": 1e-1}
    for name, rate in stages.items():
        assert found[f"encoder.net.{name}.weight"][0] == pytest.approx(rate), name
    assert found["head.weight"][0] == 1.0


def test_at_one_rate_there_are_two_groups_and_nothing_is_frozen():
    task = supervised(Fitting())
    optimizer = optimizer_for(task, TrainConfig())
    assert [(g["adapt"], g["scale"]) for g in optimizer.param_groups] == [(True, 1.0), (False, 1.0)]
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(task.parameters()))


def test_the_loop_moves_each_weight_at_its_own_rate(tmp_path):
    """One step of plain SGD: the change of a weight is its rate times its gradient."""
    config = TrainConfig(
        steps=1, batch_size=16, optimizer="sgd", momentum=0, weight_decay=0, lr=0.5, warmup=0,
        precision="float32", threads=1,
    )  # fmt: skip
    tasks = [supervised(Fitting(layer_decay=0.5, head_scale=2.0)), supervised(Fitting())]
    for task in tasks:  # behind a head of zeros no gradient passes
        torch.nn.init.constant_(task.model.head.weight, 0.1)
    before = {name: weight.detach().clone() for name, weight in tasks[0].named_parameters()}
    for place, task in enumerate(tasks):
        with Run.open(tmp_path / str(place), config, {}) as run:
            fit(task, toys.ToyLoader(), config, run)
    ours, plain = (dict(task.named_parameters()) for task in tasks)
    expected = {"head.": 2.0, "encoder.net.layer4.": 0.5, "encoder.net.layer2.": 0.5**3}
    expected |= {"encoder.net.conv1.": 0.5**5, "encoder.net.bn1.": 0.5**5}
    for prefix, scale in expected.items():
        # A residual branch ends with a factor of zero at first: what is before it does not move yet.
        moved = [n for n in ours if n.startswith(f"model.{prefix}") and not torch.equal(plain[n], before[n])]
        assert moved
        for name in moved:
            change, whole = ours[name] - before[name], plain[name] - before[name]
            assert torch.allclose(change, scale * whole, atol=1e-6), name


def test_the_schedule_starts_anew_where_it_is_asked_to():
    config = TrainConfig(lr=1.0, warmup=0.1)
    one = [learning_rate(config, p) for p in (0, 0.05, 0.1, 0.5, 0.9)]
    assert [learning_rate(config, 0.4 * p, restart=0.4) for p in (0, 0.05, 0.1, 0.5, 0.9)] == pytest.approx(
        one
    )
    rest = [learning_rate(config, 0.4 + 0.6 * p, restart=0.4) for p in (0, 0.05, 0.1, 0.5, 0.9)]
    assert rest == pytest.approx(one, abs=1e-9)


def run_lpft(path, *, stop: int = 10, seed: int = 0):
    task = Supervised(
        toys.encoder(seed), findings=toys.FINDINGS, exclusive=False, fitting=Fitting(head_first=0.45)
    )
    seen = []
    encoder = task.model.encoder

    class Watching(toys.ToyLoader):
        def batches(self, first_step, last_step):
            for batch in super().batches(first_step, min(stop, last_step)):
                seen.append({name: tensor.clone() for name, tensor in encoder.state_dict().items()})
                yield batch

    config = ALL_BY_ITSELF.model_copy(update={"save_minutes": 0})
    with Run.open(path, ALL_BY_ITSELF, {}) as run:
        if stop < 10:
            with pytest.raises(StopIteration):
                fit(task, Watching(), config, run)
        else:
            fit(task, Watching(), config, run)
        rows = run.metrics()
    return task, seen, rows


def test_the_head_is_first_trained_alone_and_then_everything_is(tmp_path):
    _, seen, rows = run_lpft(tmp_path / "run")
    # Steps 0 to 4 (progress below .45) leave the encoder as it is, its statistics too.
    for later in seen[1:6]:
        assert all(torch.equal(later[name], tensor) for name, tensor in seen[0].items())
    for before, after in itertools.pairwise(seen[6:]):
        assert not torch.equal(before["net.conv1.0.weight"], after["net.conv1.0.weight"])
        assert not torch.equal(before["net.bn1.running_mean"], after["net.bn1.running_mean"])
    config = ALL_BY_ITSELF
    expected = [learning_rate(config, p) for p in (0, 0.1 / 0.45, 0.2 / 0.45, 0.3 / 0.45, 0.4 / 0.45)]
    expected += [learning_rate(config, (p - 0.45) / 0.55) for p in (0.5, 0.6, 0.7, 0.8, 0.9)]
    assert [row["lr"] for row in rows] == pytest.approx(expected)


@pytest.mark.parametrize("stop", [2, 4, 5, 7])
def test_a_run_stopped_in_either_part_resumes_to_the_bit(tmp_path, stop):
    whole, _, _ = run_lpft(tmp_path / "whole")
    run_lpft(tmp_path / "cut", stop=stop)
    resumed, _, rows = run_lpft(tmp_path / "cut", seed=1)
    assert [row["step"] for row in rows] == list(range(1, 11))
    assert all(torch.equal(t, resumed.state_dict()[n]) for n, t in whole.state_dict().items())


def test_a_moving_average_is_kept_in_place_of_the_weights(tmp_path):
    """Its momentum grows as steps / (steps + 10) to what was asked; see `hilum.train.loop.fit`."""
    task = supervised(Fitting(train_from="layer4"))
    seen = []

    class Watching(toys.ToyLoader):
        def batches(self, first_step, last_step):
            for batch in super().batches(first_step, last_step):
                seen.append({name: w.detach().clone() for name, w in task.model.named_parameters()})
                yield batch

    config = ALL_BY_ITSELF.model_copy(update={"ema": 0.3, "steps": 8})
    with Run.open(tmp_path / "run", config, {}) as run:
        fit(task, Watching(), config, run, validate=lambda model: seen_last(seen, task, model))
    average = seen[0]
    for step, weights in enumerate([*seen[1:8], LAST["weights"]], start=1):
        momentum = min(0.3, step / (step + 10))
        average = {name: momentum * average[name] + (1 - momentum) * weights[name] for name in average}
    found = dict(task.model.named_parameters())
    assert all(torch.allclose(found[name], tensor, atol=1e-6) for name, tensor in average.items())
    assert not torch.allclose(found["head.weight"], LAST["weights"]["head.weight"], atol=1e-6)


LAST: dict[str, dict[str, torch.Tensor]] = {}


def seen_last(seen, task, model):
    """The weights after the last step, which no batch follows."""
    LAST["weights"] = {name: w.detach().clone() for name, w in task.model.named_parameters()}
    return {"x": 0.0}


def test_an_encoder_without_weights_can_be_fitted_too():
    task = Supervised(
        Encoder("pixels/8", InputSpec(side=32)), findings=toys.FINDINGS, exclusive=False,
        fitting=Fitting(layer_decay=0.5),
    )  # fmt: skip
    assert set(rates(task, 0.1)) == {"head.weight", "head.bias"}
