"""Pseudo-labels: what a model is sure of in one view becomes the label of the other, where there is none.

Lee 2013, as in Arazo et al. 2020, https://arxiv.org/abs/1908.02983; threshold and two views after Sohn et
al. 2020 (FixMatch), https://arxiv.org/abs/2001.07685
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat
from torch import Tensor
from torch.nn import functional

from hilum.config import Config
from hilum.data.batch import Batch
from hilum.methods.mean_teacher import ramp, sum_on_labels
from hilum.models.classifier import Classifier
from hilum.models.ema import copy_of, move_towards
from hilum.models.encoder import Encoder
from hilum.train.parallel import mean_over_processes
from hilum.train.task import Task


class Settings(Config):
    """Settings of pseudo-labels."""

    exclusive: bool = False
    """Exactly one finding is present in each radiograph: softmax in place of a sigmoid per finding."""
    threshold: Annotated[float, Field(ge=0.5, le=1)] = 0.9
    """Probability that a finding is present, or absent, from which that becomes its label. If exclusive: that
    it is the one present."""
    pseudo_weight: NonNegativeFloat = 1.0
    """What the loss on such labels counts beside that on known ones, after the ramp-up."""
    ramp_up: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the run in which that weight rises from almost nothing."""
    momentum_teacher: Annotated[float, Field(ge=0, le=1)] = 0.99
    """Momentum of the teacher, a moving average of the student, which makes pseudo-labels and is kept; 0: the
    student makes its own."""


class PseudoLabel(Task):
    """A student, and a teacher that labels what is not labelled; the teacher is kept.

    The teacher sees the second view: `--other-view` makes it a milder one than the student's, as FixMatch
    does. Its BatchNorm goes by the batch, and keeps running statistics that fit its own weights.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels", "findings"})
    unlabelled: ClassVar[bool] = True
    num_views: ClassVar[int] = 2
    model: Classifier
    student: Classifier
    weight: Tensor
    """Of the loss on pseudo-labels, now."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        findings: Sequence[str],
        exclusive: bool,
        threshold: float,
        pseudo_weight: float,
        ramp_up: float,
        momentum_teacher: float,
    ) -> None:
        """The teacher starts as a copy of the student, a new head on the encoder."""
        super().__init__()
        self.student = Classifier(encoder, findings, exclusive=exclusive)
        self.model = copy_of(self.student)
        self.threshold, self.pseudo_weight = threshold, pseudo_weight
        self.ramp_up, self.momentum_teacher = ramp_up, momentum_teacher
        # A tensor and not a number, which a compiled task would be compiled for anew at every step.
        self.register_buffer("weight", torch.tensor(pseudo_weight * ramp(0.0, ramp_up)), persistent=False)

    def before_step(self, progress: float) -> None:
        """Moves the teacher, and raises the weight of its labels."""
        move_towards(self.model, self.student, momentum=self.momentum_teacher, buffers=False)
        self.weight.fill_(self.pseudo_weight * ramp(progress, self.ramp_up))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss and its two terms; the share of what is unknown that was labelled, and of it as present.

        Unknown are findings, also of radiographs with other labels; if findings are exclusive, radiographs.
        """
        exclusive = self.model.exclusive
        student = self.student(batch.views[0])
        with torch.no_grad():
            probabilities = self.model.probabilities(self.model(batch.views[1]).float())
        made = pseudo_labels(probabilities, batch.labels, threshold=self.threshold, exclusive=exclusive)
        unknown = (~(batch.labels == 1).any(1) if exclusive else batch.labels.isnan()).sum()
        supervised, known = sum_on_labels(student, batch.labels, exclusive=exclusive)
        pseudo, sure = sum_on_labels(student, made, exclusive=exclusive)
        # As in FixMatch: the fewer the teacher is sure of, the less they count in all.
        pseudo = pseudo / mean_over_processes(unknown.float()).clamp(min=1)
        supervised = supervised / mean_over_processes(known.float()).clamp(min=1)
        return {
            "loss": supervised + self.weight * pseudo,
            "supervised": supervised.detach(),
            "pseudo": pseudo.detach(),
            "pseudo_weight": self.weight.clone(),
            "pseudo_labelled": sure / unknown.clamp(min=1),
            "pseudo_positive": (made == 1).sum() / sure.clamp(min=1),
        }


def pseudo_labels(
    probabilities: Float[Tensor, "B F"], labels: Float[Tensor, "B F"], *, threshold: float, exclusive: bool
) -> Float[Tensor, "B F"]:
    """1 or 0 where labels are unknown and probabilities sure enough, NaN elsewhere.

    If findings are exclusive, a radiograph is unknown as a whole: where no label is 1.
    """
    nothing = torch.full_like(probabilities, torch.nan)
    if exclusive:
        best, finding = probabilities.max(1)
        sure = (best >= threshold) & ~(labels == 1).any(1)
        one = functional.one_hot(finding, labels.shape[1]).to(probabilities.dtype)
        return torch.where(sure[:, None], one, nothing)
    present = (probabilities >= 0.5).to(probabilities.dtype)
    sure = torch.where(present == 1, probabilities, 1 - probabilities) >= threshold
    return torch.where(sure & labels.isnan(), present, nothing)
