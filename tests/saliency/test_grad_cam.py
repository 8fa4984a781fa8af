import functools

import numpy as np
import pytest
import torch
from torch import nn

from hilum.errors import ConfigError
from hilum.images.spec import InputSpec
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.saliency.grad_cam import grad_cam, grad_cam_plus_plus, plus_plus_weights
from tests import toys

FINDINGS = tuple(f"Finding {number}" for number in range(8))
CONVOLUTIONS = ["resnet10t", "densenet121", "convnext_atto", "test_efficientnet", "torchvision/squeezenet1_0"]


def classifier(arch, *, pool="mean", side=64, scale=1.0, seed=0):
    torch.manual_seed(seed)
    encoder = Encoder(arch, InputSpec(side=side), pool=pool, top_k=3 if pool == "top_k" else 0)
    model = Classifier(encoder, FINDINGS, exclusive=False)
    nn.init.normal_(model.head.weight, std=scale)
    return model.eval()


def images(side=64, num=3):
    return torch.randn(num, 1, side, side, generator=torch.Generator().manual_seed(1))


def told(model, views, **options):
    """A finding of which every map has a positive part: a random head says no as often as yes."""
    for finding in range(len(FINDINGS)):
        if (grad_cam(model, views, finding, **options).scores.amax((1, 2)) > 0).all():
            return finding
    raise AssertionError("no finding has positive maps")


def slow_grad_cam(a, g):
    """Equations 1 and 2 of Grad-CAM, place by place."""
    batch, channels, height, width = a.shape
    maps = np.zeros((batch, height, width))
    for b in range(batch):
        for k in range(channels):
            weight = sum(g[b, k, i, j] for i in range(height) for j in range(width)) / (height * width)
            for i in range(height):
                for j in range(width):
                    maps[b, i, j] += weight * a[b, k, i, j]
    return np.maximum(maps, 0)


def slow_plus_plus(a, g):
    """Equations 10 and 19 of Grad-CAM++, place by place; Y = exp(S), so its derivatives are powers of g."""
    batch, channels, height, width = a.shape
    maps = np.zeros((batch, height, width))
    for b in range(batch):
        for k in range(channels):
            weight = 0.0
            for i in range(height):
                for j in range(width):
                    below = 2 * g[b, k, i, j] ** 2 + a[b, k].sum() * g[b, k, i, j] ** 3
                    alpha = g[b, k, i, j] ** 2 / below if below else 0.0
                    weight += alpha * max(g[b, k, i, j], 0)
            maps[b] += weight * a[b, k]
    return np.maximum(maps, 0)


def whole_graph(model, views, finding):
    """Activations of the last map and their gradients, with the whole network in one graph."""
    map_ = model.encoder.last_map(views)
    map_.retain_grad()
    model.head(model.encoder.pool(map_))[:, finding].sum().backward()
    return map_.detach().double().numpy(), map_.grad.double().numpy()


@pytest.mark.parametrize("plus_plus", [False, True])
@pytest.mark.parametrize("pool", ["mean", "top_k"])
def test_maps_are_those_of_the_papers_formulas(plus_plus, pool):
    model, views = classifier("test_resnet", pool=pool, side=128), images(128)
    finding = told(model, views, plus_plus=plus_plus)
    found = grad_cam(model, views, finding, plus_plus=plus_plus)
    expected = (slow_plus_plus if plus_plus else slow_grad_cam)(*whole_graph(model, views, finding))
    assert expected.max() > 0
    assert np.allclose(found.scores.numpy(), expected, atol=1e-5 * expected.max(), rtol=1e-4)
    with torch.no_grad():
        assert torch.allclose(found.logits, model(views), atol=1e-5)


def test_of_a_mean_and_a_linear_head_grad_cam_is_the_class_activation_map():
    model, views = classifier("test_resnet"), images()
    with torch.no_grad():
        map_ = model.encoder.last_map(views)
        expected = torch.einsum("d,bdhw->bhw", model.head.weight[2], map_).relu() / map_[0, 0].numel()
    assert torch.allclose(grad_cam(model, views, 2).scores, expected, atol=1e-5)


def test_plus_plus_weights_of_no_gradient_are_none():
    a, g = torch.rand(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)
    assert (plus_plus_weights(a, g) == 0).all()
    g[0, 1] = -1.0
    assert (plus_plus_weights(a, g) == 0).all()  # only what speaks for the finding counts


def theirs(kind, model, layer, views, finding, reshape=None):
    """Maps of pytorch-grad-cam, each from 0 to 1, at the map's own size."""
    package = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam = getattr(package, kind)(model=model, target_layers=[layer], reshape_transform=reshape)
    with cam:
        cam.get_target_width_height = lambda _: None  # no enlarging
        return cam(input_tensor=views, targets=[ClassifierOutputTarget(finding)] * len(views))


def levels(maps):
    assert maps.max() > 0
    low = maps.amin((1, 2), keepdim=True)
    return ((maps - low) / (maps.amax((1, 2), keepdim=True) - low).clamp(min=1e-12)).numpy()


