"""Mean teacher: labels where they are known, and everywhere agreement with a moving average of the model.

Tarvainen and Valpola 2017, https://arxiv.org/abs/1703.01780; on chest radiographs Liu et al. 2021 (S2MTS2),
https://arxiv.org/abs/2103.03629, who begin from an encoder pretrained without labels (`--init`).
"""

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeFloat
from torch import Tensor
from torch.nn import functional

from hilum.config import Config
from hilum.data.batch import Batch
from hilum.losses import full_precision, masked_bce, masked_cross_entropy
from hilum.models.classifier import Classifier
from hilum.models.ema import copy_of, move_towards
from hilum.models.encoder import Encoder
from hilum.train.parallel import mean_over_processes
from hilum.train.task import Task

_YOUNG = 0.99


class Settings(Config):
    """Settings of the mean teacher."""

    exclusive: bool = False
    """Exactly one finding is present in each radiograph: softmax in place of a sigmoid per finding."""
    consistency: Literal["probabilities", "logits"] = "probabilities"
    """What student and teacher agree on; logits differ by far more, and need a lower weight."""
    consistency_weight: NonNegativeFloat = 1.0
    """What their disagreement, a mean square, counts beside the loss on labels, after the ramp-up."""
    ramp_up: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the run in which that weight rises from almost nothing."""
    momentum_teacher: Annotated[float, Field(ge=0, le=1)] = 0.99
    """Momentum of the teacher: 0.999 for a long run, less for a short one; 0.99 at most in the ramp-up. The
    teacher is what is kept: it needs no `ema`."""


class MeanTeacher(Task):
    """A student, and its moving average, the teacher, which is kept: it is the better one (section 3).

    The student sees the first view and the teacher the second. As in the paper's code the teacher is in
    training mode: its BatchNorm goes by the batch, and keeps running statistics that fit its own weights.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels", "findings"})
    unlabelled: ClassVar[bool] = True
    num_views: ClassVar[int] = 2
    model: Classifier
    student: Classifier
    weight: Tensor
    """Of the disagreement, now."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        findings: Sequence[str],
        exclusive: bool,
        consistency: Literal["probabilities", "logits"],
        consistency_weight: float,
        ramp_up: float,
        momentum_teacher: float,
    ) -> None:
        """The teacher starts as a copy of the student, a new head on the encoder."""
        super().__init__()
        self.student = Classifier(encoder, findings, exclusive=exclusive)
        self.model = copy_of(self.student)
        self.consistency, self.consistency_weight = consistency, consistency_weight
        self.ramp_up, self.momentum_teacher = ramp_up, momentum_teacher
        # A tensor and not a number, which a compiled task would be compiled for anew at every step.
        self.register_buffer(
            "weight", torch.tensor(consistency_weight * ramp(0.0, ramp_up)), persistent=False
        )

    def before_step(self, progress: float) -> None:
        """Moves the teacher, and raises the weight of agreeing with it."""
        young = progress < self.ramp_up  # the student improves fast, and what it was is to be forgotten
        momentum = min(self.momentum_teacher, _YOUNG) if young else self.momentum_teacher
        move_towards(self.model, self.student, momentum=momentum, buffers=False)
        self.weight.fill_(self.consistency_weight * ramp(progress, self.ramp_up))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss, and its two terms: labels of those that have any, agreement on all."""
        student = self.student(batch.views[0])
        with torch.no_grad():
            teacher = self.model(batch.views[1])
        supervised, known = sum_on_labels(student, batch.labels, exclusive=self.model.exclusive)
        # A process that knows more labels weighs more: together they take the mean over all known labels.
        supervised = supervised / mean_over_processes(known.float()).clamp(min=1)
        if self.consistency == "probabilities":
            student, teacher = (self.model.probabilities(logits.float()) for logits in (student, teacher))
        disagreement = mean_square(student, teacher)
        return {
            "loss": supervised + self.weight * disagreement,
            "supervised": supervised.detach(),
            "disagreement": disagreement.detach(),
            "consistency_weight": self.weight.clone(),
        }


def ramp(progress: float, length: float) -> float:
    """Rises from exp(-5) to 1 while progress rises to `length` (section 4), and stays there.

    >>> [round(ramp(progress, 0.5), 3) for progress in (0.0, 0.25, 0.5, 1.0)]
    [0.007, 0.287, 1.0, 1.0]
    """
    return 1.0 if progress >= length else math.exp(-5 * (1 - progress / length) ** 2)


def sum_on_labels(
    logits: Float[Tensor, "B F"], labels: Float[Tensor, "B F"], *, exclusive: bool
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """Cross entropy in sum over the labels that are known, and how many these are.

    If findings are exclusive, a radiograph is known as a whole: where a label is 1.
    """
    if exclusive:
        known = (labels == 1).any(1).sum()
        return masked_cross_entropy(logits, labels) * known, known
    known = (~labels.isnan()).sum()
    return masked_bce(logits, labels) * known, known


@full_precision
def mean_square(student: Float[Tensor, "B F"], teacher: Float[Tensor, "B F"]) -> Float[Tensor, ""]:
    """Equation 1 with outputs in place of the expectation, a mean over findings too."""
    return functional.mse_loss(student, teacher)
