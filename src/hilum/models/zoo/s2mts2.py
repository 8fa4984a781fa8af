"""S2MTS2: a DenseNet-121 with leaky ReLUs, trained with several crops of a film, on CheXpert.

Liu et al. 2021, https://arxiv.org/abs/2103.03629. Files: {state_dict} with `encoder_q.features.*`,
`encoder_q.classifier.*` and `encoder_q.classifier_group.*`, and what else its training keeps. The embedding
is the mean over places of the last map. The size of the films that the published weights saw is recorded
nowhere: 224 pixels is the usual one, and the fit is ours.
"""

from hilum.errors import WeightsError
from hilum.models.architectures import LEAKY
from hilum.models.foreign import ForeignFile
from hilum.models.zoo._family import Family, Plan, after, counted, in_colour
from hilum.models.zoo._networks import densenet_arch

_QUERY = r"(state_dict\.)?(module\.)?encoder_q\."


def _read(file: ForeignFile) -> Plan:
    query = after(file.tensors, _QUERY)
    kept = {name: tensor for name, tensor in query.items() if name.startswith("features.")}
    if densenet_arch(kept) != "densenet121":
        raise WeightsError(f"{file.path}: its encoder_q is no DenseNet-121")
    left = counted(
        file,
        kept,
        optimizer="^optim",
        heads=r"encoder_q\.classifier",
        momentum_encoder="encoder_k",
        queue="queue",
    )
    return Plan(LEAKY, in_colour(224), kept, left=left)


FAMILY = Family(
    name="S2MTS2",
    source="https://arxiv.org/abs/2103.03629",
    licence="not stated; weights by the terms of CheXpert",
    keys=(
        _QUERY + r"features\.conv0\.weight$",
        _QUERY + r"classifier_group\.",
    ),
    read=_read,
)
