"""Which network tensors are, by their names and shapes, and its names for what others name otherwise."""

import math
import re
from collections.abc import Mapping
from functools import cache

import timm
import torch
from torch import Tensor

from hilum.errors import WeightsError
from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import fitting, matches, renamed


def resnet_arch(tensors: Mapping[str, Tensor]) -> str:
    """The ResNet, ResNeXt or wide ResNet whose tensors, by torchvision's names, these are; empty if none."""
    depths = tuple(
        len({name.split(".")[1] for name in tensors if name.startswith(f"layer{stage}.")})
        for stage in range(1, 5)
    )
    known: dict[tuple[tuple[int, ...], tuple[int, ...]], str] = {
        ((2, 2, 2, 2), (64, 64)): "resnet18",
        ((3, 4, 6, 3), (64, 64)): "resnet34",
        ((3, 4, 6, 3), (64, 64, 256)): "resnet50",
        ((3, 4, 23, 3), (64, 64, 256)): "resnet101",
        ((3, 8, 36, 3), (64, 64, 256)): "resnet152",
        ((3, 4, 6, 3), (128, 4, 256)): "resnext50_32x4d",
        ((3, 4, 23, 3), (256, 8, 256)): "resnext101_32x8d",
        ((3, 4, 23, 3), (256, 4, 256)): "resnext101_64x4d",
        ((3, 4, 6, 3), (128, 128, 256)): "wide_resnet50_2",
        ((3, 4, 23, 3), (128, 128, 256)): "wide_resnet101_2",
    }
    second = tensors.get("layer1.0.conv2.weight")
    third = tensors.get("layer1.0.conv3.weight")
    widths = () if second is None else (*second.shape[:2], *(() if third is None else third.shape[:1]))
    return known.get((depths, widths), "")


def resnet(file: ForeignFile, tensors: Mapping[str, Tensor], where: str) -> tuple[str, dict[str, Tensor]]:
    """The ResNet that tensors by torchvision's names are, and they without what else there is (a classifier).

    Args:
        file: where they are from.
        tensors: by their names within the network.
        where: what the file calls the network.

    Raises:
        WeightsError: they are none, or one for images of 32 pixels.
    """
    kept = {n: t for n, t in tensors.items() if n.startswith(("conv1.", "bn1.", "layer"))}
    stem = kept.get("conv1.weight")
    if (stem is not None and stem.shape[2:] == (3, 3)) or any(".shortcut." in name for name in kept):
        raise WeightsError(
            f"{file.path}: its {where} is a ResNet for images of 32 pixels (a stem of 3x3 pixels, without "
            "pooling); expected torchvision's, of 7x7. At a film's size it would need 16 times the memory; "
            "train torchvision's ResNet in its place"
        )
    arch = resnet_arch(kept)
    if not arch:
        raise WeightsError(
            f"{file.path}: its {where} is no ResNet, ResNeXt or wide ResNet of torchvision; if it is a plain "
            "state dict of another network, say of which, as --arch resnet50d"
        )
    return arch, kept


def densenet_arch(tensors: Mapping[str, Tensor]) -> str:
    """The DenseNet whose tensors, by torchvision's names, these are; empty if none."""
    depths = tuple(
        len({name.split(".")[2] for name in tensors if name.startswith(f"features.denseblock{block}.")})
        for block in range(1, 5)
    )
    known: dict[tuple[int, ...], str] = {
        (6, 12, 24, 16): "densenet121",
        (6, 12, 36, 24): "densenet161",
        (6, 12, 32, 32): "densenet169",
        (6, 12, 48, 32): "densenet201",
    }
    return known.get(depths, "")


def densenet_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With torchvision's present names of layers for those before 0.2: `norm1` for `norm.1`."""
    return renamed(tensors, (r"\.(norm|conv)\.(\d)\.", r".\1\2."))


