"""VICReg: two views agree, every feature varies over radiographs, and no two features vary together.

Bardes et al. 2021, https://arxiv.org/abs/2105.04906
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor
from torch.nn import functional

from hilum.config import Config
from hilum.data.batch import Batch
from hilum.losses import full_precision, refuse_one
from hilum.models.encoder import Encoder
from hilum.models.projector import projector
from hilum.train.parallel import gather, world
from hilum.train.task import Task


class Settings(Config):
    """Settings of VICReg."""

    invariance_weight: NonNegativeFloat = 25.0
    """How much the distance of the two views counts: lambda of equation 6."""
    variance_weight: NonNegativeFloat = 25.0
    """How much features whose deviation is below 1 count: mu."""
    covariance_weight: NonNegativeFloat = 1.0
    """How much features that vary together count: nu."""
    projector_sizes: list[PositiveInt] = [2048, 2048, 2048]
    """Widths of the expander's layers; the paper has 8192 three times."""


class VICReg(Task):
    """An encoder trained by variance, invariance and covariance."""

    num_views: ClassVar[int] = 2
    model: Encoder

    def __init__(
        self,
        encoder: Encoder,
        *,
        invariance_weight: float,
        variance_weight: float,
        covariance_weight: float,
        projector_sizes: list[int],
    ) -> None:
        """Puts an expander of the given sizes on the encoder."""
        super().__init__()
        self.model = encoder
        self.expand = projector([encoder.num_features, *projector_sizes])
        self.invariance_weight = invariance_weight
        self.variance_weight = variance_weight
        self.covariance_weight = covariance_weight

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss and its three terms, before they are weighted."""
        refuse_one(len(batch) * world())
        za, zb = (gather(self.expand(self.model(view)).float()) for view in batch.views)
        invariance = functional.mse_loss(za, zb)
        # Equation 6 adds the variances of both views; the weights go with the authors' code, which halves.
        variance = (lacking_deviation(za) + lacking_deviation(zb)) / 2
        covariance = redundancy(za) + redundancy(zb)
        return {
            "loss": self.invariance_weight * invariance
            + self.variance_weight * variance
            + self.covariance_weight * covariance,
            "invariance": invariance.detach(),
            "variance": variance.detach(),
            "covariance": covariance.detach(),
        }


@full_precision
def lacking_deviation(z: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Equation 1: how far the deviation of a feature over the batch is below 1, the mean over features."""
    return functional.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()


@full_precision
def redundancy(z: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Equations 3 and 4: squares of the covariances of two different features, summed, divided by D."""
    centred = z - z.mean(0)
    covariance = centred.T @ centred / (len(z) - 1)
    return (covariance.square().sum() - torch.diagonal(covariance).square().sum()) / z.shape[1]
