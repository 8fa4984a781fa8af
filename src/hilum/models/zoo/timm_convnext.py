"""A plain ConvNeXt or ConvNeXt V2 by timm's names, with or without its classifier.

Liu et al. 2022, https://arxiv.org/abs/2201.03545; Woo et al. 2023, https://arxiv.org/abs/2301.00808. It is
the one of timm that has exactly these tensors. Nothing in such a file says how it saw films. The embedding is
the mean over places, before the last norm.
"""

from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, dropped, prefixes_of, under, without_module
from hilum.models.zoo._networks import timm_arch

_STEM = "stem.0.weight"
_SIZES = {
    (32, 4): "zepto", (40, 6): "atto", (48, 6): "femto", (64, 6): "pico", (80, 8): "nano", (96, 9): "tiny",
    (96, 27): "small", (128, 27): "base", (192, 27): "large", (256, 27): "xlarge", (352, 27): "huge",
    (384, 30): "xxlarge",
}  # fmt: skip
"""By the width of the first stage and the blocks of the third."""


def _read(file: ForeignFile) -> Plan:
    tensors = without_module(file.tensors)
    net = dropped(under(tensors, prefixes_of(tensors, _STEM)[0]), r"head\.fc\.")
    kept = {name: t for name, t in net.items() if name.startswith(("stem.", "stages.", "norm_pre.", "head."))}
    width = net["stages.0.blocks.0.conv_dw.weight"].shape[0]
    blocks = len({name.split(".")[3] for name in kept if name.startswith("stages.2.blocks.")})
    arch = timm_arch(file, kept, "convnext*", _SIZES.get((width, blocks), "none"))
    return Plan(arch, None, kept, left=counted(file, kept, optimizer="^optim", head=r"(^|\.)head\."))


FAMILY = Family(
    name="timm ConvNeXt",
    source="https://github.com/huggingface/pytorch-image-models",
    licence="as its publisher says",
    keys=(
        r"(.*\.)?stem\.0\.weight$",
        r"(.*\.)?stages\.0\.blocks\.0\.conv_dw\.weight$",
        r"(.*\.)?stages\.3\.blocks\.1\.mlp\.fc2\.weight$",
    ),
    read=_read,
    generic=True,
)
