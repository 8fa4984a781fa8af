"""DINO and iBOT: a ViT trained as a student of its own moving average.

Caron et al. 2021, https://arxiv.org/abs/2104.14294; Zhou et al. 2022, https://arxiv.org/abs/2111.07832.
Files: {student, teacher, optimizer, epoch, args, ...}, both with (module.)backbone.* by timm's names and a
head. The teacher is taken, as in their evaluations; the embedding is its class token after the last norm.
Films: the middle 224 of 256 pixels, normalised as ImageNet. The published weights of the backbone alone are
a plain ViT by timm's names, which `--family dino` reads as DINO's. ResNets and XCiTs are refused.
"""

from hilum.models.foreign import ForeignFile
from hilum.models.pooling import Pooling
from hilum.models.zoo._family import Family, Plan, counted, dropped, in_colour, under, without_module
from hilum.models.zoo._networks import plain_vit


def _read(file: ForeignFile) -> Plan:
    tensors = without_module(file.tensors)
    for prefix in ("teacher.backbone.", "state_dict.backbone.", "backbone.", "state_dict."):
        if any(name.startswith(prefix) for name in tensors):
            tensors = under(tensors, prefix)
            break
    kept = dropped(tensors, r"masked_embed$", r"head\.")
    arch, options, side = plain_vit(file, kept)
    left = counted(
        file,
        kept,
        student=r"^student\.",
        optimizer=r"^(optimizer|fp16_scaler)",
        head=r"(^|\.)head\.",
        loss=r"^(dino|ibot)_loss",
    )
    return Plan(arch, in_colour(side, crop=0.875), kept, Pooling("token"), options, left)


FAMILY = Family(
    name="DINO, iBOT",
    source="https://github.com/facebookresearch/dino",
    licence="Apache 2.0",
    keys=(
        r"teacher\.(module\.)?backbone\.blocks\.0\.attn\.qkv\.weight$",
        r"teacher\.(module\.)?backbone\.cls_token$",
    ),
    without=(r"(.*\.)?blocks\.0\.(0\.)?ls1\.gamma$",),
    read=_read,
)
