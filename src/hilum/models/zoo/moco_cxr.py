"""MoCo-CXR and MedAug: MoCo v2 on CheXpert and MIMIC-CXR, ResNets and DenseNets.

Sowrirajan et al. 2021, https://arxiv.org/abs/2010.05352; Vu et al. 2021, https://arxiv.org/abs/2102.10663.
Files: {epoch, arch, state_dict, optimizer} with `module.encoder_q.*`, `module.encoder_k.*` and the queue, by
torchvision's names; and what its code saves after fine-tuning, {model_name, model_state, ...} with
`module.model.*` by torchvision's or Cadene's names and a classifier `module.fc.*`. The embedding is the mean
over places. Films were seen with a shorter side of 320 pixels, of which 320 are cropped: normalised by the
deviation of chest films in pretraining, and by ImageNet's in fine-tuning unless it was told otherwise, which
only an args.json beside the file says. Its MNASNet is not read.
"""

from hilum.errors import WeightsError
from hilum.images.spec import InputSpec
from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, after, counted, in_colour
from hilum.models.zoo._networks import densenet_arch, resnet

_QUERY = r"(state_dict\.)?(module\.)?encoder_q\."
_TUNED = r"model_state\.(module\.)?model\."


def _read(file: ForeignFile) -> Plan:
    query, tuned = after(file.tensors, _QUERY), after(file.tensors, _TUNED)
    net = query or tuned
    if "features.conv0.weight" in net:
        kept = {name: tensor for name, tensor in net.items() if name.startswith("features.")}
        arch = densenet_arch(kept)
    else:
        arch, kept = resnet(file, net, "encoder_q" if query else "model")
    if not arch:
        raise WeightsError(f"{file.path}: its encoder is no DenseNet of torchvision")
    left = counted(
        file,
        kept,
        optimizer="^optim",
        projection_head=r"encoder_q\.(fc|classifier)",
        momentum_encoder="encoder_k",
        queue="queue",
        head=r"\.(fc|classifier|last_linear)\.",
    )
    spec = InputSpec(side=320, fit="crop", mean=0.502, std=0.085585) if query else in_colour(320)
    return Plan(arch, spec, kept, left=left)


FAMILY = Family(
    name="MoCo-CXR, MedAug",
    source="https://github.com/stanfordmlgroup/MoCo-CXR",
    licence="not stated; weights by the terms of CheXpert and MIMIC-CXR",
    keys=(
        rf"({_QUERY}|{_TUNED})(conv1|features\.conv0)\.weight$",
        r"(state_dict\.)?(module\.)?encoder_k\.|model_state\.(module\.)?(fc|model\.classifier)\.",
    ),
    without=(r"(.*\.)?encoder_q\.classifier_group", r"(.*\.)?mlp_q\."),
    read=_read,
    namesakes="a MoCo of other images, as of ImageNet: then --preprocessing settings with --image-size, "
    "--image-fit, --mean and --std, as it saw them",
)
