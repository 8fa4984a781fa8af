"""A plain DenseNet-121, 161, 169 or 201 by torchvision's and timm's names, with or without its classifier.

Huang et al. 2017, https://arxiv.org/abs/1608.06993. Also by the names that torchvision had before 0.2
(`norm.1`), and under any one prefix. Nothing in such a file says how it saw films.
"""

from hilum.errors import WeightsError
from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, under, without_module
from hilum.models.zoo._networks import densenet_arch, densenet_names

_STEM = "features.conv0.weight"


def _read(file: ForeignFile) -> Plan:
    tensors = without_module(file.tensors)
    prefixes = {name.removesuffix(_STEM) for name in tensors if name.endswith(_STEM)}
    for prefix in sorted(prefixes, key=lambda one: (len(one), one)):
        net = densenet_names(under(tensors, prefix))
        kept = {name: tensor for name, tensor in net.items() if name.startswith("features.")}
        arch = densenet_arch(kept)
        if arch:
            left = counted(file, kept, optimizer="^optim", head=r"(^|\.)classifier\.")
            return Plan(arch, None, kept, left=left)
    raise WeightsError(f"{file.path}: there is a {_STEM}, but not the layers of a DenseNet of torchvision")


FAMILY = Family(
    name="torchvision or timm DenseNet",
    source="https://github.com/pytorch/vision",
    licence="as its publisher says",
    keys=(
        r"(.*\.)?features\.conv0\.weight$",
        r"(.*\.)?features\.denseblock4\.denselayer16\.norm\.?1\.weight$",
    ),
    read=_read,
    generic=True,
)
