import pytest
import timm
import torch

from hilum.errors import ConfigError
from hilum.images.spec import InputSpec
from hilum.models.encoder import Encoder
from hilum.models.weights import load, read_header, to_bytes
from tests import toys

PYRAMID = (2, 4, 8, 16, 32)
BASIC, BOTTLENECK = (64, 64, 128, 256, 512), (64, 256, 512, 1024, 2048)
SHAPES = {
    "resnet18": (PYRAMID, BASIC),
    "resnet34": (PYRAMID, BASIC),
    "resnet50": (PYRAMID, BOTTLENECK),
    "resnet101": (PYRAMID, BOTTLENECK),
    "resnet152": (PYRAMID, BOTTLENECK),
    "densenet121": (PYRAMID, (64, 256, 512, 1024, 1024)),
    "seresnext50_32x4d": (PYRAMID, BOTTLENECK),
    "seresnext101_32x4d": (PYRAMID, BOTTLENECK),
    "efficientnet_b0": (PYRAMID, (16, 24, 40, 112, 1280)),
    "efficientnet_b1": (PYRAMID, (16, 24, 40, 112, 1280)),
    "efficientnet_b2": (PYRAMID, (16, 24, 48, 120, 1408)),
    "efficientnet_b3": (PYRAMID, (24, 32, 48, 136, 1536)),
    "efficientnet_b4": (PYRAMID, (24, 32, 56, 160, 1792)),
    "convnext_tiny": (PYRAMID[1:], (96, 192, 384, 768)),
    "vit_small_patch16_224": ((16,) * 12, (384,) * 12),
    "vit_base_patch16_224": ((16,) * 12, (768,) * 12),
    "convstem_vit_192": ((8,) * 12, (192,) * 12),
    "convstem_vit_384": ((8,) * 12, (384,) * 12),
    "convstem_vit_192_original": ((8,) * 12, (192,) * 12),
    "convstem_vit_384_original": ((8,) * 12, (384,) * 12),
}
"""Strides and channels of the maps, by the papers' tables; the last of an EfficientNet is its head's."""


@pytest.mark.parametrize("arch", SHAPES)
def test_every_backbone_takes_one_grey_channel_and_gives_its_maps(arch):
    strides, channels = SHAPES[arch]
    with torch.device("meta"):
        encoder = Encoder(arch, InputSpec()).eval()
        images = torch.empty(2, 1, 224, 224)
        maps = encoder.feature_maps(images)
        embedding = encoder(images)
    assert encoder.strides == strides
    assert [one.shape for one in maps] == [
        (2, width, 224 // stride, 224 // stride) for width, stride in zip(channels, strides, strict=True)
    ]
    assert embedding.shape == (2, encoder.num_features) == (2, channels[-1])


LARGE = ("resnet101", "resnet152", "seresnext101_32x4d", "vit_base_patch16_224")


@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=pytest.mark.slow if arch in LARGE else ()) for arch in SHAPES]
)
def test_every_backbone_comes_back_from_a_file(arch, tmp_path):
    with torch.device("meta"):
        encoder = Encoder(arch, InputSpec(side=32))
    encoder = encoder.to_empty(device="cpu").eval()  # the constructors' random numbers are slow
    with torch.no_grad():
        for at, tensor in enumerate(encoder.state_dict().values()):
            tensor.fill_(1 + 1e-3 * at)
    (tmp_path / "model.safetensors").write_bytes(to_bytes(encoder))
    again = load(tmp_path)
    assert again.arch == arch
    own = encoder.state_dict()
    assert own.keys() == again.state_dict().keys()
    assert all(torch.equal(tensor, own[name]) for name, tensor in again.state_dict().items())


def test_options_reach_the_constructor_and_come_back_from_a_file(tmp_path):
    options = {"block_args": "x"}
    with pytest.raises(ConfigError, match="test_resnet: it refuses block_args=x"):
        Encoder("test_resnet", toys.SPEC, options=options)
    options = {"drop_path_rate": "0.2", "act_layer": "gelu"}
    encoder = Encoder("test_resnet", toys.SPEC, options=options).eval()
    assert type(encoder.net.act1).__name__ == "GELU"  # timm's own class
    assert encoder.net.layer4[-1].drop_path.drop_prob == pytest.approx(0.2)
    path = tmp_path / "model.safetensors"
    path.write_bytes(to_bytes(encoder))
    assert read_header(path).options == options
    again, images = load(path), torch.randn(2, 1, 32, 32)
    assert torch.equal(again(images), encoder(images))


@pytest.mark.parametrize(
    ("arch", "option", "message"),
    [
        ("test_resnet", "drop_pathrate", "arch test_resnet: it has no option 'drop_pathrate'"),
        ("test_vit", "stem_norm", "arch test_vit: it has no option 'stem_norm'"),
        ("test_vit", "in_chans", "arch option 'in_chans' is not free"),
        ("test_vit", "pretrained_cfg", "arch option 'pretrained_cfg' is not free"),
        ("torchvision/squeezenet1_0", "depth", "squeezenet1_0: it has no option 'depth'"),
        ("pixels/8", "depth", "pixels/8: it has no option 'depth'"),
    ],
)
def test_an_option_that_is_none_is_named(arch, option, message):
    with pytest.raises(ConfigError, match=message):
        Encoder(arch, InputSpec(side=64), options={option: "1"})


def test_images_that_do_not_divide_into_patches_are_refused():
    with pytest.raises(
        ConfigError, match="image_size is 40; test_vit has patches of 16 pixels: try 32 or 48"
    ):
        Encoder("test_vit", InputSpec(side=40))


def test_a_stem_that_pads_by_the_size_of_the_image_does_so_in_colour():
    spec = InputSpec(side=65, mean=0.0, std=1.0, colour_mean=(0.48, 0.45, 0.4), colour_std=(0.27, 0.26, 0.28))
    torch.manual_seed(0)
    theirs = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    encoder = Encoder("tf_efficientnet_lite0", spec).eval()
    encoder.net.load_state_dict(theirs.state_dict())
    film = torch.rand(1, 1, 65, 65)
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (spec.colour_mean, spec.colour_std))
    with torch.no_grad():
        expected = theirs.forward_features((film - mean) / std).mean((2, 3))
        torch.testing.assert_close(encoder(film), expected, rtol=1e-4, atol=1e-5)
