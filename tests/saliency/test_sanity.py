import copy

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from hilum.images.spec import InputSpec
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.saliency.grad_cam import grad_cam
from hilum.saliency.sanity import cascade, randomisation, reinitialised, similarity, spearman, ssim, stages

RANDOM = np.random.default_rng(0)


def classifier(arch, **options):
    torch.manual_seed(5)
    model = Classifier(Encoder(arch, InputSpec(side=64), **options), ("Edema", "Nodule"), exclusive=False)
    nn.init.normal_(model.head.weight)
    return model.eval()


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ("resnet18", ["head", "layer4.1", "layer4.0", "layer3", "layer2", "layer1", "conv1"]),
        ("convnext_atto", ["head", "stages.3", "stages.2", "stages.1", "stages.0", "stem"]),
        ("test_vit", ["head", *(f"blocks.{i}" for i in range(5, -1, -1)), "patch_embed"]),
    ],
)
def test_stages_go_from_the_head_to_the_stem(arch, expected):
    assert [name for name, _ in stages(Encoder(arch, InputSpec(side=64)))] == expected


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("densenet121", {}), ("test_efficientnet", {}), ("torchvision/squeezenet1_0", {}), ("pixels/8", {}),
        ("convstem_vit_192", {"pool": "top_k", "top_k": 3}),
    ],
)  # fmt: skip
def test_every_tensor_belongs_to_one_stage(arch, options):
    model = classifier(arch, **options)
    named = [name for _, names in stages(model.encoder) for name in names]
    assert sorted(named) == sorted(model.state_dict())


def test_each_stage_adds_random_weights_and_the_model_stays_as_it_is():
    model = classifier("test_resnet")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fresh = reinitialised(model, seed=3).state_dict()
    drawn: list[str] = []
    parts = dict(stages(model.encoder))
    for stage, made in cascade(model, seed=3):
        drawn += parts[stage]
        state = made.state_dict()
        for name, tensor in state.items():
            assert torch.equal(tensor, (fresh if name in drawn else before)[name]), (stage, name)
    assert all(torch.equal(state[name], fresh[name]) for name in fresh)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not torch.equal(fresh["head.weight"], before["head.weight"])


def test_random_weights_leave_torch_s_own_random_numbers_alone():
    model = classifier("test_resnet")
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    reinitialised(model)
    assert torch.equal(torch.rand(3), expected)


def test_spearman_is_scipy_s():
    for levels in (3, 1000):
        a, b = RANDOM.integers(0, levels, (2, 7, 7)).astype(float)
        assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a.ravel(), b.ravel()).statistic)
    assert np.isnan(spearman(np.ones((3, 3)), a[:3, :3]))


def test_ssim_is_the_formula_of_wang_window_by_window():
    a, b = RANDOM.random((2, 64, 64))
    x, y = ((one - one.min()) / np.ptp(one) for one in (a, b))
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    px, py = (np.pad(one, 5, mode="reflect") for one in (x, y))
    total = 0.0
    for i in range(64):
        for j in range(64):
            wx, wy = px[i : i + 11, j : j + 11], py[i : i + 11, j : j + 11]
            mx, my = (window * wx).sum(), (window * wy).sum()
            vx, vy = (window * (wx - mx) ** 2).sum(), (window * (wy - my) ** 2).sum()
            cov = (window * (wx - mx) * (wy - my)).sum()
            total += (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    assert ssim(a, b) == pytest.approx(total / 64**2, rel=1e-9)
    assert ssim(a, a) == pytest.approx(1)


def test_flat_maps_are_left_out_and_counted():
    a, b = RANDOM.random((2, 4, 4)), RANDOM.random((2, 4, 4))
    b[1] = 0.3
    found = similarity(list(a), list(b))
    assert (found.pairs, found.flat) == (1, 1)
    assert found.spearman == pytest.approx(spearman(a[0], b[0]))
    nothing = similarity([np.zeros((2, 2))], [np.ones((2, 2))])
    assert (nothing.spearman, nothing.ssim, nothing.flat) == (None, None, 1)


def test_grad_cam_loses_its_maps_with_the_weights():
    model = classifier("resnet10t")
    views = torch.randn(6, 1, 64, 64)

    def maps_of(made):  # with its sign, so that no map is flat
        return list((grad_cam(made, views, 0).scores - grad_cam(negated(made), views, 0).scores).numpy())

    found = randomisation(maps_of, model)
    names = [name for name, _ in found]
    assert (names[0], names[-2], names[-1]) == ("head", "conv1", "other films")
    assert all(one.pairs + one.flat == 6 for _, one in found)
    assert abs(dict(found)["conv1"].spearman) < 0.8
    (_, again), *_ = randomisation(maps_of, model)
    assert again == found[0][1]  # the random weights are of a seed
    assert similarity(maps_of(model), maps_of(model)).spearman == pytest.approx(1)


def negated(model):
    made = copy.deepcopy(model)
    made.head.weight.data.neg_()
    return made
