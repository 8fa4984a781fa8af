"""Barlow Twins: two views agree in every feature, and no two features say the same.

Zbontar et al. 2021, https://arxiv.org/abs/2103.03230
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from hilum.config import Config
from hilum.data.batch import Batch
from hilum.losses import full_precision, refuse_one
from hilum.models.encoder import Encoder
from hilum.models.projector import projector
from hilum.train.parallel import gather, world
from hilum.train.task import Task


class Settings(Config):
    """Settings of Barlow Twins."""

    redundancy_weight: NonNegativeFloat = 0.005
    """Lambda of equation 1: how much the redundancy of features counts beside their invariance."""
    projector_sizes: list[PositiveInt] = [1024, 1024, 1024]
    """Widths of the projector's layers; the last is the number of features that are decorrelated."""
    scale: PositiveFloat = 0.05
    """Factor of the whole loss, so that its gradient suits ordinary learning rates."""


class BarlowTwins(Task):
    """An encoder trained by the cross-correlation of two views."""

    num_views: ClassVar[int] = 2
    model: Encoder

    def __init__(
        self, encoder: Encoder, *, redundancy_weight: float, projector_sizes: list[int], scale: float
    ) -> None:
        """Puts a projector of the given sizes on the encoder."""
        super().__init__()
        self.model = encoder
        self.project = projector([encoder.num_features, *projector_sizes])
        self.redundancy_weight = redundancy_weight
        self.scale = scale

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss and its two terms."""
        refuse_one(len(batch) * world())
        za, zb = (gather(self.project(self.model(view)).float()) for view in batch.views)
        invariance, redundancy = barlow_terms(za, zb)
        return {
            "loss": self.scale * (invariance + self.redundancy_weight * redundancy),
            "invariance": invariance.detach(),
            "redundancy": redundancy.detach(),
        }


def barlow_terms(
    za: Float[Tensor, "B D"], zb: Float[Tensor, "B D"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Invariance and redundancy: the two sums of equation 1.

    Row i of both comes from radiograph i. Both are standardised over the batch first, so B must be 2 or more.
    """
    c = cross_correlation(za, zb)
    agreement = torch.diagonal(c)
    return (agreement - 1).square().sum(), c.square().sum() - agreement.square().sum()


@full_precision
def cross_correlation(za: Float[Tensor, "B D"], zb: Float[Tensor, "B D"]) -> Float[Tensor, "D D"]:
    """Equation 2, with the paper's implementation's small constant (1e-5) under the root of the variance."""
    a, b = ((z - z.mean(0)) * (z.var(0, correction=0) + 1e-5).rsqrt() for z in (za, zb))
    return a.T @ b / len(za)
