"""Networks by name, on one grey channel: timm's, torchvision's, a ViT with a conv stem, or bare pixels."""

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import timm
import torch
import torchvision
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.nn import functional

from hilum.errors import ConfigError, DependencyError
from hilum.find import did_you_mean
from hilum.images.spec import InputSpec
from hilum.models.conv_stem import PRESETS, conv_stem_vit

TORCHVISION = "torchvision/"
PIXELS = "pixels/"
LEAKY = "densenet121_leaky"
"""DenseNet-121 with LeakyReLU(0.1) for every ReLU, as S2MTS2 has it."""
TO_LAYER3 = "_to_layer3"
"""After the name of a timm ResNet: without its last stage, as MedKLIP has it."""
VITS = tuple(f"timm.models.{name}" for name in ("vision_transformer", "vision_transformer_hybrid", "deit"))
"""Where timm keeps the ViTs whose position table can be resampled to any size of image."""

_OURS = (
    "in_chans",
    "num_classes",
    "img_size",
    "dynamic_img_size",
    "features_only",
    "patch_drop_rate",
    "checkpoint_path",
    "scriptable",
    "exportable",
    "cache_dir",
    "use_naflex",
    "device",
    "dtype",
    "progress",
    "weights",
)
"""Arguments that are decided here, or that would make something else than an encoder."""


def build(arch: str, spec: InputSpec, *, pretrained: bool, options: Mapping[str, str]) -> nn.Module:
    """A network with `forward_features`.

    Args:
        arch: its name.
        spec: its side fixes the position table of a ViT.
        pretrained: with the library's own weights.
        options: further arguments of its constructor, as text.

    Raises:
        ConfigError: no such architecture or option, or images that do not divide into patches.
        DependencyError: the weights could not be downloaded.
    """
    values = {name: _parsed(text) for name, text in options.items()}
    for name in values:
        if name in _OURS or name.startswith("pretrained"):
            raise ConfigError(f"arch option {name!r} is not free: the encoder decides it")
    if arch.startswith(PIXELS):
        return _told(arch, values, lambda **rest: _Pixels(arch.removeprefix(PIXELS), **rest))
    if arch.startswith(TORCHVISION):
        name = arch.removeprefix(TORCHVISION)
        return _told(arch, values, lambda **rest: _torchvision(name, pretrained=pretrained, **rest))
    if arch == LEAKY:
        net = _leaky(
            _told(arch, values, lambda **rest: _timm("densenet121", spec, pretrained=pretrained, **rest))
        )
    elif arch.endswith(TO_LAYER3):
        whole = arch.removesuffix(TO_LAYER3)
        net = _ToLayer3(_told(arch, values, lambda **rest: _timm(whole, spec, pretrained=pretrained, **rest)))
    elif arch in PRESETS:
        if pretrained:
            raise ConfigError(f"arch {arch}: nobody has published weights of it; start from random")
        net = _told(arch, values, lambda **rest: conv_stem_vit(arch, spec.side, **rest))
    else:
        net = _told(arch, values, lambda **rest: _timm(arch, spec, pretrained=pretrained, **rest))
    _check_side(arch, net, spec.side)
    if spec.colour_mean or spec.upsample:
        _see_colour(net, spec)
    return net


class ColourStem(nn.Conv2d):
    """The first convolution of a network that was trained on colour, for one grey channel.

    Exact where three means differ, as a sum over channels would not be at the border that it pads.
    """

    colour_mean: Tensor
    colour_std: Tensor

    def __init__(self, stem: nn.Conv2d, spec: InputSpec) -> None:
        """The same convolution on as many channels as there are means; weights of its own."""
        channels = max(1, len(spec.colour_mean))
        super().__init__(
            channels,
            stem.out_channels,
            stem.kernel_size,  # type: ignore[arg-type]
            stem.stride,  # type: ignore[arg-type]
            stem.padding,  # type: ignore[arg-type]
            stem.dilation,  # type: ignore[arg-type]
            bias=stem.bias is not None,
        )
        mean, std = (
            torch.tensor(x).view(1, -1, 1, 1) for x in (spec.colour_mean or (0.0,), spec.colour_std or (1.0,))
        )
        self.register_buffer("colour_mean", mean, persistent=False)
        self.register_buffer("colour_std", std, persistent=False)
        self.upsample = spec.upsample
        self.pads_itself = isinstance(stem, Conv2dSame)

    def forward(self, images: Tensor) -> Tensor:
        """Maps of one grey channel."""
        if self.upsample:
            images = functional.interpolate(
                images, (self.upsample, self.upsample), mode="bilinear", align_corners=True
            )
        images = (images - self.colour_mean) / self.colour_std
        if self.pads_itself:  # by the size of the image, as TensorFlow does
            images = pad_same(images, [*self.kernel_size], [*self.stride], [*self.dilation])
        return super().forward(images)


def _see_colour(net: nn.Module, spec: InputSpec) -> None:
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d):
            parent, _, child = name.rpartition(".")
            setattr(net.get_submodule(parent), child, ColourStem(layer, spec))
            return
    raise ConfigError("an encoder without a convolution has no stem that could take colour")


