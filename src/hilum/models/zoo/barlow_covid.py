"""Barlow Twins on films of COVID-19 and on CheXpert: a ResNet-18 on one grey channel.

Zbontar et al. 2021, https://arxiv.org/abs/2103.03230, as a course project (aidl2022_final_project) trained
it. Files: a flat state dict with `backbone.net.*` by torchvision's names (its stem has one channel, its `fc`
is not used), `projector.*` and `bn.*`. The embedding is the mean over places. Films were seen at 224 pixels
in [0, 1], without normalisation; the fit outside of training is recorded nowhere.
"""

from hilum.images.spec import InputSpec
from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, under
from hilum.models.zoo._networks import resnet


def _read(file: ForeignFile) -> Plan:
    arch, kept = resnet(file, under(file.tensors, "backbone.net."), "backbone.net")
    left = counted(file, kept, head=r"^backbone\.net\.fc\.", projector=r"^(projector|bn)\.")
    return Plan(arch, InputSpec(side=224, fit="crop", mean=0.0, std=1.0), kept, left=left)


FAMILY = Family(
    name="Barlow Twins on COVID-19 films",
    source="https://arxiv.org/abs/2103.03230",
    licence="not stated; weights by the terms of their films",
    keys=(r"backbone\.net\.conv1\.weight$", r"projector\.0\.weight$", r"bn\.running_mean$"),
    read=_read,
)
