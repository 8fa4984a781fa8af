"""Barlow Twins of its authors: a ResNet-50, trained on ImageNet or by their code on other images.

Zbontar et al. 2021, https://github.com/facebookresearch/barlowtwins. Files: `checkpoint.pth`, {epoch, model,
optimizer} with `module.backbone.*`, `module.projector.*` and `module.bn.*`, which is recognised; and
`resnet50.pth`, a flat state dict by torchvision's names, which nothing tells from any other ResNet: `--family
barlow_twins` reads it. The embedding is the mean over places.
"""

from dataclasses import replace

from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, in_colour
from hilum.models.zoo.torchvision_resnet import plain_resnet


def _read(file: ForeignFile) -> Plan:
    plan = plain_resnet(file, in_colour(224, crop=224 / 256))
    left = counted(
        file,
        plan.tensors,
        optimizer="^optimizer",
        projector=r"^model\.(module\.)?(projector|bn)\.",
        head=r"(^|\.)fc\.",
    )
    return replace(plan, left=left)


FAMILY = Family(
    name="Barlow Twins",
    source="https://github.com/facebookresearch/barlowtwins",
    licence="MIT",
    keys=(
        r"model\.(module\.)?backbone\.conv1\.weight$",
        r"model\.(module\.)?projector\.0\.weight$",
        r"model\.(module\.)?bn\.running_mean$",
    ),
    read=_read,
)