def shape_of(net: nn.Module, side: int = 128) -> tuple[int, tuple[int, ...]]:
    """Channels of the last map, and pixels of the image per cell of each map."""
    if hasattr(net, "feature_info"):
        info: list[dict[str, int]] = net.feature_info  # type: ignore[assignment]
        return net.num_features, tuple(stage["reduction"] for stage in info)  # type: ignore[return-value]
    with torch.no_grad():
        out: Tensor = net.eval().forward_features(torch.zeros(1, 1, side, side))  # type: ignore[operator]
    net.train()
    return out.shape[1], (round(side / out.shape[2]),)


def _told(arch: str, values: dict[str, Any], make: Callable[..., nn.Module]) -> nn.Module:
    if not values:
        return make()
    try:
        return make(**values)
    except (TypeError, ValueError, AssertionError, AttributeError, KeyError) as error:
        _, unknown, name = str(error).partition("unexpected keyword argument ")
        given = " ".join(f"{name}={value}" for name, value in values.items())
        found = f"it has no option {name}" if unknown else f"it refuses {given}: {error}"
        raise ConfigError(f"arch {arch}: {found}; options are arguments of its constructor") from None


def _parsed(text: str) -> bool | int | float | str:
    """A boolean or a finite number where a text is one.

    >>> [_parsed(text) for text in ("true", "False", "3", "1e-3", "batch", "nan")]
    [True, False, 3, 0.001, 'batch', 'nan']
    """
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            number: int | float = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else text
    return text


def _check_side(arch: str, net: nn.Module, side: int) -> None:
    patch = getattr(getattr(net, "patch_embed", None), "patch_size", None)
    if not isinstance(net, timm.models.VisionTransformer) or not isinstance(patch, tuple):
        return
    step: int = patch[0]
    if side % step:
        fitting = " or ".join(str(fit) for fit in (side // step * step, (side // step + 1) * step) if fit)
        raise ConfigError(f"image_size is {side}; {arch} has patches of {step} pixels: try {fitting}")


def _timm(arch: str, spec: InputSpec, *, pretrained: bool, **options: Any) -> nn.Module:
    if not timm.is_model(arch):
        near = did_you_mean(arch, [*PRESETS, *timm.list_models()])
        raise ConfigError(
            f"arch {arch!r} is no timm model{near} (timm.list_models() names them all; ours are "
            f"{', '.join(PRESETS)})"
        )
    config = timm.get_pretrained_cfg(arch)
    size: dict[str, Any] = {"img_size": spec.side} if config is not None and config.fixed_input_size else {}
    if timm.models.model_entrypoint(arch).__module__ in VITS:
        size["dynamic_img_size"] = True
    try:
        net: nn.Module = timm.create_model(
            arch, in_chans=1, num_classes=0, pretrained=pretrained, **size, **options
        )
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise DependencyError(
            f"weights of {arch}: {str(error).splitlines()[0]}; they come from a hub and need a network. "
            "Without one, give --init a file, a run, or random"
        ) from None
    return net


def _torchvision(name: str, *, pretrained: bool, **options: Any) -> nn.Module:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise ConfigError(f"arch {TORCHVISION + name!r} is no torchvision model{did_you_mean(name, known)}")
    model = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None, **options)
    if not isinstance(getattr(model, "features", None), nn.Sequential):
        raise ConfigError(f"arch {TORCHVISION + name!r} has no part called features; use timm's {name}")
    return _Features(model.features)


def _leaky(net: nn.Module) -> nn.Module:
    for layer in list(net.modules()):
        for name, child in layer.named_children():
            if isinstance(child, nn.ReLU):
                setattr(layer, name, nn.LeakyReLU(0.1, inplace=True))
    return net


class _ToLayer3(nn.Sequential):
    """A ResNet of timm without its last stage, its keys as timm's."""

    def __init__(self, net: nn.Module) -> None:
        if not isinstance(net, timm.models.ResNet):
            raise ConfigError(f"{TO_LAYER3} follows the name of a ResNet of timm, as in resnet50{TO_LAYER3}")
        stages = ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3")
        super().__init__(OrderedDict((name, net.get_submodule(name)) for name in stages))

    def forward_features(self, images: Tensor) -> Tensor:
        maps: Tensor = self(images)
        return maps


class _Pixels(nn.Module):
    """No encoder at all: pixels in reading order."""

    def __init__(self, side: str) -> None:
        super().__init__()
        if not side.isdigit() or int(side) < 1:
            raise ConfigError(f"arch {PIXELS + side!r}: expected a number of pixels, as in pixels/32")
        self.shrink = nn.AdaptiveAvgPool2d(int(side))

    def forward_features(self, images: Tensor) -> Tensor:
        small: Tensor = self.shrink(images.float())
        return small.flatten(1)[:, :, None, None]


class _Features(nn.Module):
    """The `features` of a torchvision model, its keys as torchvision's, its stem summed."""

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        for name, layer in features.named_modules():
            if isinstance(layer, nn.Conv2d):
                grey = copy.deepcopy(layer)
                grey.in_channels = 1
                grey.weight = nn.Parameter(layer.weight.detach().sum(1, keepdim=True))
                parent, _, child = name.rpartition(".")
                setattr(features.get_submodule(parent), child, grey)
                return

    def forward_features(self, images: Tensor) -> Tensor:
        maps: Tensor = self.features(images)
        return maps
