"""I-JEPA: a ViT without class token that predicts the features of masked places.

Assran et al. 2023, https://arxiv.org/abs/2301.08243. Files: {encoder, predictor, target_encoder, opt,
scaler, ...}, each (module.)* by timm's names. The target encoder is taken, as in its evaluations; the
embedding is the mean over patches of the last norm. Films: the side of the table of positions, the middle
7/8, normalised as ImageNet: its pretraining's normalisation; the crop was not verified.
"""

from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, in_colour, under, without_module
from hilum.models.zoo._networks import plain_vit


def _read(file: ForeignFile) -> Plan:
    kept = under(without_module(file.tensors), "target_encoder.")
    arch, options, side = plain_vit(file, kept, prefix=0)
    options |= {"class_token": "false", "global_pool": "avg", "fc_norm": "false"}
    left = counted(file, kept, student=r"^encoder\.", predictor=r"^predictor\.", optimizer=r"^(opt|scaler)\.")
    return Plan(arch, in_colour(side, crop=0.875), kept, options=options, left=left)


FAMILY = Family(
    name="I-JEPA",
    source="https://github.com/facebookresearch/ijepa",
    licence="CC BY-NC 4.0",
    keys=(r"target_encoder\.(module\.)?blocks\.0\.attn\.qkv\.weight$", r"predictor\.(module\.)?mask_token$"),
    without=(r"(.*\.)?cls_token$",),
    read=_read,
)
