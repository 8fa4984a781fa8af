"""A plain ViT by timm's names, with or without its classifier: timm's, DeiT's, MAE's, DINO's without heads.

Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929. Width and patch say which, and the number of heads
is as in all papers but MoCo v3's, whose ViT-S has 12 of them: it is told by its `base_encoder` (Chen et al.
2021, https://arxiv.org/abs/2104.02057). The embedding is the class token after the last norm, or the mean of
patches where there is none or where fc_norm says so. Nothing in such a file says how it saw films: that is as
the settings say, and positions are resampled to their image_size. What has more in its blocks than a plain
ViT, a norm before them (CLIP), or two tokens (distilled DeiT), is refused: name its architecture with --arch.
"""

import re

from hilum.errors import WeightsError
from hilum.models.foreign import ForeignFile
from hilum.models.pooling import MEAN, Pooling
from hilum.models.zoo._family import Family, Plan, counted, dropped, under, without_module
from hilum.models.zoo._networks import plain_vit

_FIRST = "blocks.0.attn.qkv.weight"
_PLAIN = re.compile(
    r"(cls_token|pos_embed|reg_token|(patch_embed\.proj|norm|fc_norm)\.(weight|bias)|"
    r"blocks\.\d+\.((norm[12]|attn\.(qkv|proj)|mlp\.fc[12])\.(weight|bias)|ls[12]\.gamma))$"
)


def _read(file: ForeignFile) -> Plan:
    tensors = without_module(file.tensors)
    prefixes = [n.removesuffix(_FIRST) for n in tensors if n == _FIRST or n.endswith(f".{_FIRST}")]
    prefix = min(prefixes, key=len)
    vit = dropped(under(tensors, prefix), r"(head|head_dist|pre_logits)\.", r"mask_token$")
    kept = {name: tensor for name, tensor in vit.items() if _PLAIN.match(name)}
    odd = [
        n for n in vit if n not in kept and n.startswith(("blocks.", "norm", "patch_embed.", "dist_token"))
    ]
    if odd:
        raise WeightsError(
            f"{file.path}: no plain ViT, for it has {odd[0]}; name its architecture with --arch"
        )
    reg, scaled = "reg_token" in kept, "blocks.0.ls1.gamma" in kept
    suffix = "_224" if not scaled else "_reg4_dinov2" if reg else "_dinov2"
    arch, options, _ = plain_vit(file, kept, suffix, prefix=_prefix(kept))
    adapted = []
    if prefix.endswith("base_encoder.") and arch.startswith("vit_small"):
        options |= {"num_heads": "12"}
        adapted = ["12 heads of attention, as MoCo v3's ViT-S has"]
    if "cls_token" not in kept:
        options |= {"class_token": "false", "global_pool": "avg", "fc_norm": "false"}
    if "fc_norm.weight" in kept:
        options |= {"global_pool": "avg", "fc_norm": "true"}
    token = "cls_token" in kept and "fc_norm.weight" not in kept
    pooling = Pooling("token") if token else Pooling(norm=True) if "fc_norm.weight" in kept else MEAN
    left = counted(file, kept, momentum_encoder="momentum_encoder", optimizer="^optim", head=r"(^|\.)head\.")
    return Plan(arch, None, kept, pooling, options, left, adapted)


def _prefix(tensors: object) -> int:
    return 0 if "reg_token" in tensors or "cls_token" not in tensors else 1  # type: ignore[operator]


FAMILY = Family(
    name="timm ViT",
    source="https://github.com/huggingface/pytorch-image-models",
    licence="as its publisher says",
    keys=(
        r"(.*\.)?blocks\.0\.attn\.qkv\.weight$",
        r"(.*\.)?patch_embed\.proj\.weight$",
        r"(.*\.)?blocks\.0\.mlp\.fc1\.weight$",
        r"(.*\.)?pos_embed$",
    ),
    read=_read,
    generic=True,
)
