"""RAD-DINO: DINOv2's ViT-B/14, trained on with some 880,000 chest radiographs, as Hugging Face lays it out.

Pérez-García et al. 2025, https://doi.org/10.1038/s42256-024-00965-w. Files: model.safetensors, flat or under
`dinov2.`, with embeddings.* and encoder.layer.N.*. The embedding is the class token after the last norm, 768
numbers. Films: the shorter side to 518 pixels, the middle, normalised by 0.5307 and 0.2583
(preprocessor_config.json). Meta's own DINOv2 of that size is laid out alike: `--family dinov2` sees films by
ImageNet's normalisation, as do other sizes and those with registers here. CXformer, trained on films, is
among those; its own normalisation was not verified. RAD-DINO's backbone_compatible.safetensors has DINOv2's
layout: `--family rad_dino` reads that.
"""

from dataclasses import replace

from hilum.images.spec import InputSpec
from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan
from hilum.models.zoo.dinov2 import dinov2_plan


def _read(file: ForeignFile) -> Plan:
    plan = dinov2_plan(file)
    assert plan.input is not None
    if plan.arch != "vit_base_patch14_dinov2":
        return plan
    return replace(plan, input=InputSpec(plan.input.side, mean=0.5307, std=0.2583))


FAMILY = Family(
    name="RAD-DINO, DINOv2 of Hugging Face",
    source="https://huggingface.co/microsoft/rad-dino",
    licence="MIT (RAD-DINO, research use); others as their publishers say",
    keys=(
        r"(dinov2\.|dinov2_with_registers\.)?embeddings\.patch_embeddings\.projection\.weight$",
        r"(dinov2\.|dinov2_with_registers\.)?encoder\.layer\.0\.layer_scale1\.lambda1$",
    ),
    read=_read,
)
