"""A ViT as `transformers` of Hugging Face saves it: ViTModel, its classifiers, and ViT-MAE.

Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929. Files: vit.embeddings.*, vit.encoder.layer.N.*,
with or without `vit.`, in safetensors or not, a classifier, a pooler or a decoder beside it. The embedding
is the class token after the last norm, before the pooler. Films: 224 pixels squeezed, mean and deviation
0.5, as its image processor has it; with ViT-MAE's decoder, ImageNet's. Which a checkpoint was given is in
its preprocessor_config.json and not in its weights (DINO's there has ImageNet's): if it differs, choose the
settings. `transformers` adds 1e-12 to a variance unless told otherwise, timm 1e-6: embeddings differ by some
1e-5.
"""

from collections.abc import Mapping

from torch import Tensor

from hilum.images.spec import InputSpec
from hilum.models.foreign import ForeignFile
from hilum.models.pooling import Pooling
from hilum.models.zoo._family import Family, Plan, counted, in_colour, renamed, under
from hilum.models.zoo._networks import plain_vit, qkv


def published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By the names in published files what a program with transformers 5 saved by those of its modules."""
    return renamed(
        tensors,
        (r"(^|\.)layers\.(\d+)\.attention\.", r"\1encoder.layer.\2.attention."),
        (r"(^|\.)layers\.(\d+)\.(layernorm_|mlp\.)", r"\1encoder.layer.\2.\3"),
        (r"\.attention\.q_proj\.", ".attention.attention.query."),
        (r"\.attention\.k_proj\.", ".attention.attention.key."),
        (r"\.attention\.v_proj\.", ".attention.attention.value."),
        (r"\.attention\.o_proj\.", ".attention.output.dense."),
    )


def _read(file: ForeignFile) -> Plan:
    tensors = published(file.tensors)
    tensors = under(tensors, "vit.") or tensors
    used = {n: t for n, t in tensors.items() if n.startswith(("embeddings.", "encoder.layer.", "layernorm."))}
    left = counted(
        file, used, classifier=r"^classifier\.", pooler=r"(^|\.)pooler\.", decoder=r"^decoder\.",
        mask_token="mask_token",
    )  # fmt: skip
    named = renamed(
        used,
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.", ""),
        (r"^layernorm\.", "norm."),
        (r"^encoder\.layer\.", "blocks."),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"\.attention\.output\.dense\.", ".attn.proj."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"\.output\.dense\.", ".mlp.fc2."),
    )
    of = "{}.attention.attention."
    named = qkv(named, f"{of}query", f"{of}key", f"{of}value", "{}.attn.qkv")
    arch, options, side = plain_vit(file, named)
    spec = in_colour(side, "squash") if "decoder" in left else InputSpec(side, "squash", mean=0.5, std=0.5)
    return Plan(arch, spec, named, Pooling("token"), options, left)


FAMILY = Family(
    name="ViT of Hugging Face",
    source="https://huggingface.co/docs/transformers/model_doc/vit",
    licence="as its publisher says",
    keys=(
        r"(vit\.)?(encoder\.layer|layers)\.0\.attention\.(attention\.query|q_proj)\.weight$",
        r"(vit\.)?(encoder\.layer|layers)\.0\.layernorm_before\.weight$",
        r"(vit\.)?embeddings\.cls_token$",
    ),
    without=(r"(.*\.)?distillation_token$", r"(.*\.)?layer_scale1\.lambda1$"),
    read=_read,
)
