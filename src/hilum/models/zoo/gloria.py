"""GLoRIA: a ResNet-50 or ResNet-18 trained against whole reports and their words, on CheXpert.

Huang et al. 2021, https://github.com/marshuang80/gloria. Files: Lightning checkpoints {state_dict,
hyper_parameters, ...} with `gloria.img_encoder.model.*`, two embedders, and the text encoder. What is before
`img_encoder.` in a name does not count, as in its own loader: its classifiers have `model.` there. The image,
224 of 256 pixels, is enlarged to 299 pixels inside of the network. The embedding is the mean over places,
before the embedders.
"""

from hilum.images.spec import InputSpec
from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, after, counted
from hilum.models.zoo._networks import resnet

_MODEL = r"(.*\.)?img_encoder\.model\."


def _read(file: ForeignFile) -> Plan:
    arch, kept = resnet(file, after(file.tensors, _MODEL), "img_encoder.model")
    left = counted(
        file,
        kept,
        optimizer="^optim",
        text_encoder=r"text_encoder\.",
        embedders=r"img_encoder\.(global|local)_embedder\.",
        head=r"img_encoder\.model\.fc\.",
    )
    spec = InputSpec(side=224, fit="pad", mean=0.5, std=0.5, crop=224 / 256, upsample=299)
    return Plan(arch, spec, kept, left=left)


FAMILY = Family(
    name="GLoRIA",
    source="https://github.com/marshuang80/gloria",
    licence="not stated; weights by the terms of CheXpert",
    keys=(
        _MODEL + r"conv1\.weight$",
        r"(.*\.)?img_encoder\.global_embedder\.weight$",
    ),
    read=_read,
)
