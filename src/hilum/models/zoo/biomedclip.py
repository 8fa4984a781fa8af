"""BiomedCLIP, and OpenCLIP's other networks with a ViT of timm: trained on 15 million figures and captions.

Zhang et al. 2023, https://arxiv.org/abs/2303.00915. Files: OpenCLIP's, flat (open_clip_pytorch_model.bin) or
as its training saves them, with visual.trunk.* by timm's names, visual.head.proj, and the text. The
embedding is the class token after the projection, 512 numbers, not normalised; `--pool token` takes the 768
before it. Films: the shorter side to 224, the middle, CLIP's normalisation.
"""

from hilum.errors import WeightsError
from hilum.models.foreign import ForeignFile
from hilum.models.pooling import Pooling
from hilum.models.zoo._family import Family, Plan, counted, floats, in_colour, under, without_module
from hilum.models.zoo._networks import plain_vit


def _read(file: ForeignFile) -> Plan:
    tensors = without_module(file.tensors)
    visual = under(under(tensors, "state_dict.") or tensors, "visual.")
    projection = visual["head.proj.weight"]
    trunk = under(visual, "trunk.")
    if "cls_token" not in trunk or "norm.weight" not in trunk or "head.proj.bias" in visual:
        raise WeightsError(f"{file.path}: its trunk has no class token, or its projection is not linear")
    arch, options, side = plain_vit(file, trunk)
    used = {**trunk, "projection.weight": projection}
    left = counted(file, used, optimizer=r"^optimizer\.", text_tower=r"(^|\.)text", scale="logit_scale")
    pooling = Pooling("token", project=projection.shape[0])
    return Plan(arch, in_colour(side, clip=True), floats(used), pooling, options, left)


FAMILY = Family(
    name="BiomedCLIP, OpenCLIP with timm",
    source="https://huggingface.co/microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    licence="MIT (BiomedCLIP); others as their authors say",
    keys=(
        r"(state_dict\.)?(module\.)?visual\.trunk\.blocks\.0\.attn\.qkv\.weight$",
        r"(state_dict\.)?(module\.)?visual\.head\.proj\.weight$",
    ),
    read=_read,
)
