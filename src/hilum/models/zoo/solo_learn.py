"""A ResNet that solo-learn's methods trained.

Turrisi da Costa et al. 2022, https://github.com/vturrisi/solo-learn. Files: Lightning checkpoints
{state_dict, ...} with `backbone.*` (`encoder.*` before 2022) by torchvision's names, a `classifier.*` that is
trained beside, the method's projector, and momentum twins. Its ResNets for CIFAR have another stem and are
refused. Nothing in such a file says how it saw films. The embedding is the mean over places.
"""

from dataclasses import replace

from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted
from hilum.models.zoo.torchvision_resnet import plain_resnet


def _read(file: ForeignFile) -> Plan:
    plan = plain_resnet(file, None)
    left = counted(
        file,
        plan.tensors,
        optimizer="^optim",
        momentum_encoder="momentum_",
        heads=r"(classifier|projector|predictor|prototypes)",
        queue="queue",
    )
    return replace(plan, left=left)


FAMILY = Family(
    name="solo-learn",
    source="https://github.com/vturrisi/solo-learn",
    licence="MIT (code); weights as their publisher says",
    keys=(
        r"state_dict\.(backbone|encoder)\.conv1\.weight$",
        r"state_dict\.(backbone|encoder)\.layer4\.1\.bn2\.weight$",
        r"state_dict\.classifier\.weight$",
    ),
    read=_read,
    generic=True,
)
