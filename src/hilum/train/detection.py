"""The task that trains a detector: what all of them share beside their losses."""

import abc
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hilum.data.batch import Batch
from hilum.errors import ConfigError
from hilum.losses import masked_cross_entropy
from hilum.models.detector import Detector, Raw
from hilum.train.task import Task


class DetectionTask(Task):
    """A detector with its loss; the encoder may be held still for a share of the run, or for all of it."""

    needs: ClassVar[frozenset[str]] = frozenset({"boxes"})
    model: Detector

    def __init__(
        self,
        model: Detector,
        *,
        freeze: float,
        frozen_norm: bool,
        part_scales: Mapping[str, float],
        film_weight: float,
    ) -> None:
        """What of the model is trained, and how fast.

        Args:
            model: the detector.
            freeze: share of the run in which the encoder's weights stay; 1: always.
            frozen_norm: whether its BatchNorm statistics stay as they came; always while it is frozen.
            part_scales: learning rates of parts of the model, by their names, over that of the rest.
            film_weight: of the loss of telling whole films apart, by `Batch.labels`, a column per class.

        Raises:
            ConfigError: the model has no such part.
        """
        super().__init__()
        self.model = model
        self.freeze, self.frozen_norm, self.film_weight = freeze, frozen_norm, film_weight
        self.still = freeze > 0
        parts = {name.split(".", 1)[0] for name, _ in model.named_parameters()}
        strangers = [part for part in part_scales if part not in parts]
        if strangers:
            raise ConfigError(
                f"--part-lr names {strangers[0]!r}; the parts of {model.name} are {', '.join(sorted(parts))}"
            )
        self.scales = {
            name: part_scales[part]
            for name, _ in self.named_parameters()
            if (part := name.split(".")[1]) in part_scales
        }
        if freeze >= 1:
            model.encoder.requires_grad_(False)

    def place(self, device: torch.device) -> None:
        """Puts it on a device, in the layout that is fastest there."""
        self.to(device)
        self.model.place(device)

    def train(self, mode: bool = True) -> "DetectionTask":
        """Training mode, but for what is frozen."""
        super().train(mode)
        for part in self.model.encoder.modules():
            if self.still or (self.frozen_norm and isinstance(part, nn.modules.batchnorm._BatchNorm)):
                part.eval()
        return self

    def before_step(self, progress: float) -> None:
        """Holds the encoder still in the first share of the run."""
        if 0 < self.freeze < 1:
            self.still = progress < self.freeze
            self.model.encoder.requires_grad_(not self.still)
            self.train()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss and its terms."""
        (images,) = batch.views
        assert batch.boxes is not None
        raw = self.model(images)
        terms = dict(self.losses(raw, batch.boxes, images.shape[-1]))
        loss = sum(terms.values(), start=images.new_zeros(()))
        if self.model.classes:
            terms["film"] = masked_cross_entropy(raw["film"], batch.labels)
            loss = loss + self.film_weight * terms["film"]
        return {"loss": loss} | {f"{name}_loss": term.detach() for name, term in terms.items()}

    @abc.abstractmethod
    def losses(self, raw: Raw, boxes: Float[Tensor, "B M 5"], side: int) -> Mapping[str, Tensor]:
        """The terms whose sum is minimised, each as it counts."""
