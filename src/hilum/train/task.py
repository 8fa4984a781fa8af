"""A model with its loss."""

import abc
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from hilum.data.batch import Batch
from hilum.data.views import View, ViewRecipe
from hilum.images.spec import InputSpec
from hilum.models.classifier import Classifier
from hilum.models.detector import Detector
from hilum.models.encoder import Encoder


class Task(nn.Module, abc.ABC):
    """What the loop trains: every pretext task and every downstream task.

    For each batch the loop calls `before_step`, `forward`, then the optimiser.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """What it cannot do without: labels or text in a radiograph's row, findings (names, an argument),
    patches (an encoder that is a ViT)."""
    unlabelled: ClassVar[bool] = False
    """Whether radiographs without any label are trained on too, where labels are needed."""
    num_views: ClassVar[int] = 1
    """How many augmented views of a radiograph a batch holds."""
    columns: Sequence[str] = ()
    """Columns of the records whose cells it reads, as `Batch.codes`."""
    scales: Mapping[str, float] = {}
    """What the learning rate is multiplied by, by the names of weights; of the others it is 1."""
    restart: float = 0.0
    """Share of the run after which the schedule of the learning rate starts anew; 0: never."""
    model: Encoder | Classifier | Detector
    """What is kept; the rest is thrown away."""

    @property
    def input(self) -> InputSpec:
        """What the encoder wants to see."""
        return (self.model if isinstance(self.model, Encoder) else self.model.encoder).input

    def recipe(self, view: View, other: View) -> ViewRecipe:
        """The views of a radiograph in a batch: the two that the user set in turn, at the encoder's size."""
        return ViewRecipe(tuple((view, other)[i % 2] for i in range(self.num_views))).at(self.input)

    def place(self, device: torch.device) -> None:
        """Puts it on a device, in the layout that is fastest there."""
        self.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @abc.abstractmethod
    def forward(self, batch: Batch) -> Mapping[str, Tensor]:
        """Scalars of a batch: "loss" is minimised, all are logged."""

    def extras(self) -> Mapping[str, bytes]:
        """Files to keep in the run beside the model, by their names: a text tower, say."""
        return {}

    def before_step(self, progress: float) -> None:
        """Moves averages and ramps: depends on progress in [0, 1] and the weights alone; resuming agrees."""
