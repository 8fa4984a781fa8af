"""A plain ConvNeXt (tiny, small, base or large) by torchvision's names, with or without its classifier.

Liu et al. 2022, https://arxiv.org/abs/2201.03545. It becomes timm's, which is the same network by other
names. Nothing in such a file says how it saw films. The embedding is the mean over places, before the last
norm, as of timm's.
"""

from hilum.errors import WeightsError
from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, renamed

_KNOWN = {(96, 9): "tiny", (96, 27): "small", (128, 27): "base", (192, 27): "large"}
"""By the width of the stem and the blocks of the third stage."""


def _read(file: ForeignFile) -> Plan:
    named = renamed(
        file.tensors,
        (r"^(state_dict|model)\.", ""),
        (r"^module\.", ""),
        (r"^features\.0\.(\d)\.", r"stem.\1."),
        *((rf"^features\.{2 * stage}\.", f"stages.{stage}.downsample.") for stage in (1, 2, 3)),
        *((rf"^features\.{2 * stage + 1}\.(\d+)\.", rf"stages.{stage}.blocks.\1.") for stage in range(4)),
        (r"\.block\.0\.", ".conv_dw."),
        (r"\.block\.2\.", ".norm."),
        (r"\.block\.3\.", ".mlp.fc1."),
        (r"\.block\.5\.", ".mlp.fc2."),
        (r"\.layer_scale$", ".gamma"),
        (r"^classifier\.0\.", "head.norm."),
    )
    kept = {name: t for name, t in named.items() if name.startswith(("stem.", "stages.", "head.norm."))}
    blocks = {name.split(".")[3] for name in kept if name.startswith("stages.2.blocks.")}
    size = _KNOWN.get((kept["stem.0.weight"].shape[0], len(blocks)))
    if size is None:
        raise WeightsError(f"{file.path}: is no ConvNeXt of torchvision: tiny, small, base or large")
    left = counted(file, kept, optimizer="^optim", head=r"(^|\.)classifier\.")
    scaled = {name: t.flatten() if name.endswith(".gamma") else t for name, t in kept.items()}
    return Plan(f"convnext_{size}", None, scaled, left=left)


FAMILY = Family(
    name="torchvision ConvNeXt",
    source="https://github.com/pytorch/vision",
    licence="as its publisher says",
    keys=(
        r"((state_dict|model)\.)?(module\.)?features\.0\.0\.weight$",
        r"((state_dict|model)\.)?(module\.)?features\.1\.0\.layer_scale$",
        r"((state_dict|model)\.)?(module\.)?classifier\.0\.weight$",
    ),
    read=_read,
    generic=True,
)
