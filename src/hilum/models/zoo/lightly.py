"""A ResNet that Lightly's methods trained: torchvision's, without its classifier, taken apart.

Susmelj et al. 2020, https://github.com/lightly-ai/lightly. Files: a Lightning checkpoint {state_dict, ...} or
a state dict with a Sequential of its children, `backbone.0.*` (the stem), `backbone.1.*`, `backbone.4.*` to
`backbone.7.*`, the projection head, and momentum twins. A backbone that was not taken apart is a
`torchvision_resnet`. Nothing in such a file says how it saw films. The embedding is the mean over places.
"""

from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, under, without_module
from hilum.models.zoo._networks import from_children, resnet


def _read(file: ForeignFile) -> Plan:
    every = without_module(file.tensors)
    children = from_children(under(under(every, "state_dict.") or every, "backbone."))
    arch, kept = resnet(file, children, "backbone")
    left = counted(
        file,
        kept,
        optimizer="^optim",
        momentum_encoder="momentum",
        heads=r"(projection|prediction|classifier|head)",
        queue="(queue|memory_bank)",
    )
    return Plan(arch, None, kept, left=left)


FAMILY = Family(
    name="Lightly",
    source="https://github.com/lightly-ai/lightly",
    licence="as its publisher says",
    keys=(
        r"(state_dict\.)?(module\.)?backbone\.0\.weight$",
        r"(state_dict\.)?(module\.)?backbone\.4\.0\.conv1\.weight$",
        r"(state_dict\.)?(module\.)?backbone\.7\.1\.bn2\.weight$",
    ),
    read=_read,
)
