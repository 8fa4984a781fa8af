"""Cross entropy on labels: supervised pretraining, and fine-tuning, which is the same with another purpose.

The masking of unknown labels follows Cohen et al. 2020, https://arxiv.org/abs/2002.02497
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from hilum.config import Config
from hilum.data.batch import Batch
from hilum.errors import ConfigError
from hilum.losses import (
    beta_quantiles,
    masked_asymmetric,
    masked_bce,
    masked_cross_entropy,
    masked_focal,
    masked_focal_softmax,
    mixed_in_pairs,
    smoothed,
)
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.train.optim import EVERYTHING, Fitting
from hilum.train.parallel import mean_over_processes, world
from hilum.train.task import Task


class Settings(Config):
    """Settings of supervised pretraining."""

    exclusive: bool = False
    """Exactly one finding is present in each radiograph: softmax in place of a sigmoid per finding."""
    weighting: Literal["none", "balanced"] = "none"
    """balanced: of each finding, positives and negatives count alike in sum; if exclusive, all findings do.
    Their numbers are those of the labels trained on so far."""
    loss: Literal["cross_entropy", "focal", "asymmetric"] = "cross_entropy"
    """focal (Lin 2017) and asymmetric (Ridnik 2020) weigh labels less that are easy already; asymmetric is
    for findings that may be present together."""
    focal_gamma: NonNegativeFloat = 2.0
    """focal: how much less; 0 is cross_entropy."""
    gamma_positive: NonNegativeFloat = 0.0
    """asymmetric: the same of positives."""
    gamma_negative: NonNegativeFloat = 4.0
    """asymmetric: the same of negatives."""
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """asymmetric: negatives of a lower probability weigh nothing, and that of others is lowered by it."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """How much of each label is spread evenly over 1 and 0; if exclusive, over the findings."""
    mixup: NonNegativeFloat = 0.0
    """Radiographs are mixed in pairs with their labels, by shares from Beta(mixup, mixup); 0: none are. A
    label that is unknown in either is unknown."""


_DEFAULT = Settings()


class Supervised(Task):
    """A classifier trained by binary cross entropy, or by softmax when findings are exclusive."""

    needs: ClassVar[frozenset[str]] = frozenset({"labels", "findings"})
    model: Classifier
    positives: Tensor
    negatives: Tensor
    quantiles: Tensor
    """Of the shares that radiographs are mixed by."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        findings: Sequence[str],
        exclusive: bool,
        weighting: Literal["none", "balanced"] = _DEFAULT.weighting,
        loss: Literal["cross_entropy", "focal", "asymmetric"] = _DEFAULT.loss,
        focal_gamma: float = _DEFAULT.focal_gamma,
        gamma_positive: float = _DEFAULT.gamma_positive,
        gamma_negative: float = _DEFAULT.gamma_negative,
        margin: float = _DEFAULT.margin,
        label_smoothing: float = _DEFAULT.label_smoothing,
        mixup: float = _DEFAULT.mixup,
        fitting: Fitting = EVERYTHING,
    ) -> None:
        """A new head on the encoder; `fitting` says what of both is trained, and how fast.

        Raises:
            ConfigError: the loss is asymmetric and findings are exclusive.
        """
        super().__init__()
        if exclusive and loss == "asymmetric":
            raise ConfigError(
                "loss asymmetric is for findings that may be present together; for exclusive ones use focal"
            )
        self.loss, self.focal_gamma = loss, focal_gamma
        self.asymmetry = {
            "gamma_positive": gamma_positive,
            "gamma_negative": gamma_negative,
            "margin": margin,
        }
        self.label_smoothing, self.mixup = label_smoothing, mixup
        if mixup:
            self.register_buffer("quantiles", beta_quantiles(mixup), persistent=False)
        self.model = Classifier(encoder, findings, exclusive=exclusive)
        self.weighting = weighting
        self.register_buffer("positives", torch.zeros(len(findings), dtype=torch.long))
        self.register_buffer("negatives", torch.zeros(len(findings), dtype=torch.long))
        self.still = fitting.prepare(encoder)
        self.scales = {f"model.{name}": scale for name, scale in fitting.scales(self.model).items()}
        self.restart = fitting.head_first
        self.waiting = [w for w in encoder.parameters() if w.requires_grad] if fitting.head_first else []
        self.head_alone = False

    def train(self, mode: bool = True) -> "Supervised":
        """Training mode, but for what is frozen."""
        super().train(mode)
        for part in [self.model.encoder] if self.head_alone else self.still:
            part.eval()  # what is frozen keeps its BatchNorm statistics too
        return self

    def before_step(self, progress: float) -> None:
        """Holds the encoder still in the first share of the run where the head comes first."""
        if self.waiting:
            self.head_alone = progress < self.restart
            for weight in self.waiting:
                weight.requires_grad_(not self.head_alone)
            self.train()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss over the labels that are known."""
        images, labels = batch.views[0], batch.labels
        if self.training and self.weighting == "balanced":
            self._count(labels)
        if self.model.exclusive:  # a radiograph is known as a whole: where a finding is 1
            present = labels == 1
            labels = torch.where(present.any(1, keepdim=True), present.to(labels), torch.nan)
        if self.training:
            labels = smoothed(labels, self.label_smoothing, exclusive=self.model.exclusive)
        if self.training and self.mixup:
            drawn = batch.uniforms(1)[:, 0]
            images, labels = (mixed_in_pairs(part, drawn, self.quantiles) for part in (images, labels))
        loss = self._loss(self.model(images), labels)
        known = ~labels.isnan()
        count = (known.any(1) if self.model.exclusive else known).sum().float()
        # Processes that know more labels weigh more: together they take the mean over all known labels.
        return {"loss": loss * count / mean_over_processes(count).clamp(min=1)}

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over the labels, or if exclusive the radiographs, that are known."""
        weight = self._weights()
        if self.model.exclusive and self.loss == "focal":
            return masked_focal_softmax(logits, labels, gamma=self.focal_gamma, weight=weight)
        if self.model.exclusive:
            return masked_cross_entropy(logits, labels, weight=weight)
        if self.loss == "focal":
            return masked_focal(logits, labels, gamma=self.focal_gamma, positive_weight=weight)
        if self.loss == "asymmetric":
            return masked_asymmetric(logits, labels, positive_weight=weight, **self.asymmetry)
        return masked_bce(logits, labels, positive_weight=weight)

    def _count(self, labels: Tensor) -> None:
        # Counted along the way, since neither the batch alone (a rare finding is in few) nor the settings
        # (which would have to be computed by hand, in the right order) know the training set's numbers.
        for total, found in ((self.positives, labels == 1), (self.negatives, labels == 0)):
            total += (mean_over_processes(found.sum(0).float()) * world()).round().long()

    def _weights(self) -> Tensor | None:
        """Of the positives of each finding: negatives per positive; if exclusive, what makes their mean 1."""
        if self.weighting == "none":
            return None
        positives = self.positives.clamp(min=1).float()
        if self.model.exclusive:
            return self.positives.sum() / (len(positives) * positives)
        return self.negatives.clamp(min=1) / positives
