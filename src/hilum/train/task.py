"""A model with its loss."""

import abc
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from hilum.data.loader import Batch
from hilum.images.spec import InputSpec
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder


class Task(nn.Module, abc.ABC):
    """What the loop trains: every pretext task and every downstream task.

    For each batch the loop calls `before_step`, `forward`, then the optimiser.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """What a radiograph's row must have: labels, boxes, text."""
    num_views: ClassVar[int] = 1
    """How many augmented views of a radiograph a batch holds."""
    model: Encoder | Classifier
    """What is kept; the rest is thrown away."""

    @property
    def input(self) -> InputSpec:
        """What the encoder wants to see."""
        return (self.model if isinstance(self.model, Encoder) else self.model.encoder).input

    @abc.abstractmethod
    def forward(self, batch: Batch) -> Mapping[str, Tensor]:
        """Scalars of a batch: "loss" is minimised, all are logged."""

    def before_step(self, progress: float) -> None:
        """Moves averages and ramps: depends on progress in [0, 1] and the weights alone; resuming agrees."""
