"""OpenCLIP's own ViTs, as its training saves them: CLIP's layout without QuickGELU.

Cherti et al. 2023, https://arxiv.org/abs/2212.07143. Files: {epoch, name, state_dict, optimizer} with
(module.)visual.* as in OpenAI's CLIP, and the text. The embedding is the class token after the projection. A
run whose name has `quickgelu` in it has QuickGELU. Films: the shorter side to the table of positions, the
middle, CLIP's normalisation. A flat file is taken for CheXzero's, which is laid out alike, unless `--family
open_clip` says whose it is. Width and patch must be of a CLIP that timm has.
"""

from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, in_colour, under, without_module
from hilum.models.zoo.chexzero import clip_plan, clip_tower


def _read(file: ForeignFile) -> Plan:
    tensors = without_module(file.tensors)
    visual = under(under(tensors, "state_dict.") or tensors, "visual.")
    quick = "quickgelu" in str(file.facts.get("name", ""))
    arch, named, side = clip_tower(file, visual, "_clip_quickgelu_224" if quick else "_clip_224")
    return clip_plan(file, arch, in_colour(side, clip=True), visual, named)


FAMILY = Family(
    name="OpenCLIP",
    source="https://github.com/mlfoundations/open_clip",
    licence="MIT (code); weights as their authors say",
    keys=(
        r"state_dict\.(module\.)?visual\.class_embedding",
        r"state_dict\.(module\.)?visual\.transformer\.resblocks\.0\.attn\.in_proj_weight",
        r"state_dict\.(module\.)?visual\.proj$",
    ),
    read=_read,
)