def from_children(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A torchvision ResNet that was taken apart into a Sequential: its children by name, not by number."""
    children = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
    split = {name: name.partition(".") for name in tensors}
    return {f"{children.get(first, first)}.{rest}": tensors[n] for n, (first, _, rest) in split.items()}


@cache
def _timm_tensors(arch: str) -> dict[str, Tensor]:
    """The tensors of a network of timm without a classifier, on one channel: their shapes alone."""
    with torch.device("meta"):
        return dict(timm.create_model(arch, in_chans=1, num_classes=0).state_dict())


def timm_arch(file: ForeignFile, tensors: Mapping[str, Tensor], like: str, sizes: str) -> str:
    """The network of timm that has these tensors, or else the one that has most of them.

    Args:
        file: where they are from.
        tensors: by timm's names, without a classifier.
        like: a pattern of timm's names, as `convnext*`.
        sizes: a regular expression of what is in the name between underscores, so that few are built.

    Raises:
        WeightsError: none is of such a size, or several have these tensors.
    """
    near = [name for name in timm.list_models(like) if re.search(rf"_({sizes})(_|$)", name)]
    found = [name for name in near if matches(tensors, _timm_tensors(name))]
    if not near:
        raise WeightsError(
            f"{file.path}: has names as timm's {like} have, and is none of them; if it is a plain state dict "
            "of another network of timm, say of which with --arch"
        )
    if len(found) > 1:
        raise WeightsError(
            f"{file.path}: has all the tensors of {', '.join(found)}, which differ in what is in no file: "
            f"how they pad, or an epsilon. Say which it is: {' or '.join(f'--arch {one}' for one in found)}"
        )
    return found[0] if found else max(near, key=lambda name: fitting(tensors, _timm_tensors(name)))


def vit_arch(tensors: Mapping[str, Tensor], suffix: str = "") -> str:
    """The plain ViT of timm whose tensors these are, by width and patch; empty if none."""
    patch = tensors.get("patch_embed.proj.weight")
    if patch is None:
        return ""
    size = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge", 1536: "giant"}.get(
        patch.shape[0], ""
    )
    return f"vit_{size}_patch{patch.shape[-1]}{suffix}" if size else ""


def plain_vit(
    file: ForeignFile, tensors: Mapping[str, Tensor], suffix: str = "_224", *, prefix: int = 1
) -> tuple[str, dict[str, str], int]:
    """The ViT of timm whose tensors, by its names, these are; its options; and the side of its images.

    The number of heads is in no tensor: it is what the ViT of this width has in nearly all papers.

    Args:
        file: where they are from.
        tensors: its tensors.
        suffix: what its name in timm ends with.
        prefix: tokens before the patches in the table of positions.

    Raises:
        WeightsError: timm has none of this width and depth, or its places are no square.
    """
    depths = {"tiny": 12, "small": 12, "base": 12, "large": 24, "huge": 32, "giant": 40}
    width, patch = tensors["patch_embed.proj.weight"].shape[0], tensors["patch_embed.proj.weight"].shape[-1]
    blocks = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    arch, options = vit_arch(tensors, suffix), {}
    size = arch.split("_")[1] if arch else ""
    if arch and not timm.is_model(arch):
        usual = 14 if "dinov2" in suffix or size in ("huge", "giant") else 16
        arch, options = f"vit_{size}_patch{usual}{suffix}", {"patch_size": str(patch)}
    if not timm.is_model(arch) or blocks > depths[size]:
        raise WeightsError(f"{file.path}: a ViT of {blocks} blocks, {width} channels wide, is not in timm")
    places, side = tensors["pos_embed"].shape[-2], square_side(tensors["pos_embed"], patch, prefix=prefix)
    if (side // patch) ** 2 != places - prefix:
        raise WeightsError(f"{file.path}: {places - prefix} positions of patches are no square")
    return arch, options, side


def square_side(positions: Tensor, patch: int, *, prefix: int = 1) -> int:
    """The side of the images that a table of positions (1, N, D) or (N, D) is for, pixels."""
    places: int = positions.shape[-2] - prefix
    return math.isqrt(places) * patch


def qkv(tensors: Mapping[str, Tensor], query: str, key: str, value: str, joint: str) -> dict[str, Tensor]:
    """Three matrices of attention as timm's one: `{}` in the names stands for what comes before."""
    out = dict(tensors)
    pattern = re.compile(re.escape(query).replace(r"\{\}", "(.*)") + r"\.(weight|bias)$")
    for name in list(tensors):
        match = pattern.match(name)
        if match:
            parts = [out.pop(f"{one.format(match[1])}.{match[2]}") for one in (query, key, value)]
            out[f"{joint.format(match[1])}.{match[2]}"] = torch.cat(parts)
    return out
