"""Ark and Ark+: a Swin trained by turns with the labels of several data sets of films.

Ma et al. 2025, https://doi.org/10.1038/s41586-025-09079-8. Files: {epoch, lossMIN, state_dict, teacher,
optimizer, scheduler} with (module.)* by timm 0.5's names, omni_heads and a projector. The teacher is taken,
as in their README. The embedding is the mean over places of the last norm, 1024 or 1536 numbers; the
projector to 1376, which has a bias, is left out. Films: squeezed, normalised as ImageNet, as their zero-shot
code does; the side is told by the masks of attention, and is 224 (window 7) or 768 (window 12) without them.
timm 0.5 has a stage's downsampling at the end of the one before. Ark's ConvNeXt is not read.
"""

import math
import re
from collections.abc import Mapping

from torch import Tensor

from hilum.errors import WeightsError
from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, dropped, in_colour, under, without_module

TABLE = "layers.0.blocks.0.attn.relative_position_bias_table"
BUFFERS = (r".*\.relative_position_index$", r".*\.attn_mask$")


def _read(file: ForeignFile) -> Plan:
    tensors = without_module(file.tensors)
    teacher = under(tensors, "teacher.") or under(tensors, "state_dict.")
    kept = dropped(teacher, *BUFFERS, r"omni_heads\.", r"projector\.", r"head\.")
    left = counted(
        file,
        kept,
        optimizer=r"^(optimizer|scheduler)\.",
        student="^state_dict",
        buffers="(relative_position_index|attn_mask)$",
        heads=r"(omni_heads|\.head)\.",
        projector=r"projector\.",
    )
    arch, window = swin(file, kept)
    mask = teacher.get("layers.0.blocks.1.attn_mask")
    side = 4 * window * math.isqrt(mask.shape[0]) if mask is not None else {7: 224}.get(window, 768)
    return Plan(arch, in_colour(side, "squash"), by_new_names(kept), left=left)


def swin(file: ForeignFile, tensors: Mapping[str, Tensor]) -> tuple[str, int]:
    """The Swin of timm whose tensors these are, and the places along a window's side.

    Raises:
        WeightsError: timm has none of this width, depth and window.
    """
    width = tensors["patch_embed.proj.weight"].shape[0]
    depths = [
        len({m[1] for m in (re.match(rf"layers\.{stage}\.blocks\.(\d+)\.", n) for n in tensors) if m})
        for stage in range(4)
    ]
    window = (math.isqrt(tensors[TABLE].shape[0]) + 1) // 2
    size = {(96, 6): "tiny", (96, 18): "small", (128, 18): "base", (192, 18): "large"}.get(
        (width, depths[2]), ""
    )
    known = {7: ("tiny", "small", "base", "large"), 12: ("base", "large")}
    if size not in known.get(window, ()) or depths[:2] != [2, 2] or depths[3] != 2:
        raise WeightsError(
            f"{file.path}: timm has no Swin {width} wide of {depths} blocks and window {window}"
        )
    return f"swin_{size}_patch4_window{window}_{ {7: 224, 12: 384}[window] }", window


def by_new_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With the downsampling at the beginning of a stage, where timm has had it since 0.9."""
    if not any(name.startswith("layers.0.downsample.") for name in tensors):
        return dict(tensors)
    return {
        re.sub(r"^layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", name): tensor
        for name, tensor in tensors.items()
    }


FAMILY = Family(
    name="Ark, Ark+",
    source="https://github.com/jlianglab/Ark",
    licence="Arizona State University's, for non-commercial research only",
    keys=(
        r"(state_dict|teacher)\.(module\.)?omni_heads\.0\.weight$",
        rf"(state_dict|teacher)\.(module\.)?{re.escape(TABLE)}$",
    ),
    read=_read,
)
