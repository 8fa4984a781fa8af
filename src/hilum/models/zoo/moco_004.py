"""MoCo v2 on chest films with a ResNet-50, a ViT-B/16 or a ViT-S/16 (python_dl_simclr).

He et al. 2020, https://arxiv.org/abs/1911.05722; Chen et al. 2020, https://arxiv.org/abs/2003.04297. Files:
{encoder_q_state, mlp_q_state}; {model_state, opt_state, epoch} with `encoder_q.*`, `mlp_q.*`, their momentum
twins and the queue; {encoder_q, mlp_q, embed_dim}. The encoder is torchvision's ResNet or ViT, or timm's ViT.
The embedding is the mean over places, or the class token. Its ViT with a convolutional stem is
`moco_004_hybrid`.
"""

from collections.abc import Mapping

from torch import Tensor

from hilum.errors import WeightsError
from hilum.models.foreign import ForeignFile
from hilum.models.pooling import MEAN, Pooling
from hilum.models.zoo._family import Family, Plan, after, counted, dropped, in_colour, renamed
from hilum.models.zoo._networks import resnet, vit_arch

_QUERY = r"(model_state\.)?(module\.)?encoder_q(_state)?\."


def _read(file: ForeignFile) -> Plan:
    query = after(file.tensors, _QUERY)
    convolutional = "conv1.weight" in query
    if convolutional:
        arch, kept = resnet(file, query, "encoder_q")
    else:
        kept = dropped(query, r"heads?\.")
        kept = _timm_vit(kept) if "conv_proj.weight" in kept else kept
        arch = vit_arch(kept, "_224")
    if not arch:
        raise WeightsError(f"{file.path}: its encoder_q is neither a ResNet nor a ViT of torchvision or timm")
    left = counted(
        file,
        kept,
        optimizer="^opt",
        momentum_encoder=r"(encoder|mlp)_k\.",
        queue="queue",
        projection_head=r"mlp_q(_state)?\.",
        head=r"\.(fc|heads?)\.",
    )
    pooling = MEAN if convolutional else Pooling("token")
    return Plan(arch, in_colour(224, crop=224 / 256), kept, pooling=pooling, left=left)


def _timm_vit(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A ViT of torchvision, by timm's names."""
    return renamed(
        tensors,
        (r"^class_token$", "cls_token"),
        (r"^conv_proj\.", "patch_embed.proj."),
        (r"^encoder\.pos_embedding$", "pos_embed"),
        (r"^encoder\.ln\.", "norm."),
        (r"^encoder\.layers\.encoder_layer_", "blocks."),
        (r"\.ln_(\d)\.", r".norm\1."),
        (r"\.self_attention\.in_proj_", ".attn.qkv."),
        (r"\.self_attention\.out_proj\.", ".attn.proj."),
        (r"\.mlp\.(0|linear_1)\.", ".mlp.fc1."),
        (r"\.mlp\.(3|linear_2)\.", ".mlp.fc2."),
    )


FAMILY = Family(
    name="MoCo v2 of python_dl_simclr",
    source="https://arxiv.org/abs/2003.04297",
    licence="not stated; weights by the terms of their films",
    keys=(
        _QUERY + r"(conv1|conv_proj|patch_embed\.proj)\.weight$",
        r"(model_state\.)?(module\.)?mlp_q(_state)?\.",
    ),
    read=_read,
)
