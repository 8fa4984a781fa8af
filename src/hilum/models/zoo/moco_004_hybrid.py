"""MoCo v2 on chest films with a ViT whose patches come from three convolutions (python_dl_simclr).

Chen et al. 2020, https://arxiv.org/abs/2003.04297; the stem as in https://arxiv.org/abs/2106.14881. Files:
{patch_embed, pos_encoding, transformer, proj_head, embedding_dim}, or {model_state, ...} with the same and
their momentum twins (`_k`). The transformer is torch's `TransformerEncoder` as it comes, which
`convstem_vit_192_original` and `convstem_vit_384_original` are exactly. The embedding is the class token.
Earlier runs, with a stem of two convolutions and no class token, are refused.
"""

from hilum.errors import WeightsError
from hilum.images.spec import InputSpec
from hilum.models.conv_stem import PRESETS, STRIDE
from hilum.models.foreign import ForeignFile
from hilum.models.pooling import Pooling
from hilum.models.zoo._family import IMAGENET, Family, Plan, counted, renamed, under, without_module
from hilum.models.zoo._networks import square_side

_DEPTH = 12


def _read(file: ForeignFile) -> Plan:
    every = without_module(file.tensors)
    tensors = under(every, "model_state.") or every
    kept = {
        **{f"patch_embed.{n}": t for n, t in under(tensors, "patch_embed.").items()},
        **under(tensors, "pos_encoding."),
        **renamed(
            under(tensors, "transformer.encoder."),
            (r"^layers\.", "blocks."),
            (r"\.self_attn\.in_proj_", ".attn.qkv."),
            (r"\.self_attn\.out_proj\.", ".attn.proj."),
            (r"\.linear(\d)\.", r".mlp.fc\1."),
        ),
    }
    convolutions = sum(name.startswith("patch_embed.proj.") and t.ndim == 4 for name, t in kept.items())
    depth = len({name.split(".")[1] for name in kept if name.startswith("blocks.")})
    width = kept["pos_embed"].shape[-1]
    arch = f"convstem_vit_{width}_original"
    if convolutions != 3 or "cls_token" not in kept or depth != _DEPTH or arch not in PRESETS:
        raise WeightsError(
            f"{file.path}: a ViT of {depth} blocks of width {width} on {convolutions} convolutions, "
            f"{'with' if 'cls_token' in kept else 'without'} a class token; expected {_DEPTH} blocks of "
            "width 192 or 384 on 3 convolutions, with one"
        )
    left = counted(
        file,
        kept,
        optimizer="^opt",
        momentum_encoder=r"_k\.",
        queue="queue",
        projection_head=r"(^|\.)proj_head\.",
    )
    side = square_side(kept["pos_embed"], STRIDE)
    spec = InputSpec(side=side, fit="crop", crop=224 / 256, **IMAGENET)  # type: ignore[arg-type]
    return Plan(arch, spec, kept, pooling=Pooling("token"), left=left)


FAMILY = Family(
    name="MoCo v2 of python_dl_simclr, ViT with a convolutional stem",
    source="https://arxiv.org/abs/2003.04297",
    licence="not stated; weights by the terms of their films",
    keys=(
        r"(model_state\.)?(module\.)?patch_embed\.proj\.0\.weight$",
        r"(model_state\.)?(module\.)?pos_encoding\.pos_embed$",
        r"(model_state\.)?(module\.)?transformer\.encoder\.layers\.0\.self_attn\.in_proj_weight$",
    ),
    read=_read,
)
