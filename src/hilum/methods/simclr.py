"""SimCLR: two views of a radiograph attract, all other radiographs of the batch repel.

Chen et al. 2020, https://arxiv.org/abs/2002.05709
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional

from hilum.config import Config
from hilum.data.batch import Batch
from hilum.losses import info_nce, refuse_one
from hilum.models.encoder import Encoder
from hilum.models.projector import projector
from hilum.train.parallel import gather, places, world
from hilum.train.task import Task


class Settings(Config):
    """Settings of SimCLR."""

    temperature: PositiveFloat = 0.2
    """Similarities are divided by it: lower looks harder at the nearest negatives."""
    projection_dim: PositiveInt = 128
    """Width of the space in which radiographs are compared."""


class SimCLR(Task):
    """An encoder trained by NT-Xent on two views."""

    num_views: ClassVar[int] = 2
    model: Encoder

    def __init__(self, encoder: Encoder, *, temperature: float, projection_dim: int) -> None:
        """Puts a projector of two layers on the encoder."""
        super().__init__()
        self.model = encoder
        self.project = projector([encoder.num_features, encoder.num_features, projection_dim])
        self.temperature = temperature

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss, and how similar the two views of a radiograph are."""
        refuse_one(len(batch) * world())
        both = torch.cat(batch.views)  # one batch of 2B for BatchNorm too, as the authors' code has it
        za, zb = functional.normalize(self.project(self.model(both)).float(), dim=1).chunk(2)
        return {
            "loss": nt_xent(za, zb, temperature=self.temperature),
            "positive_similarity": (za * zb).sum(1).mean().detach(),
        }


def nt_xent(za: Float[Tensor, "B D"], zb: Float[Tensor, "B D"], *, temperature: float) -> Float[Tensor, ""]:
    """The normalised temperature-scaled cross entropy, equation 1, averaged over the 2B anchors.

    Rows of both have unit length and row i of both comes from radiograph i. With several processes the
    anchors are this process's and the keys are everybody's.
    """
    keys = torch.cat([gather(za), gather(zb)])
    mine = places(len(za), za.device)
    count = len(keys) // 2
    a = info_nce(za, keys, mine + count, temperature=temperature, itself=mine)
    b = info_nce(zb, keys, mine, temperature=temperature, itself=mine + count)
    return (a + b) / 2
