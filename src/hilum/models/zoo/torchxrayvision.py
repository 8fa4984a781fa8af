"""TorchXRayVision's classifiers: DenseNet-121 at 224 pixels, ResNet-50 at 512, both on one grey channel.

Cohen et al. 2022, https://github.com/mlmed/torchxrayvision. Files: of the DenseNets a whole pickled module,
whose class is not imported here, or its state dict, with `features.*`, `classifier.*` for 18 findings, and
thresholds (`op_threshs`) in newer ones; of the ResNet (`...resnet50-test512-e400-state.pt`) a flat state dict
by torchvision's names. They are told from others by their one channel and 18 findings. Grey levels were in
[-1024, 1024]. The embedding is the mean over places, as in `features2`.
"""

import re

from torch import Tensor

from hilum.images.spec import InputSpec
from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted
from hilum.models.zoo._networks import densenet_arch, resnet

_FINDINGS = 18


def _named(file: ForeignFile) -> dict[str, Tensor]:
    return {re.sub(r"^(state_dict\.)?(module\.)?(model\.)?", "", n): t for n, t in file.tensors.items()}


def _fits(file: ForeignFile) -> bool:
    named = _named(file)
    stems = [named[n] for n in ("features.conv0.weight", "conv1.weight") if n in named]
    heads = [named[n] for n in ("classifier.weight", "fc.weight") if n in named]
    return [t.shape[1] for t in stems] == [1] and [t.shape[0] for t in heads] == [_FINDINGS]


def _read(file: ForeignFile) -> Plan:
    named = _named(file)
    kept = {n: t for n, t in named.items() if n.startswith("features.")}
    arch, side = densenet_arch(kept), 224
    if not arch:
        (arch, kept), side = resnet(file, named, "network"), 512
    left = counted(file, kept, head=r"(^|\.)(classifier|fc)\.", thresholds="op_threshs")
    return Plan(arch, InputSpec(side=side, fit="crop", mean=0.5, std=1 / 2048), kept, left=left)


FAMILY = Family(
    name="TorchXRayVision",
    source="https://github.com/mlmed/torchxrayvision",
    licence="Apache-2.0; weights by the terms of their films",
    keys=(
        r"(state_dict\.)?(module\.)?(model\.)?(features\.conv0|conv1)\.weight$",
        r"(state_dict\.)?(module\.)?(model\.)?(classifier|fc)\.weight$",
    ),
    read=_read,
    fits=_fits,
)
