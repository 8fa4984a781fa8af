"""REFERS: a ViT-B/16 trained on MIMIC-CXR's films by the reports of their studies.

Zhou et al. 2022, https://doi.org/10.1038/s42256-021-00425-9. Files: a flat state dict with
transformer.embeddings.*, transformer.encoder.*, a head, and what belongs to the text. The embedding is the
class token after the last norm, 768 numbers. The fine-tuning code resizes the shorter side to 224, crops the
middle, and normalises as ImageNet.
"""

from hilum.models.foreign import ForeignFile
from hilum.models.pooling import Pooling
from hilum.models.zoo._family import Family, Plan, counted, in_colour, renamed, under
from hilum.models.zoo._networks import plain_vit, qkv


def _read(file: ForeignFile) -> Plan:
    kept = under(file.tensors, "transformer.embeddings.") | under(file.tensors, "transformer.encoder.")
    left = counted(file, kept, head=r"^head\.", text="")
    named = renamed(
        kept,
        (r"^patch_embeddings\.", "patch_embed.proj."),
        (r"^position_embeddings$", "pos_embed"),
        (r"^encoder_norm\.", "norm."),
        (r"^layer\.", "blocks."),
        (r"\.attention_norm\.", ".norm1."),
        (r"\.ffn_norm\.", ".norm2."),
        (r"\.ffn\.", ".mlp."),
        (r"\.attn\.out\.", ".attn.proj."),
    )
    named = qkv(named, "{}.attn.query", "{}.attn.key", "{}.attn.value", "{}.attn.qkv")
    arch, options, side = plain_vit(file, named)
    return Plan(arch, in_colour(side), named, Pooling("token"), options, left)


FAMILY = Family(
    name="REFERS",
    source="https://github.com/funnyzhou/REFERS",
    licence="MIT (code); weights by the terms of MIMIC-CXR",
    keys=(
        r"transformer\.embeddings\.patch_embeddings\.weight$",
        r"transformer\.encoder\.layer\.0\.attention_norm\.weight$",
        r"transformer\.encoder\.layer\.0\.attn\.query\.weight$",
    ),
    read=_read,
)
