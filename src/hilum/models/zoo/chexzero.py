"""CheXzero and CXR-RePaiR's CLIP: OpenAI's CLIP ViT-B/32, fine-tuned on MIMIC-CXR's films and reports.

Tiu et al. 2022, https://doi.org/10.1038/s41551-022-00936-9. Files: a flat state dict of CLIP, in half
precision or not, or its TorchScript archive. The embedding is the class token after CLIP's projection, 512
numbers, not normalised; `--pool token` takes the 768 before it. Their variant from random weights, a
ViT-B/16 of 320 pixels with 768 numbers, is told by the shapes; so are CLIP's others. OpenCLIP's own networks
are laid out alike but have no QuickGELU: for a flat file of those, `--family open_clip`.
"""

from collections.abc import Mapping

import timm
from torch import Tensor

from hilum.errors import WeightsError
from hilum.images.spec import InputSpec
from hilum.models.foreign import ForeignFile
from hilum.models.pooling import Pooling
from hilum.models.zoo._family import Family, Plan, counted, floats, renamed, under
from hilum.models.zoo._networks import plain_vit


def _read(file: ForeignFile) -> Plan:
    arch, named, side = clip_tower(file, under(file.tensors, "visual."), "_clip_quickgelu_224")
    spec = InputSpec(side=side, fit="pad", mean=101.48761 / 255, std=83.43944 / 255)
    return clip_plan(file, arch, spec, under(file.tensors, "visual."), named)


def clip_tower(
    file: ForeignFile, visual: Mapping[str, Tensor], suffix: str
) -> tuple[str, dict[str, Tensor], int]:
    """CLIP's tower of images in timm: its name, its tensors, and the side of its images.

    Raises:
        WeightsError: timm has no CLIP of that width and patch.
    """
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
    arch, options, side = plain_vit(file, named, suffix)
    if options or not timm.is_model(arch):
        width, _, _, patch = named["patch_embed.proj.weight"].shape
        raise WeightsError(f"{file.path}: timm has no CLIP {width} wide with patches of {patch} pixels")
    projection = named.pop("proj")
    named["cls_token"] = named["cls_token"].reshape(1, 1, -1)
    named["pos_embed"] = named["pos_embed"].reshape(1, *named["pos_embed"].shape[-2:])
    named["projection.weight"] = projection.T.contiguous()
    return arch, floats(named), side


def clip_plan(
    file: ForeignFile, arch: str, spec: InputSpec, visual: Mapping[str, Tensor], named: Mapping[str, Tensor]
) -> Plan:
    """What becomes of a file with CLIP's tower of images, by its tensors there and by their new names."""
    left = counted(
        file,
        visual,
        optimizer=r"^optimizer\.",
        text_tower=r"(^|\.)(transformer|token_embedding|positional|text_|ln_final|attn_mask)",
        scale="logit_scale",
    )
    return Plan(
        arch,
        spec,
        named,
        pooling=Pooling("token", project=named["projection.weight"].shape[0]),
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
