"""CheXNet, as arnoweng made it: a DenseNet-121 for the 14 findings of ChestX-ray14.

Rajpurkar et al. 2017, https://arxiv.org/abs/1711.05225; weights of https://github.com/arnoweng/CheXNet.
Files: {state_dict, ...} with `module.densenet121.features.*`, by the names that torchvision had before 0.2
(`norm.1` for `norm1`) or by the present ones, and `module.densenet121.classifier.0.*`. Films were seen at 224
of 256 pixels; its ten crops are the middle one here. The embedding is the mean over places.
"""

from hilum.errors import WeightsError
from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, in_colour, under, without_module
from hilum.models.zoo._networks import densenet_arch, densenet_names


def _read(file: ForeignFile) -> Plan:
    net = densenet_names(under(without_module(under(file.tensors, "state_dict.")), "densenet121."))
    kept = {name: tensor for name, tensor in net.items() if name.startswith("features.")}
    if densenet_arch(kept) != "densenet121":
        raise WeightsError(f"{file.path}: its densenet121 is no DenseNet-121")
    left = counted(file, kept, optimizer="^optim", head=r"\.classifier\.")
    return Plan("densenet121", in_colour(224, crop=224 / 256), kept, left=left)


FAMILY = Family(
    name="CheXNet",
    source="https://github.com/arnoweng/CheXNet",
    licence="not stated; weights by the terms of ChestX-ray14",
    keys=(
        r"state_dict\.(module\.)?densenet121\.features\.conv0\.weight$",
        r"state_dict\.(module\.)?densenet121\.classifier\.(0\.)?weight$",
    ),
    read=_read,
)
