"""EVA-X: EVA-02 of patch 16, tiny, small and base, trained on 520,000 chest radiographs by masking.

Yao et al. 2025, https://arxiv.org/abs/2405.05237. Files: EVA-02's names, flat or under module., model. or
model_ema.: blocks.N.attn.q_bias, mlp.w12 or mlp.w1 and w2, mlp.w3, norm, mask_token and lm_head; fine-tuned,
fc_norm and head. The embedding is the mean over patches after fc_norm, which is the pretraining's last norm,
as in their eva_x.py. Films: the middle 224 of 256 pixels, mean 0.49185, deviation 0.28509 (their
fine-tuning). EVA-02 of patch 14, which saw photographs, is refused. Which outer key the published files have
was not seen.
"""

from hilum.errors import WeightsError
from hilum.images.spec import InputSpec
from hilum.models.foreign import ForeignFile
from hilum.models.pooling import Pooling
from hilum.models.zoo._family import Family, Plan, counted, dropped, renamed, under
from hilum.models.zoo._networks import square_side


def _read(file: ForeignFile) -> Plan:
    tensors = dict(file.tensors)
    for prefix in ("model_ema.", "model.", "module.", "state_dict."):
        tensors = under(tensors, prefix) or tensors
    kept = dropped(tensors, r"(.*\.)?rope\.", r"mask_token$", r"lm_head\.", r"head\.", "optimizer")
    width, _, _, patch = kept["patch_embed.proj.weight"].shape
    blocks = len({name.split(".")[1] for name in kept if name.startswith("blocks.")})
    size = {192: "tiny", 384: "small", 768: "base"}.get(width, "")
    if not size or patch != 16 or blocks > 12:
        raise WeightsError(
            f"{file.path}: an EVA-02 of {blocks} blocks, {width} channels and patches of {patch}; "
            "EVA-X has 12, 192, 384 or 768, and 16"
        )
    left = counted(
        file, kept, optimizer=r"^optimizer", tables_of_angles=r"rope\.", head=r"(^|\.)(lm_)?head\.",
        mask_token=r"mask_token$",
    )  # fmt: skip
    named = renamed(
        kept,
        (r"\.mlp\.ffn_ln\.", ".mlp.norm."),
        (r"\.mlp\.w12\.", ".mlp.fc1."),
        (r"\.mlp\.w1\.", ".mlp.fc1_g."),
        (r"\.mlp\.w2\.", ".mlp.fc1_x."),
        (r"\.mlp\.w3\.", ".mlp.fc2."),
    )
    if "blocks.0.attn.q_proj.weight" in named:
        named = renamed(named, (r"\.attn\.([qv])_bias$", r".attn.\1_proj.bias"))
    adapted = []
    if "fc_norm.weight" not in named:
        named = renamed(named, (r"^norm\.", "fc_norm."))
        adapted = ["the last norm is applied to the mean over patches, as their code does"]
    spec = InputSpec(square_side(named["pos_embed"], 16), crop=0.875, mean=0.49185243, std=0.28509309)
    options = {"patch_size": "16", "ref_feat_shape": "14"}
    return Plan(f"eva02_{size}_patch14_224", spec, named, Pooling(norm=True), options, left, adapted)


FAMILY = Family(
    name="EVA-X",
    source="https://github.com/hustvl/EVA-X",
    licence="as their authors say",
    keys=(
        r"((model_ema|model|module|state_dict)\.)*blocks\.0\.attn\.q_bias$",
        r"((model_ema|model|module|state_dict)\.)*blocks\.0\.mlp\.w(12|1)\.weight$",
    ),
    read=_read,
)
