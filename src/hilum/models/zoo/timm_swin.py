"""A Swin by timm's names, old or new, or its authors', with or without its classifier.

Liu et al. 2021, https://arxiv.org/abs/2103.14030. Width, depth and window say which. The embedding is the
mean over places of the last norm. Nothing in such a file says how it saw films: that is as the settings say.
"""

from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, dropped, under, without_module
from hilum.models.zoo.ark import BUFFERS, TABLE, by_new_names, swin


def _read(file: ForeignFile) -> Plan:
    tensors = without_module(file.tensors)
    prefixes = [name.removesuffix(TABLE) for name in tensors if name == TABLE or name.endswith(f".{TABLE}")]
    prefix = min(prefixes, key=len)
    kept = dropped(under(tensors, prefix), *BUFFERS, r"head\.")
    kept = {n: t for n, t in kept.items() if n.startswith(("patch_embed.", "layers.", "norm."))}
    left = counted(file, kept, head=r"(^|\.)head\.", buffers="(relative_position_index|attn_mask)$")
    arch, _ = swin(file, kept)
    return Plan(arch, None, by_new_names(kept), left=left)


FAMILY = Family(
    name="timm Swin",
    source="https://github.com/microsoft/Swin-Transformer",
    licence="as its publisher says",
    keys=(
        r"(.*\.)?layers\.0\.blocks\.0\.attn\.relative_position_bias_table$",
        r"(.*\.)?patch_embed\.norm\.weight$",
        r"(.*\.)?layers\.3\.blocks\.1\.mlp\.fc2\.weight$",
    ),
    read=_read,
    generic=True,
)
