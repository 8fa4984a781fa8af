"""A plain EfficientNet or EfficientNetV2 by timm's names, with or without its classifier.

Tan & Le 2019, https://arxiv.org/abs/1905.11946; 2021, https://arxiv.org/abs/2104.00298. It is the one of timm
that has exactly these tensors. Google's (`tf_...`) pad otherwise and have another epsilon, which no tensor
tells: where both fit, `--arch` has to say which. Nothing in such a file says how it saw films. The embedding
is the mean over places of the last map.
"""

from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, prefixes_of, under, without_module
from hilum.models.zoo._networks import timm_arch

_STEM = "conv_stem.weight"
_SIZES = {
    (32, 16, 1280): "b0|lite0", (32, 23, 1280): "b1", (32, 23, 1408): "b2", (40, 26, 1536): "b3",
    (48, 26, 1536): "b3", (48, 32, 1792): "b4", (48, 39, 2048): "b5", (56, 45, 2304): "b6",
    (64, 55, 2560): "b7", (72, 61, 2816): "b8", (136, 88, 5504): "l2", (64, 39, 2456): "b5",
    (32, 21, 1280): "lite1|lite2|b0", (32, 24, 1280): "em|lite3", (32, 30, 1280): "lite4",
    (32, 18, 1280): "es", (40, 27, 1536): "el",
    (32, 27, 1280): "b1", (32, 28, 1408): "b2", (40, 32, 1536): "b3", (24, 40, 1280): "s",
    (24, 57, 1280): "m", (32, 79, 1280): "l", (32, 100, 1280): "xl", (24, 39, 1024): "t",
    (24, 40, 1792): "s", (32, 60, 2152): "m", (24, 5, 256): "efficientnet",
}  # fmt: skip
"""By the width of the stem, the number of blocks, and the width of the last map."""


def _read(file: ForeignFile) -> Plan:
    tensors = without_module(file.tensors)
    net = under(tensors, prefixes_of(tensors, _STEM)[0])
    kept = {
        n: t for n, t in net.items() if n.startswith(("conv_stem.", "bn1.", "blocks.", "conv_head.", "bn2."))
    }
    blocks = len({tuple(name.split(".")[1:3]) for name in kept if name.startswith("blocks.")})
    told = kept[_STEM].shape[0], blocks, kept["conv_head.weight"].shape[0]
    arch = timm_arch(file, kept, "*efficientnet*", _SIZES.get(told, "none"))
    return Plan(arch, None, kept, left=counted(file, kept, optimizer="^optim", head=r"(^|\.)classifier\."))


FAMILY = Family(
    name="timm EfficientNet",
    source="https://github.com/huggingface/pytorch-image-models",
    licence="as its publisher says",
    keys=(
        r"(.*\.)?conv_stem\.weight$",
        r"(.*\.)?blocks\.1\.0\.conv_(pw|exp|dw)\.weight$",
        r"(.*\.)?conv_head\.weight$",
        r"(.*\.)?bn2\.(running_mean|weight)$",
    ),
    read=_read,
    generic=True,
)
