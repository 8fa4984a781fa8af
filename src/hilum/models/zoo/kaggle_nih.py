"""SE-ResNeXt-101 and 50 (32x4d) for ChestX-ray14 and for RSNA's pneumonia challenge.

Gabruseva et al. 2020, https://github.com/tatigabru/kaggle-rsna. Files: of the classifier for ChestX-ray14 a
flat state dict with `encoder.layer0.*` to `encoder.layer4.*` by the names of Cadene's pretrainedmodels, which
timm keeps as `legacy_seresnext101_32x4d`, and `fc15.*`, as far as is known: the code that made it was not
published. Of the detectors a whole pickled module, whose class is not imported here, with the same
`encoder.*` beside its pyramid and heads. The detector saw whole square films at 512 pixels in [0, 1], three
times the same, without normalisation; how the classifier saw them is recorded nowhere. The embedding is the
mean over places.
"""

from hilum.errors import WeightsError
from hilum.images.spec import InputSpec
from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, counted, under, without_module

_DEPTHS = {4: {6: "50", 23: "101"}}
"""Names of the networks by the blocks of layer2 and layer3."""


def _read(file: ForeignFile) -> Plan:
    net = under(without_module(file.tensors), "encoder.")
    kept = {name: tensor for name, tensor in net.items() if name.startswith("layer")}
    second, third = (
        len({name.split(".")[1] for name in kept if name.startswith(f"layer{stage}.")}) for stage in (2, 3)
    )
    depth = _DEPTHS.get(second, {}).get(third)
    if depth is None:
        raise WeightsError(f"{file.path}: its encoder is neither SE-ResNeXt-50 nor 101")
    left = counted(file, kept, head=r"(^|\.)fc15\.", detector=r"(^|\.)(fpn|\w+Model)\.")
    spec = InputSpec(side=512, fit="squash", mean=0.0, std=1.0)
    return Plan(f"legacy_seresnext{depth}_32x4d", spec, kept, left=left)


FAMILY = Family(
    name="SE-ResNeXt of kaggle-rsna",
    source="https://github.com/tatigabru/kaggle-rsna",
    licence="MIT (code); weights by the terms of ChestX-ray14 and RSNA's challenge",
    keys=(
        r"(module\.)?encoder\.layer0\.conv1\.weight$",
        r"(module\.)?encoder\.layer1\.0\.se_module\.fc1\.weight$",
        r"(module\.)?(fc15|fpn)\.",
    ),
    read=_read,
)
