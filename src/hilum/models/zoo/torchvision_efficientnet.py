"""A plain EfficientNet (B0 to B4) by torchvision's names, with or without its classifier.

Tan & Le 2019, https://arxiv.org/abs/1905.11946. It becomes timm's, which is the same network by other names;
B5 to B7 have another epsilon there and are refused. Nothing in such a file says how it saw films. The
embedding is the mean over places of the last map.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from hilum.errors import WeightsError
from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, renamed

_KNOWN = {(3, 1280): "b0", (4, 1280): "b1", (4, 1408): "b2", (5, 1536): "b3", (6, 1792): "b4"}
"""By the blocks of the fourth stage and the width of the last map."""
_FIRST = (("conv_dw", "bn1"), ("se",), ("conv_pw", "bn2"))
_LATER = (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("se",), ("conv_pwl", "bn3"))
"""What is in a block, in order: of the first stage, which does not expand, and of the others."""


def _read(file: ForeignFile) -> Plan:
    plain = renamed(file.tensors, (r"^(state_dict|model)\.", ""), (r"^module\.", ""))
    kept = {_name(name): tensor for name, tensor in plain.items() if name.startswith("features.")}
    left = counted(file, kept, optimizer="^optim", head=r"(^|\.)classifier\.")
    return Plan(f"efficientnet_{_arch(file, kept)}", None, kept, left=left)


def _arch(file: ForeignFile, tensors: Mapping[str, Tensor]) -> str:
    blocks = {name.split(".")[2] for name in tensors if name.startswith("blocks.3.")}
    size = _KNOWN.get((len(blocks), tensors["conv_head.weight"].shape[0]))
    if size is None:
        raise WeightsError(f"{file.path}: is no EfficientNet of torchvision from B0 to B4")
    return size


def _name(name: str) -> str:
    ends = re.match(r"features\.(\d+)\.(\d)\.(\w+)$", name)
    if ends:
        stem = ends[1] == "0"
        part = ("conv_stem" if stem else "conv_head") if ends[2] == "0" else ("bn1" if stem else "bn2")
        return f"{part}.{ends[3]}"
    inside = re.match(r"features\.(\d+)\.(\d+)\.block\.(\d)\.(\w+)\.(\w+)$", name)
    if not inside:
        return name
    stage, block, place, part, leaf = int(inside[1]) - 1, inside[2], int(inside[3]), inside[4], inside[5]
    what = (_FIRST if stage == 0 else _LATER)[place]
    if what == ("se",):
        return f"blocks.{stage}.{block}.se.{'conv_reduce' if part == 'fc1' else 'conv_expand'}.{leaf}"
    return f"blocks.{stage}.{block}.{what[int(part)]}.{leaf}"


FAMILY = Family(
    name="torchvision EfficientNet",
    source="https://github.com/pytorch/vision",
    licence="as its publisher says",
    keys=(
        r"((state_dict|model)\.)?(module\.)?features\.0\.0\.weight$",
        r"((state_dict|model)\.)?(module\.)?features\.1\.0\.block\.1\.fc1\.weight$",
        r"((state_dict|model)\.)?(module\.)?features\.8\.0\.weight$",
    ),
    read=_read,
    generic=True,
)
