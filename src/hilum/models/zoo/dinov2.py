"""DINOv2, with registers or without, and what was trained with its code.

Oquab et al. 2024, https://arxiv.org/abs/2304.07193; Darcet et al. 2024, https://arxiv.org/abs/2309.16588.
Files: flat, as published, with mask_token and register_tokens; or {teacher} with backbone.* and heads, as
training leaves them, where blocks may be in chunks (blocks.CHUNK.BLOCK). Shards of a distributed training
cannot be read. The embedding is the class token after the last norm. Films: ImageNet's normalisation; the
published weights have positions for 518 pixels; those of 224 pixels see the middle of 256, as in DINOv2's
evaluations. Nothing in a file says what a derived one was given: then choose the settings. `--family dinov2`
also reads the layout of Hugging Face (see rad_dino) as Meta's own.
"""

from collections.abc import Mapping

from torch import Tensor

from hilum.images.spec import InputSpec
from hilum.models.foreign import ForeignFile
from hilum.models.pooling import Pooling
from hilum.models.zoo._family import Family, Plan, counted, in_colour, renamed, under
from hilum.models.zoo._networks import plain_vit, qkv
from hilum.models.zoo.hf_vit import published


def dinov2_plan(file: ForeignFile, spec: InputSpec | None = None) -> Plan:
    """The encoder of a DINOv2 in any layout; how it sees films, where that is not Meta's way."""
    tensors = published(file.tensors)
    for prefix in (
        "teacher.backbone.",
        "model.teacher.backbone.",
        "backbone.",
        "dinov2.",
        "dinov2_with_registers.",
        "model.",
    ):
        if any(name.startswith(prefix) for name in tensors):
            tensors = under(tensors, prefix)
            break
    used = {n: t for n, t in tensors.items() if n.startswith(_PARTS) and not n.endswith("mask_token")}
    left = counted(
        file,
        used,
        student=r"(^|\.)student\.",
        mask_token=r"(^|\.)mask_token$",
        head=r"(^|\.)(dino_head|ibot_head|head|classifier)\.",
    )
    kept = _timm(used)
    named = "reg_token" in kept
    arch, options, side = plain_vit(
        file, kept, "_reg4_dinov2" if named else "_dinov2", prefix=0 if named else 1
    )
    if named and kept["reg_token"].shape[1] != 4:
        options["reg_tokens"] = str(kept["reg_token"].shape[1])
    own = in_colour(side, crop=0.875 if side == 224 else 1.0)
    adapted = ["the class token's position is added to it, for registers have none"] if named else []
    return Plan(arch, spec or own, kept, Pooling("token"), options, left, adapted)


_PARTS = ("cls_token", "pos_embed", "register_tokens", "patch_embed.", "blocks.", "norm.",
          "embeddings.", "encoder.", "layernorm.")  # fmt: skip


def _timm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    out = renamed(
        tensors,
        (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.", ""),
        (r"^layernorm\.", "norm."),
        (r"^encoder\.layer\.", "blocks."),
        (r"\.attention\.output\.dense\.", ".attn.proj."),
        (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
        (r"\.mlp\.(w12|weights_in)\.", ".mlp.fc1."),
        (r"\.mlp\.(w3|weights_out)\.", ".mlp.fc2."),
        (r"^register_tokens$", "reg_token"),
    )
    of = "{}.attention.attention."
    out = qkv(out, f"{of}query", f"{of}key", f"{of}value", "{}.attn.qkv")
    if "reg_token" in out:
        positions = out["pos_embed"]
        out["cls_token"] = out["cls_token"] + positions[:, :1]
        out["pos_embed"] = positions[:, 1:]
    return out


FAMILY = Family(
    name="DINOv2",
    source="https://github.com/facebookresearch/dinov2",
    licence="Apache 2.0 (Meta's); derived weights as their authors say",
    keys=(
        r"(model\.)?(teacher\.)?(backbone\.)?blocks\.0\.(0\.)?ls1\.gamma$",
        r"(model\.)?(teacher\.)?(backbone\.)?mask_token$",
        r"(model\.)?(teacher\.)?(backbone\.)?patch_embed\.proj\.weight$",
    ),
    read=dinov2_plan,
)