TAIL = {
    "resnet10t": "layer4", "densenet121": "features", "convnext_atto": "norm_pre", "test_efficientnet": "bn2",
    "torchvision/squeezenet1_0": "features",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("arch", CONVOLUTIONS)
@pytest.mark.parametrize(("ours", "kind"), [(grad_cam, "GradCAM"), (grad_cam_plus_plus, "GradCAMPlusPlus")])
def test_maps_of_convolutions_are_those_of_pytorch_grad_cam(arch, ours, kind):
    # Theirs adds 1e-6 below a fraction of squared gradients: large logits make that nothing.
    model, views = classifier(arch, side=96, scale=1.0 if kind == "GradCAM" else 3e3), images(96)
    if arch == "convnext_atto" and kind == "GradCAMPlusPlus":
        pytest.skip("its features have both signs, for which Grad-CAM++ is not defined")
    layer = model.encoder.net.get_submodule(TAIL[arch])
    finding = told(model, views)
    found = levels(ours(model, views, finding).scores)
    assert np.allclose(found, theirs(kind, model, layer, views, finding), atol=2e-3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("arch", ["test_vit", "convstem_vit_192"])
def test_maps_of_a_class_token_are_those_of_pytorch_grad_cam_at_the_last_norm1(arch):
    model, views = classifier(arch, pool="token"), images()
    side = 64 // model.encoder.strides[-1]

    def reshape(tokens):
        return tokens[:, -side * side :].transpose(1, 2).reshape(len(tokens), -1, side, side)

    layer = model.encoder.net.blocks[-1].norm1
    found = levels(grad_cam(model, views, 1).scores)
    assert np.allclose(found, theirs("GradCAM", model, layer, views, 1, reshape), atol=1e-4)
    named = levels(
        grad_cam(model, views, 1, layer=f"blocks.{len(model.encoder.net.blocks) - 1}.norm1").scores
    )
    assert np.allclose(found, named, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("arch", ["resnet10t", "densenet121", "convnext_atto", "efficientnet_b0"])
def test_every_stage_gives_maps_and_they_are_those_of_pytorch_grad_cam(arch):
    model, views = classifier(arch, side=64), images(64, num=2)
    for stage in model.encoder.net.feature_info[:3]:
        layer = model.encoder.net.get_submodule(stage["module"])
        finding = told(model, views, layer=stage["module"])
        found = grad_cam(model, views, finding, layer=stage["module"]).scores
        assert found.shape == (2, 64 // stage["reduction"], 64 // stage["reduction"])
        assert np.allclose(levels(found), theirs("GradCAM", model, layer, views, finding), atol=1e-3), stage


def test_a_class_token_after_post_norm_has_maps_too():
    model = classifier("convstem_vit_192_original", pool="token")
    assert (grad_cam(model, images(), 0).scores.flatten(1).std(1) > 0).all()


def test_a_mean_over_patches_has_maps_of_all_patches():
    model = classifier("test_vit")
    assert grad_cam(model, images(), 0).scores.shape == (3, 4, 4)


def test_swin_has_its_channels_last():
    model = classifier("swin_tiny_patch4_window7_224", side=224)
    views = images(224, num=1)
    assert grad_cam(model, views, 0).scores.shape == (1, 7, 7)
    assert grad_cam(model, views, 0, layer="layers.1").scores.shape == (1, 28, 28)


def test_the_batch_does_not_matter_and_nothing_is_left_behind():
    model, views = classifier("test_resnet"), images()
    for layer in ("", "layer2"):
        together = grad_cam(model, views, 0, layer=layer).scores
        alone = torch.cat([grad_cam(model, view[None], 0, layer=layer).scores for view in views])
        assert torch.allclose(together, alone, atol=1e-6)
    assert all(weight.grad is None for weight in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.is_grad_enabled()
    with torch.no_grad():
        assert torch.allclose(grad_cam(model, views, 0, layer="layer2").scores, together)
        assert not torch.is_grad_enabled()


def test_bfloat16_gives_nearly_the_same_maps():
    model, views = classifier("test_resnet", side=128), images(128)
    for layer in ("", "layer3"):
        finding = told(model, views, layer=layer)
        exact = grad_cam(model, views, finding, layer=layer).scores
        with torch.autocast("cpu", torch.bfloat16):
            fast = grad_cam(model, views, finding, layer=layer).scores
        assert fast.dtype == torch.float32
        assert np.corrcoef(exact.flatten(), fast.flatten())[0, 1] > 0.98


def test_what_has_no_map_is_refused_by_name():
    model = classifier("test_vit", pool="token")
    with pytest.raises(ConfigError, match=r"no layer 'blocks.9'.*did you mean 'blocks\.\d'"):
        grad_cam(model, images(), 0, layer="blocks.9")
    with pytest.raises(ConfigError, match="no gradient of the finding reaches it"):
        grad_cam(model, images(), 0, layer="blocks.5")  # patches after the last attention
    pixels = Classifier(Encoder("pixels/8", toys.SPEC), ("Edema",), exclusive=False)
    nn.init.normal_(pixels.head.weight)
    with pytest.raises(ConfigError, match="single place"):
        grad_cam(pixels, images(32), 0)
    with pytest.raises(ConfigError, match="takes no part"):
        grad_cam(classifier("test_resnet"), images(), 0, layer="fc")


def test_the_logit_counts_also_where_findings_are_exclusive():
    one, other = (classifier("test_resnet") for _ in range(2))
    other.exclusive = True
    assert torch.equal(grad_cam(one, images(), 0).scores, grad_cam(other, images(), 0).scores)
    assert functools.partial(grad_cam, plus_plus=True)(one, images(), 0).scores.shape == (3, 2, 2)


def test_what_speaks_against_is_the_map_of_the_negated_logit():
    model, views = classifier("test_resnet", side=128), images(128)
    finding = told(model, views)
    both = grad_cam(model, views, finding).scores - grad_cam(model, views, finding, against=True).scores
    with torch.no_grad():
        signed = torch.einsum("d,bdhw->bhw", model.head.weight[finding], model.encoder.last_map(views))
    assert torch.allclose(both, signed / signed[0].numel(), atol=1e-5)
