"""MoCo-CXR and MedAug: MoCo v2 on CheXpert and MIMIC-CXR, ResNet-18, ResNet-50 and DenseNet-121.

Sowrirajan et al. 2021, https://arxiv.org/abs/2010.05352; Vu et al. 2021, https://arxiv.org/abs/2102.10663.
Files: {epoch, arch, state_dict, optimizer} with module.encoder_q.*, module.encoder_k.* and the queue.
"""

from hilum.errors import WeightsError
from hilum.images.spec import InputSpec
from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, dropped, resnet_arch, under, without_module


def _read(file: ForeignFile) -> Plan:
    query = under(without_module(under(file.tensors, "state_dict.")), "encoder_q.")
    kept = dropped(query, r"fc\.", r"classifier\.")
    arch = "densenet121" if "features.conv0.weight" in kept else resnet_arch(kept)
    if not arch:
        raise WeightsError(f"{file.path}: its encoder_q is neither a ResNet nor a DenseNet-121")
    left = counted(
        file, kept, projection_head=r"encoder_q\.(fc|classifier)", momentum_encoder="encoder_k", queue="queue"
    )
    return Plan(arch, InputSpec(side=320, fit="crop", mean=0.502, std=0.085585), kept, left=left)


FAMILY = Family(
    name="MoCo-CXR, MedAug",
    source="https://github.com/stanfordmlgroup/MoCo-CXR",
    licence="MIT (code); weights by the terms of CheXpert and MIMIC-CXR",
    keys=(
        r"state_dict\.(module\.)?encoder_q\.(conv1|features\.conv0)\.weight",
        r"state_dict\.(module\.)?encoder_k\.",
    ),
    without=(r"state_dict\.(module\.)?encoder_q\.classifier_group",),
    read=_read,
)
