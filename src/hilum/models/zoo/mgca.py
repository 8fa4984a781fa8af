"""MGCA: a ResNet-50 or ViT-B/16 trained against reports, their words and prototypes, on MIMIC-CXR.

Wang et al. 2022, https://github.com/HKU-MedAI/MGCA. Files: Lightning checkpoints {state_dict, ...} with
`img_encoder_q.model.*` by torchvision's or timm's names, `img_encoder_q.global_embed.*` and `local_embed.*`,
the text encoder and the prototypes. Films were padded to 256 pixels, of which 224 are seen; the ResNet
enlarges them to 299 inside, as GLoRIA. The embedding is the mean over places, or the class token, before
`global_embed`.
"""

from hilum.errors import WeightsError
from hilum.images.spec import InputSpec
from hilum.models.foreign import ForeignFile
from hilum.models.pooling import MEAN, Pooling
from hilum.models.zoo._family import Family, Plan, counted, under
from hilum.models.zoo._networks import resnet, vit_arch


def _read(file: ForeignFile) -> Plan:
    kept = under(file.tensors, "state_dict.img_encoder_q.model.")
    convolutional = "conv1.weight" in kept
    if convolutional:
        arch, kept = resnet(file, kept, "img_encoder_q.model")
    else:
        arch = vit_arch(kept, "_224")
    if not arch:
        raise WeightsError(f"{file.path}: its img_encoder_q.model is neither a ResNet nor a plain ViT")
    left = counted(
        file,
        kept,
        optimizer="^optim",
        embedders=r"img_encoder_q\.(global|local)_embed\.",
        text_encoder=r"text_encoder_q\.",
        prototypes_and_attention=r"(prototype_layer|atten_layer)",
    )
    larger = 299 if convolutional else 0
    spec = InputSpec(side=224, fit="pad", mean=0.5, std=0.5, crop=224 / 256, upsample=larger)
    return Plan(arch, spec, kept, pooling=MEAN if convolutional else Pooling("token"), left=left)


FAMILY = Family(
    name="MGCA",
    source="https://github.com/HKU-MedAI/MGCA",
    licence="not stated; weights by the terms of MIMIC-CXR",
    keys=(
        r"state_dict\.img_encoder_q\.model\.(conv1|patch_embed\.proj)\.weight$",
        r"state_dict\.img_encoder_q\.global_embed\.",
    ),
    read=_read,
)
