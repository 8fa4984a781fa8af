"""LoVT, and the baselines of its code (BYOL, SimCLR, supervised): a ResNet-50 trained on MIMIC-CXR.

Müller et al. 2022, https://github.com/philip-mueller/lovt. Files: a Lightning checkpoint with
`model_a.encoder.feature_extractor.backbone_layers.*` (the films' side is a or b), which is recognised; and
`backbone_weights.pt`, a flat state dict by torchvision's names, which nothing tells from any other ResNet:
`--family lovt` reads it. The embedding is the mean over places.

Its code computes mean and deviation of the films in training; those of MIMIC-CXR are not written down. Here
they are those of RSNA's, which its evaluation used.
"""

from dataclasses import replace

from hilum.images.spec import InputSpec
from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, after, counted
from hilum.models.zoo._networks import resnet
from hilum.models.zoo.torchvision_resnet import plain_resnet

MEAN, STD = 0.48988, 0.24818
"""Of the films of RSNA's pneumonia challenge."""
_SCAN = r"state_dict\.model_[ab]\.encoder\.feature_extractor\.backbone_layers\."


def _read(file: ForeignFile) -> Plan:
    spec = InputSpec(side=224, fit="pad", mean=MEAN, std=STD)
    parts = {
        "optimizer": "^optim",
        "head": r"(^|\.)fc\.",
        "projections": r"^state_dict\.model_[ab]\.project_",
        "text_encoder": r"^state_dict\.model_[ab]\.encoder\.",
        "attention_and_losses": r"^state_dict\.",
    }
    named = after(file.tensors, _SCAN)
    if not named:
        plan = plain_resnet(file, spec)
        return replace(plan, left=counted(file, plan.tensors, **parts))
    arch, kept = resnet(file, named, "backbone_layers")
    return Plan(arch, spec, kept, left=counted(file, kept, **parts))


FAMILY = Family(
    name="LoVT",
    source="https://github.com/philip-mueller/lovt",
    licence="MIT (code); weights by the terms of MIMIC-CXR",
    keys=(_SCAN + r"conv1\.weight$", _SCAN + r"layer4\.1\.bn2\.weight$"),
    read=_read,
)
