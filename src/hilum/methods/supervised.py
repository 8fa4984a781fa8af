"""Cross entropy on labels: supervised pretraining, and fine-tuning, which is the same with another purpose.

The masking of unknown labels follows Cohen et al. 2020, https://arxiv.org/abs/2002.02497
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from hilum.config import Config
from hilum.data.loader import Batch
from hilum.losses import masked_bce, masked_cross_entropy
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.train.parallel import mean_over_processes
from hilum.train.task import Task


class Settings(Config):
    """Settings of supervised pretraining."""

    exclusive: bool = False
    """Exactly one finding is present in each radiograph: softmax in place of a sigmoid per finding."""


class Supervised(Task):
    """A classifier trained by binary cross entropy, or by softmax when findings are exclusive."""

    needs: ClassVar[frozenset[str]] = frozenset({"labels", "findings"})
    model: Classifier

    def __init__(
        self, encoder: Encoder, *, findings: Sequence[str], exclusive: bool, freeze: bool = False
    ) -> None:
        """A new head on the encoder; with `freeze` the head is all that is trained."""
        super().__init__()
        self.model = Classifier(encoder, findings, exclusive=exclusive)
        self.freeze = freeze
        if freeze:
            encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> "Supervised":
        """Training mode, but for a frozen encoder."""
        super().train(mode)
        if self.freeze:
            self.model.encoder.eval()  # a frozen encoder keeps its BatchNorm statistics too
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss over the labels that are known."""
        if self.freeze:
            with torch.no_grad():
                embedding = self.model.encoder(batch.views[0])
            logits = self.model.head(embedding)
        else:
            logits = self.model(batch.views[0])
        loss = masked_cross_entropy if self.model.exclusive else masked_bce
        known = (~batch.labels.isnan()).sum().float()
        # Processes that know more labels weigh more: together they take the mean over all known labels.
        return {"loss": loss(logits, batch.labels) * known / mean_over_processes(known).clamp(min=1)}
