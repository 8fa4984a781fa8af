"""MedKLIP: the first three stages of a ResNet-50, trained against entities of reports, on MIMIC-CXR.

Wu et al. 2023, https://github.com/MediaBrain-SJTU/MedKLIP. Files: {model, optimizer, ...} with
`module.res_features.*`, the children of torchvision's ResNet up to layer3, as a Sequential; there is no
layer4 in them, and its authors fine-tune one of ImageNet. `res_l1`, `res_l2`, the decoder and the classifiers
are left out. The embedding is the mean over places of layer3, 1024 numbers.
"""

from hilum.errors import WeightsError
from hilum.models.architectures import TO_LAYER3
from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, in_colour, under, without_module
from hilum.models.zoo._networks import from_children

_BLOCKS = {(6, True): "resnet50", (2, False): "resnet18"}
"""By the blocks of layer3, and whether they have three convolutions: what its code builds."""


def _read(file: ForeignFile) -> Plan:
    kept = from_children(under(without_module(under(file.tensors, "model.")), "res_features."))
    blocks = {name.split(".")[1] for name in kept if name.startswith("layer3.")}
    arch = _BLOCKS.get((len(blocks), "layer1.0.conv3.weight" in kept))
    if arch is None or any(name.startswith("layer4.") for name in kept):
        raise WeightsError(
            f"{file.path}: its res_features are not the first three stages of a ResNet-18 or 50"
        )
    left = counted(
        file,
        kept,
        optimizer="^optimizer",
        heads=r"\.(res_l\d|classifier|cl_fc|disease_embedding_layer)\.",
        decoder=r"\.decoder\.",
    )
    return Plan(arch + TO_LAYER3, in_colour(224, "squash"), kept, left=left)


FAMILY = Family(
    name="MedKLIP",
    source="https://github.com/MediaBrain-SJTU/MedKLIP",
    licence="not stated; weights by the terms of MIMIC-CXR",
    keys=(
        r"model\.(module\.)?res_features\.0\.weight$",
        r"model\.(module\.)?res_features\.6\.0\.conv1\.weight$",
        r"model\.(module\.)?(res_l1|res_l2)\.weight$",
    ),
    read=_read,
)
