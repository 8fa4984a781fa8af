"""A radiograph in, features out: what pretraining makes and transfer keeps."""

import copy
from collections.abc import Mapping
from typing import Any

import timm
import torch
import torchvision
from jaxtyping import Float
from torch import Tensor, nn

from hilum.errors import ConfigError, DependencyError
from hilum.find import did_you_mean
from hilum.images.spec import InputSpec

TORCHVISION = "torchvision/"
PIXELS = "pixels/"


class Encoder(nn.Module):
    """Any timm backbone on one grey channel.

    Also torchvision's that timm lacks (`torchvision/squeezenet1_0`), and `pixels/32`, which learns nothing:
    the film itself at 32×32 pixels, the floor that every encoder has to beat.

    `forward = pool ∘ last map`, so that Grad-CAM and detectors need nothing but `feature_maps`.
    """

    net: nn.Module
    num_features: int
    """D, the length of an embedding."""
    strides: tuple[int, ...]
    """Input pixels per cell of each feature map."""

    def __init__(self, arch: str, input_spec: InputSpec, *, pretrained: bool = False) -> None:
        """Builds the backbone.

        Args:
            arch: timm's name, or `torchvision/` and torchvision's.
            input_spec: what the encoder sees; its side fixes the position table of a ViT.
            pretrained: with the library's own weights, downloaded; their RGB stem is summed.

        Raises:
            ConfigError: no such architecture.
            DependencyError: the weights could not be downloaded.
        """
        super().__init__()
        self.arch = arch
        self.input = input_spec
        if arch.startswith((TORCHVISION, PIXELS)):
            library, _, name = arch.partition("/")
            self.net = _Pixels(name) if library == "pixels" else _torchvision(name, pretrained=pretrained)
            self.num_features, self.strides = _probe(self.net)
        else:
            self.net = _timm(arch, input_spec, pretrained=pretrained)
            self.num_features = self.net.num_features  # type: ignore[assignment]
            info: list[dict[str, int]] = self.net.feature_info  # type: ignore[assignment]
            self.strides = tuple(stage["reduction"] for stage in info)

    @property
    def has_patches(self) -> bool:
        """Whether it is a ViT: a sequence of patches that pass through equal blocks."""
        return isinstance(self.net, timm.models.VisionTransformer)

    def feature_maps(self, images: Float[Tensor, "B 1 H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """One map per stride, fine to coarse; the last is what `pool` takes."""
        if not hasattr(self.net, "forward_intermediates"):
            return [self.last_map(images)]
        last, maps = self.net.forward_intermediates(images)  # type: ignore[operator]
        return [*maps[:-1], self._spatial(last, images)]

    def last_map(self, images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B D h w"]:
        """The coarsest map alone, without the cost of keeping the others."""
        return self._spatial(self.net.forward_features(images), images)  # type: ignore[operator]

    def pool(self, feature_map: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D"]:
        """The mean over places."""
        return feature_map.mean((2, 3))

    def forward(self, images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B D"]:
        """Embeddings of normalised images."""
        return self.pool(self.last_map(images))

    def _spatial(self, features: Tensor, images: Tensor) -> Tensor:
        if features.ndim == 4:
            # Swin and its like end with the channels last.
            return features if features.shape[1] == self.num_features else features.permute(0, 3, 1, 2)
        height, width = images.shape[2] // self.strides[-1], images.shape[3] // self.strides[-1]
        patches = features[:, features.shape[1] - height * width :]  # class and register tokens come first
        return patches.transpose(1, 2).reshape(len(images), -1, height, width)


def sum_stem(weights: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights for grey images from weights for RGB: the first convolution summed over colours.

    Exact for an image whose three channels are equal and normalised by one mean and one deviation.
    """
    summed = dict(weights)
    for name, target in like.items():
        found = weights.get(name)
        if (
            found is not None
            and found.ndim == 4
            and target.ndim == 4
            and found.shape[1] == 3
            and target.shape[1] == 1
        ):
            summed[name] = found.sum(1, keepdim=True)
    return summed


def _timm(arch: str, spec: InputSpec, *, pretrained: bool) -> nn.Module:
    if not timm.is_model(arch):
        known = timm.list_models()
        raise ConfigError(
            f"arch {arch!r} is no timm model{did_you_mean(arch, known)} (timm.list_models() names them all)"
        )
    config = timm.get_pretrained_cfg(arch)
    size: dict[str, Any] = {"img_size": spec.side} if config is not None and config.fixed_input_size else {}
    try:
        net: nn.Module = timm.create_model(arch, in_chans=1, num_classes=0, pretrained=pretrained, **size)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise DependencyError(
            f"weights of {arch}: {str(error).splitlines()[0]}; they come from a hub and need a network. "
            "Without one, give --init a file, a run, or random"
        ) from None
    return net


def _torchvision(name: str, *, pretrained: bool) -> nn.Module:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise ConfigError(f"arch {TORCHVISION + name!r} is no torchvision model{did_you_mean(name, known)}")
    model = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)
    if not isinstance(getattr(model, "features", None), nn.Sequential):
        raise ConfigError(f"arch {TORCHVISION + name!r} has no part called features; use timm's {name}")
    return _Features(model.features)


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


def _probe(net: nn.Module, side: int = 128) -> tuple[int, tuple[int, ...]]:
    with torch.no_grad():
        out: Tensor = net.eval().forward_features(torch.zeros(1, 1, side, side))  # type: ignore[operator]
    net.train()
    return out.shape[1], (round(side / out.shape[2]),)
