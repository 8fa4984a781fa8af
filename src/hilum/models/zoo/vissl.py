"""A ResNet that VISSL's methods trained.

Goyal et al. 2021, https://github.com/facebookresearch/vissl. Files: {classy_state_dict: {base_model: {model:
{trunk, heads}}}, ...} with `_feature_blocks.*` by torchvision's names in trunk. A trunk that VISSL converted
to torchvision is a `torchvision_resnet`. Nothing in such a file says how it saw films. The embedding is the
mean over places.
"""

from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, under
from hilum.models.zoo._networks import resnet

_TRUNK = "classy_state_dict.base_model.model.trunk._feature_blocks."


def _read(file: ForeignFile) -> Plan:
    arch, kept = resnet(file, under(file.tensors, _TRUNK), "trunk")
    left = counted(file, kept, heads=r"\.model\.heads\.", optimizer="optim", loss=r"\.loss\.")
    return Plan(arch, None, kept, left=left)


FAMILY = Family(
    name="VISSL",
    source="https://github.com/facebookresearch/vissl",
    licence="MIT (code); weights as their publisher says",
    keys=(_TRUNK.replace(".", r"\.") + r"conv1\.weight$",),
    read=_read,
)
