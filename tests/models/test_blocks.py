import pytest
import timm
import torch
from torch import nn

from hilum.config import TrainConfig
from hilum.errors import ConfigError
from hilum.images.spec import InputSpec
from hilum.methods.supervised import Supervised
from hilum.models.blocks import blocks, distances, freeze_before
from hilum.models.encoder import Encoder
from hilum.run import Run
from hilum.train.loop import fit
from hilum.train.optim import Fitting
from tests import toys

RESNET = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]
VIT = ["patch_embed", *(f"blocks.{i}" for i in range(6)), "norm"]
DENSENET = [
    "features.conv0", "features.norm0", "features.denseblock1", "features.transition1",
    "features.denseblock2", "features.transition2", "features.denseblock3", "features.transition3",
    "features.denseblock4", "features.norm5",
]  # fmt: skip
EFFICIENTNET = ["conv_stem", "bn1", *(f"blocks.{i}" for i in range(5)), "conv_head", "bn2"]
CONVNEXT = ["stem", "stages.0", "stages.1", "stages.2", "stages.3"]


def encoder(arch: str, side: int = 32, **options: str) -> Encoder:
    torch.manual_seed(0)
    return Encoder(arch, InputSpec(side=side), options=options)


def small_densenet() -> Encoder:
    return encoder("densenet121", growth_rate="4")


@pytest.mark.parametrize(
    ("arch", "names"),
    [
        ("test_resnet", RESNET),
        ("densenet121", DENSENET),
        ("test_efficientnet", EFFICIENTNET),
        ("test_convnext", CONVNEXT),
        ("test_vit", VIT),
        ("convstem_vit_192", ["patch_embed", *(f"blocks.{i}" for i in range(12)), "norm"]),
    ],
)
def test_blocks_are_the_stages_in_order(arch, names):
    assert list(blocks(encoder(arch).net)) == names


@pytest.mark.parametrize(
    "arch",
    [
        "test_resnet", "test_vit", "test_convnext", "test_efficientnet", "densenet121", "regnety_002",
        "resnetv2_50", "torchvision/squeezenet1_0", "vgg11", "convstem_vit_192_original", "dpn68",
        "mobilenetv3_small_100", "swin_tiny_patch4_window7_224", "maxvit_rmlp_pico_rw_256", "inception_v3",
    ],
)  # fmt: skip
def test_an_image_passes_the_blocks_in_their_order(arch):
    net = encoder(arch, side=224 if "swin" in arch else 256 if "maxvit" in arch else 128).net.eval()
    passed = []
    for name, block in blocks(net).items():
        block.register_forward_pre_hook(lambda module, inputs, name=name: passed.append(name))
    with torch.no_grad():
        net.forward_features(
            torch.zeros(1, 1, *(2 * [224 if "swin" in arch else 256 if "maxvit" in arch else 128]))
        )
    assert passed == [name for name in blocks(net) if name in passed]
    assert len(passed) >= len(blocks(net)) - 1  # mobilenetv3's last convolution comes after pooling


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: encoder("test_resnet"), "layer3"),
        (lambda: encoder("test_resnet"), "bn1"),
        (small_densenet, "features.denseblock3"),
        (lambda: encoder("test_efficientnet"), "blocks.3"),
        (lambda: encoder("test_convnext"), "stages.2"),
        (lambda: encoder("test_vit", 64), "blocks.4"),
        (lambda: encoder("convstem_vit_192", 32, stem_norm="batch", depth="2"), "blocks.1"),
    ],
    ids=["resnet", "resnet bn1", "densenet", "efficientnet", "convnext", "vit", "convstem"],
)
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_what_comes_before_keeps_weights_and_statistics_to_the_bit_and_the_rest_is_trained(
    make, name, ema, tmp_path
):
    task = Supervised(make(), findings=toys.FINDINGS, exclusive=False, fitting=Fitting(train_from=name))
    net = task.model.encoder.net
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    # The head starts at zero, behind which no gradient passes in the first step.
    config = TrainConfig(steps=4, batch_size=16, precision="float32", ema=ema, threads=1)
    loader = toys.ToyLoader(sides=[task.input.side])
    with Run.open(tmp_path / "run", config, {}) as run:
        fit(task, loader, config, run)
    names = list(blocks(net))
    trained = tuple(f"{block}." for block in names[names.index(name) :])
    used = {key for key, weight in net.named_parameters() if key.startswith(trained)}
    for key, tensor in net.state_dict().items():
        if key.startswith("head."):
            continue
        if not key.startswith(trained):
            assert torch.equal(tensor, before[key]), key
        elif key in used:
            assert not torch.equal(tensor, before[key]), key
    statistics = [key for key in before if key.endswith("running_mean") and key.startswith(trained)]
    assert not any(torch.equal(net.state_dict()[key], before[key]) for key in statistics)


def test_no_gradient_is_computed_for_what_comes_before():
    resnet = encoder("test_resnet")
    still = freeze_before(resnet, "layer4")
    assert {id(part) for part in still} >= {
        id(resnet.net.conv1),
        id(resnet.net.layer3),
        id(resnet.net.maxpool),
    }
    seen = []
    resnet.net.layer4.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].requires_grad))
    resnet(torch.zeros(2, 1, 32, 32)).sum().backward()
    assert seen == [False]
    assert all(weight.grad is None for weight in resnet.net.layer3.parameters())
    assert all(weight.grad is not None for weight in resnet.net.layer4.parameters())


def test_a_vits_positions_and_class_token_count_with_its_patches():
    vit = encoder("test_vit", 64)
    freeze_before(vit, "blocks.0")
    assert not vit.net.pos_embed.requires_grad
    assert not vit.net.cls_token.requires_grad
    whole = encoder("test_vit", 64)
    assert freeze_before(whole, "patch_embed") == []
    assert all(weight.requires_grad for weight in whole.parameters())


def test_a_name_that_is_no_block_is_an_error_with_the_nearest_and_all_names():
    with pytest.raises(
        ConfigError, match=r"test_resnet has no block 'layer_3'; did you mean 'layer3'\? .*conv1, bn1, layer1"
    ):
        freeze_before(encoder("test_resnet"), "layer_3")
    with pytest.raises(ConfigError, match="it has none to train"):
        freeze_before(encoder("pixels/8"), "conv1")


def mae_layer_of(name: str, depth: int) -> int:
    """MAE's util/lr_decay.py, get_layer_id_for_vit."""
    if name in ("cls_token", "pos_embed") or name.startswith("patch_embed"):
        return 0
    if name.startswith("blocks"):
        return int(name.split(".")[1]) + 1
    return depth + 1


@pytest.mark.parametrize("arch", ["test_vit", "vit_tiny_patch16_224"])
def test_a_vits_distances_are_those_of_mae(arch):
    net: nn.Module = timm.create_model(arch, num_classes=0)
    depth = len(net.blocks)
    assert distances(net) == {
        name: depth + 1 - mae_layer_of(name, depth) for name, _ in net.named_parameters()
    }


def test_a_lone_norm_counts_with_the_block_before_it():
    found = distances(encoder("densenet121").net)
    first = {name: found[f"features.{name}.weight"] for name in ("conv0", "norm0", "norm5")}
    assert first == {"conv0": 8, "norm0": 8, "norm5": 0}
    assert found["features.transition1.conv.weight"] == 6
    assert found["features.denseblock4.denselayer1.conv1.weight"] == 1
    resnet = distances(encoder("test_resnet").net)
    assert (resnet["bn1.weight"], resnet["layer1.0.bn1.weight"], resnet["layer4.0.bn1.weight"]) == (5, 4, 1)
