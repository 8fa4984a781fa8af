"""ConVIRT: a ResNet-50 trained against the sentences of reports, on MIMIC-CXR.

Zhang et al. 2022, https://arxiv.org/abs/2010.00747. Files are of two layouts: {image_encoder, text_encoder,
image_proj, text_proj, config}, as a reimplementation saves them, which is recognised; and a flat state dict
by torchvision's names, which nothing tells from any other ResNet: `--family convirt` reads it. Whether the
latter has a classifier is not known, and does not matter. The embedding is the mean over places.
"""

from dataclasses import replace

from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, in_colour
from hilum.models.zoo.torchvision_resnet import plain_resnet


def _read(file: ForeignFile) -> Plan:
    plan = plain_resnet(file, in_colour(224, "pad"))
    left = counted(
        file,
        plan.tensors,
        optimizer="^optim",
        text_encoder=r"^text_encoder\.",
        projection_heads=r"^(image|text)_proj\.",
        head=r"(^|\.)fc\.",
    )
    return replace(plan, left=left)


FAMILY = Family(
    name="ConVIRT",
    source="https://arxiv.org/abs/2010.00747",
    licence="not stated; weights by the terms of MIMIC-CXR",
    keys=(
        r"(module\.)?image_encoder\.(.*\.)?conv1\.weight$",
        r"(module\.)?text_encoder\.",
        r"(module\.)?image_proj\.",
        r"(module\.)?text_proj\.",
    ),
    read=_read,
)
