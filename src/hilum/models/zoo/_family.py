"""What a family of checkpoints says of itself, and the steps that families share."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from hilum.images.spec import InputSpec
from hilum.models.foreign import ForeignFile
from hilum.models.pooling import MEAN, Pooling

IMAGENET = {
    "mean": 0.0,
    "std": 1.0,
    "colour_mean": (0.485, 0.456, 0.406),
    "colour_std": (0.229, 0.224, 0.225),
}
"""Settings of an InputSpec: ImageNet's normalisation of three channels."""
CLIP = {
    "mean": 0.0,
    "std": 1.0,
    "colour_mean": (0.48145466, 0.4578275, 0.40821073),
    "colour_std": (0.26862954, 0.26130258, 0.27577711),
}
"""CLIP's."""
COUNTER = "num_batches_tracked"
"""Many published files are older than it; only a cumulative BatchNorm reads it."""
HEADS = ("fc", "classifier", "head", "heads", "head_dist", "last_linear")
"""What libraries call what is after an encoder."""
BUFFERS = (
    r".*\.(relative_position_index|relative_coords_table|attn_mask|position_ids|total_ops|total_params)$"
)
"""Names of what is computed anew, and was kept in older files."""
TWIN = r"(^|[._])(momentum|target|teacher|ema|k)([._]|$)"
"""In the names of what only follows the network that was trained."""


@dataclass(frozen=True)
class Plan:
    """What a file becomes: an encoder, and the tensors of it by their names there."""

    arch: str
    input: InputSpec | None
    """How the weights saw films; None: nobody can tell from the file, and it is as the settings say."""
    tensors: Mapping[str, Tensor]
    """By the names of `Encoder.net`; `projection.weight` where the pooling has a projection."""
    pooling: Pooling = MEAN
    options: Mapping[str, str] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)
    """How many tensors of the file are no part of the encoder, by what they are: heads, teacher, queue."""
    adapted: Sequence[str] = ()
    """What was changed on the way, in words."""


@dataclass(frozen=True)
class Family:
    """Checkpoints of one layout."""

    name: str
    """As people call it."""
    source: str
    """The URL of the paper or of the code."""
    licence: str
    """Terms of the weights, as far as their authors say them."""
    keys: Sequence[str]
    """Regular expressions; a file is of the family if each matches the beginning of some tensor's name."""
    read: Callable[[ForeignFile], Plan]
    """What a file of the family becomes. It raises WeightsError where the file is none after all."""
    without: Sequence[str] = ()
    """Regular expressions that match no name in a file of the family."""
    generic: bool = False
    """Asked only if no other family knows the file."""
    fits: Callable[[ForeignFile], bool] = lambda file: True
    """What else is true of a file of the family, where names alone do not tell: a stem of one channel."""
    namesakes: str = ""
    """What other files have tensors of the same names, and how to say that a file is one of those."""

    def share(self, file: ForeignFile) -> float:
        """How many of its keys a file has; 1 is all, none that it must not have, and it fits."""
        found = sum(any(re.match(key, name) for name in file.tensors) for key in self.keys)
        barred = any(re.match(key, name) for key in self.without for name in file.tensors)
        misfit = found == len(self.keys) and not barred and not self.fits(file)
        return found / (len(self.keys) + barred + misfit)


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, without it."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def prefixes_of(tensors: Mapping[str, Tensor], name: str) -> list[str]:
    """All that is before a name, as `state_dict.model.`: the shortest first, teachers and the like last."""
    found = (n.removesuffix(name) for n in tensors if n == name or n.endswith(f".{name}"))
    return sorted(found, key=lambda prefix: (re.search(TWIN, prefix) is not None, len(prefix)))


def after(tensors: Mapping[str, Tensor], pattern: str) -> dict[str, Tensor]:
    """The tensors whose names begin with what a regular expression matches, without it."""
    return {re.sub(f"^{pattern}", "", n): t for n, t in tensors.items() if re.match(pattern, n)}


def without_module(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same without `module.`, which DataParallel puts before or amid names."""
    return {re.sub(r"(^|\.)module\.", r"\1", name): t for name, t in tensors.items()}


def dropped(tensors: Mapping[str, Tensor], *patterns: str) -> dict[str, Tensor]:
    """The tensors that match none of the regular expressions from their beginning."""
    return {n: t for n, t in tensors.items() if not any(re.match(one, n) for one in patterns)}


def renamed(tensors: Mapping[str, Tensor], *rules: tuple[str, str]) -> dict[str, Tensor]:
    """With each regular expression replaced in all names, one rule after the other."""
    out = {}
    for name, tensor in tensors.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        out[name] = tensor
    return out


def counted(file: ForeignFile, used: Mapping[str, Tensor], **parts: str) -> dict[str, int]:
    """How many tensors of the file are not used, by the first regular expression found in a name."""
    kept = {id(tensor) for tensor in used.values()}
    counts: dict[str, int] = {}
    for name, tensor in file.tensors.items():
        if id(tensor) not in kept:
            what = next((part for part, pattern in parts.items() if re.search(pattern, name)), "others")
            counts[what.replace("_", " ")] = counts.get(what.replace("_", " "), 0) + 1
    return counts


def matches(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are all that a network has, each of its shape, and no more of its layers."""
    return all(n in given and alike(given[n], t) for n, t in own.items() if not n.endswith(COUNTER)) and not (
        surplus(given, own)
    )


def fitting(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> int:
    """How many tensors of a network there are, each of its shape."""
    return sum(name in given and alike(given[name], tensor) for name, tensor in own.items())


def alike(given: Tensor, own: Tensor) -> bool:
    """Whether one can stand for the other: of equal shape, or a stem of three channels for one."""
    stems = given.ndim == own.ndim == 4 and (given.shape[1], own.shape[1]) == (3, 1)
    return given.shape == own.shape or stems


def surplus(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Names within the parts of a network that it has not: those of a deeper network, or of another.

    A ResNet-34 has all tensors of a ResNet-18 and more blocks; an SE-ResNet all of a ResNet and more in each.
    """
    parts = {name.split(".")[0] for name in own} - {*HEADS}
    more = (name for name in given if name not in own and name.split(".")[0] in parts)
    return sorted(name for name in more if not re.match(BUFFERS, name))


def floats(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Half precision as single precision."""
    return {n: t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for n, t in tensors.items()}


def in_colour(
    side: int, fit: Literal["crop", "squash", "pad"] = "crop", *, crop: float = 1.0, clip: bool = False
) -> InputSpec:
    """How films are seen in three equal channels, each normalised by ImageNet's statistics, or by CLIP's."""
    told = CLIP if clip else IMAGENET
    return InputSpec(side, fit, crop=crop, **told)  # type: ignore[arg-type]
