"""Cross entropy on labels: supervised pretraining, and fine-tuning, which is the same with another purpose.

The masking of unknown labels follows Cohen et al. 2020, https://arxiv.org/abs/2002.02497
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hilum.config import Config
from hilum.data.loader import Batch
from hilum.losses import masked_bce, masked_cross_entropy
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.train.parallel import mean_over_processes, world
from hilum.train.task import Task


class Settings(Config):
    """Settings of supervised pretraining."""

    exclusive: bool = False
    """Exactly one finding is present in each radiograph: softmax in place of a sigmoid per finding."""
    weighting: Literal["none", "balanced"] = "none"
    """balanced: of each finding, positives and negatives count alike in sum; if exclusive, all findings do.
    Their numbers are those of the labels trained on so far."""


class Supervised(Task):
    """A classifier trained by binary cross entropy, or by softmax when findings are exclusive."""

    needs: ClassVar[frozenset[str]] = frozenset({"labels", "findings"})
    model: Classifier
    positives: Tensor
    negatives: Tensor

    def __init__(
        self,
        encoder: Encoder,
        *,
        findings: Sequence[str],
        exclusive: bool,
        weighting: Literal["none", "balanced"] = "none",
        freeze: bool = False,
    ) -> None:
        """A new head on the encoder; with `freeze` the head is all that is trained."""
        super().__init__()
        self.model = Classifier(encoder, findings, exclusive=exclusive)
        self.weighting = weighting
        self.register_buffer("positives", torch.zeros(len(findings), dtype=torch.long))
        self.register_buffer("negatives", torch.zeros(len(findings), dtype=torch.long))
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
        if self.training and self.weighting == "balanced":
            self._count(batch.labels)
        labels = batch.labels
        if self.model.exclusive:
            loss = masked_cross_entropy(logits, labels, weight=self._weights())
            known = (labels == 1).any(1).sum().float()
        else:
            loss = masked_bce(logits, labels, positive_weight=self._weights())
            known = (~labels.isnan()).sum().float()
        # Processes that know more labels weigh more: together they take the mean over all known labels.
        return {"loss": loss * known / mean_over_processes(known).clamp(min=1)}

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
