"""CheXzero and CXR-RePaiR's CLIP: OpenAI's CLIP ViT-B/32, fine-tuned on MIMIC-CXR's films and reports.

Tiu et al. 2022, https://doi.org/10.1038/s41551-022-00936-9. Files: a flat state dict of CLIP, in half
precision or not, or its TorchScript archive. The embedding is the class token after CLIP's projection, 512
numbers, not normalised; `--pool token` takes the 768 before it.
"""

from hilum.images.spec import InputSpec
from hilum.models.foreign import ForeignFile
from hilum.models.pooling import Pooling
from hilum.models.zoo._family import Family, Plan, counted, floats, renamed, square_side, under


def _read(file: ForeignFile) -> Plan:
    visual = under(file.tensors, "visual.")
    named = renamed(
        visual,
        (r"^conv1\.", "patch_embed.proj."),
        (r"^class_embedding$", "cls_token"),
        (r"^positional_embedding$", "pos_embed"),
        (r"^ln_pre\.", "norm_pre."),
        (r"^ln_post\.", "norm."),
        (r"^transformer\.resblocks\.", "blocks."),
        (r"\.ln_(\d)\.", r".norm\1."),
        (r"\.attn\.in_proj_", ".attn.qkv."),
        (r"\.attn\.out_proj\.", ".attn.proj."),
        (r"\.mlp\.c_fc\.", ".mlp.fc1."),
        (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    )
    left = counted(
        file,
        named,
        text_tower=r"^(transformer|token_embedding|positional|text_|ln_final)",
        scale="logit_scale",
    )
    projection = named.pop("proj")
    patch = named["patch_embed.proj.weight"].shape[-1]
    side = square_side(named["pos_embed"], patch)
    width, length = named["cls_token"].shape[-1], named["pos_embed"].shape
    named["cls_token"] = named["cls_token"].reshape(1, 1, width)
    named["pos_embed"] = named["pos_embed"].reshape(1, *length[-2:])
    named["projection.weight"] = projection.T.contiguous()
    spec = InputSpec(side=side, fit="pad", mean=101.48761 / 255, std=83.43944 / 255)
    return Plan(
        f"vit_base_patch{patch}_clip_quickgelu_224",
        spec,
        floats(named),
        pooling=Pooling("token", project=projection.shape[1]),
        left=left,
        adapted=("the projection is applied to the class token, as its authors' code does",),
    )


FAMILY = Family(
    name="CheXzero, CXR-RePaiR CLIP",
    source="https://github.com/rajpurkarlab/CheXzero",
    licence="MIT (code); weights by the terms of MIMIC-CXR",
    keys=(
        r"visual\.class_embedding",
        r"visual\.transformer\.resblocks\.0\.attn\.in_proj_weight",
        r"visual\.proj$",
    ),
    read=_read,
)
