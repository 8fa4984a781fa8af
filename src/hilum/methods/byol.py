"""BYOL: a view predicts what a slowly moving average of the encoder makes of the other view.

Grill et al. 2020, https://arxiv.org/abs/2006.07733
"""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn import functional

from hilum.config import Config
from hilum.data.batch import Batch
from hilum.losses import full_precision
from hilum.models.ema import copy_of, move_towards, rising_momentum
from hilum.models.encoder import Encoder
from hilum.models.projector import projector
from hilum.train.task import Task


class Settings(Config):
    """Settings of BYOL."""

    momentum_target: Annotated[float, Field(ge=0, le=1)] = 0.996
    """Momentum of the target encoder at the start; it rises to 1 along a cosine. A short run wants less."""
    projector_sizes: list[PositiveInt] = [4096, 256]
    """Widths of the projector's layers."""
    predictor_sizes: list[PositiveInt] = [4096]
    """Widths of the predictor's hidden layers; what it puts out is as wide as what the projector puts out."""


class BYOL(Task):
    """An encoder trained to predict its own moving average, without negatives."""

    num_views: ClassVar[int] = 2
    model: Encoder

    def __init__(
        self,
        encoder: Encoder,
        *,
        momentum_target: float,
        projector_sizes: list[int],
        predictor_sizes: list[int],
    ) -> None:
        """The target starts as a copy of encoder and projector."""
        super().__init__()
        self.model = encoder
        sizes = [encoder.num_features, *projector_sizes]
        self.project = projector(sizes)
        self.predict = projector([sizes[-1], *predictor_sizes, sizes[-1]])
        self.target_model = copy_of(self.model)
        self.target_project = copy_of(self.project)
        self.momentum_target = momentum_target

    def before_step(self, progress: float) -> None:
        """Moves the target, equation 1; its BatchNorm keeps statistics of its own."""
        momentum = rising_momentum(self.momentum_target, progress)
        move_towards(self.target_model, self.model, momentum=momentum, buffers=False)
        move_towards(self.target_project, self.project, momentum=momentum, buffers=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss, each view predicting the other, and how spread out the targets are."""
        pa, pb = (self.predict(self.project(self.model(view))) for view in batch.views)
        with torch.no_grad():
            ta, tb = (self.target_project(self.target_model(view)) for view in batch.views)
        return {"loss": byol_loss(pa, tb) + byol_loss(pb, ta), "target_spread": spread(ta)}


@full_precision
def byol_loss(prediction: Float[Tensor, "B D"], target: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Equation 2, one direction: squared distance of the two after both got unit length; between 0 and 4."""
    p, t = functional.normalize(prediction, dim=1), functional.normalize(target, dim=1)
    return (p - t).square().sum(1).mean()


@full_precision
def spread(targets: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """1 less the mean similarity of all pairs of rows (with themselves too): 0 when all are the same."""
    return 1 - functional.normalize(targets, dim=1).mean(0).square().sum()
