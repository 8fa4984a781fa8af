"""DINO: a student, from small crops too, tells what a slow average of it, the teacher, makes of large ones.

Caron et al. 2021, https://arxiv.org/abs/2104.14294. With `patch_weight` also iBOT (Zhou et al. 2022,
https://arxiv.org/abs/2111.07832): the student tells what the teacher makes of patches that it does not see.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from hilum.config import Config
from hilum.data.batch import Batch
from hilum.data.views import View, ViewRecipe
from hilum.errors import ConfigError
from hilum.losses import full_precision
from hilum.models.ema import copy_of, move_towards, rising_momentum
from hilum.models.encoder import Encoder
from hilum.models.masked import NUM_UNIFORMS, Hidden, hidden_patches, masked_tokens, pooled
from hilum.models.student import PrototypeHead, local_side_of, without_dropout
from hilum.train.parallel import mean_over_processes
from hilum.train.task import Task


class Settings(Config):
    """Settings of DINO and iBOT."""

    num_local: NonNegativeInt = 6
    """Small crops of each film that the student sees beside the two views that the teacher sees too."""
    local_side: NonNegativeInt = 0
    """Their side, pixels; 0: three sevenths of the image size, in whole cells of the last map (96 of 224)."""
    local_crop_min: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Smallest share of the film that they show. The paper's 0.05 is less than a zone of a lung."""
    local_crop_max: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Largest share of the film that they show."""
    num_prototypes: PositiveInt = 4096
    """Directions that an embedding is compared with; 65536 in the paper, for a million photographs."""
    projector_sizes: list[PositiveInt] = [2048, 2048, 256]
    """Widths of the projector's layers; the last is that of the unit vector that is compared."""
    freeze_prototypes: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of the run, at its start, in which prototypes stand still; one epoch of 100 in the paper."""
    momentum_teacher: Annotated[float, Field(ge=0, le=1)] = 0.996
    """Momentum of the teacher when the run starts; it rises to 1 along a cosine. The teacher is what is kept:
    a run of few thousand steps or less wants less, as 0.98."""
    student_temperature: PositiveFloat = 0.1
    """The student's similarities are divided by it."""
    teacher_temperature: PositiveFloat = 0.07
    """The teacher's are divided by it: the lower, the surer of its prototype the teacher is."""
    teacher_temperature_start: PositiveFloat = 0.04
    """The same when the run starts."""
    temperature_warmup: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Share of the run in which the teacher's temperature goes linearly from the one to the other."""
    momentum_centre: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Momentum of the mean of the teacher's outputs that is subtracted from them, against collapse."""
    patch_weight: Annotated[float, Field(ge=0)] = 0
    """Weight of iBOT's loss of hidden patches, 1 in its paper; needs a ViT. 0: plain DINO."""
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the patches that is hidden then, in one of the two views of each film."""

    @model_validator(mode="after")
    def _check_local_crops(self) -> "Settings":
        if self.local_crop_min > self.local_crop_max:
            low, high = self.local_crop_min, self.local_crop_max
            raise ValueError(f"local_crop_min {low} is above local_crop_max {high}")
        return self


class DINO(Task):
    """A student and its moving average, the teacher, which is kept: it is the better one (section 5.2).

    Embeddings and patches share the head, as in iBOT, but not the centre.
    """

    num_views: ClassVar[int] = 2
    model: Encoder
    centres: Tensor
    """The running means of the teacher's outputs: of embeddings, of patches."""
    temperature: Tensor
    """The teacher's, now."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        num_local: int,
        local_side: int,
        local_crop_min: float,
        local_crop_max: float,
        num_prototypes: int,
        projector_sizes: list[int],
        freeze_prototypes: float,
        momentum_teacher: float,
        student_temperature: float,
        teacher_temperature: float,
        teacher_temperature_start: float,
        temperature_warmup: float,
        momentum_centre: float,
        patch_weight: float,
        mask_ratio: float,
    ) -> None:
        """The teacher starts as a copy of the student.

        Raises:
            ConfigError: the encoder cannot see such small crops, or has no patches that could be hidden, or
                makes something longer of them.
        """
        super().__init__()
        self.num_local, self.local_crop = num_local, {"crop_min": local_crop_min, "crop_max": local_crop_max}
        self.local_side = local_side_of(encoder, asked=local_side) if num_local else 0
        self.hide = _hide(encoder, mask_ratio) if patch_weight else None
        self.student, self.model = encoder, without_dropout(copy_of(encoder))
        sizes = [encoder.num_features, *projector_sizes]
        self.student_head = PrototypeHead(sizes, num_prototypes=num_prototypes)
        self.teacher_head = copy_of(self.student_head)
        self.freeze_prototypes, self.momentum_teacher = freeze_prototypes, momentum_teacher
        self.student_temperature = student_temperature
        self.teacher_temperatures = teacher_temperature_start, teacher_temperature, temperature_warmup
        self.momentum_centre, self.patch_weight = momentum_centre, patch_weight
        self.register_buffer("centres", torch.zeros(2, num_prototypes))
        # A tensor and not a number, which a compiled task would be compiled for anew at every step.
        self.register_buffer("temperature", torch.tensor(0.0), persistent=False)
        self.mask_token = nn.Parameter(torch.zeros(encoder.num_channels)) if patch_weight else None
        self._ramp(0.0)

    def recipe(self, view: View, other: View) -> ViewRecipe:
        """The two views that the user set, then the small crops, which are else as the first."""
        local = replace(view.change(**self.local_crop, shift=1), side=self.local_side)
        return ViewRecipe((view, other, *[local] * self.num_local)).at(self.input)

    def before_step(self, progress: float) -> None:
        """Moves the teacher and its temperature, and sets the prototypes free."""
        momentum = rising_momentum(self.momentum_teacher, progress)
        move_towards(self.model, self.student, momentum=momentum, buffers=False)
        move_towards(self.teacher_head, self.student_head, momentum=momentum, buffers=False)
        self._ramp(progress)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss, and the signs of collapse of section 5.3.

        `kl`, the loss of views less the teacher's entropy, falls to 0 in every collapse: onto one prototype
        (`teacher_entropy` 0, `prototypes_used` 1), or onto none (both as high as they can be).
        """
        whole, local = torch.cat(batch.views[:2]), batch.views[2:]
        hidden = None if self.hide is None else Hidden.draw(batch.uniforms(NUM_UNIFORMS), *self.hide)
        with torch.no_grad():
            teacher = _see(self.model, self.teacher_head, whole, hidden, None)
        student = _see(self.student, self.student_head, whole, hidden, self.mask_token)
        crops = [self.student_head(self.student(torch.cat(local)))] if local else []
        by_view = -1, len(batch), self.centres.shape[1]
        targets = sharpened(teacher[0].view(by_view), self.centres[0], self.temperature)
        views = torch.cat([student[0], *crops]).view(by_view)
        loss = view_loss(views, targets, temperature=self.student_temperature)
        terms = {"loss": loss, **health(targets, loss.detach())}
        if hidden is not None:
            patch_targets = sharpened(teacher[1], self.centres[1], self.temperature)
            patch_loss = cross_entropy(student[1], patch_targets, temperature=self.student_temperature).mean()
            terms |= {"loss": loss + self.patch_weight * patch_loss, "patch_loss": patch_loss.detach()}
        if self.training:
            self._move_centres(teacher)
        return terms

    def _ramp(self, progress: float) -> None:
        start, end, warmup = self.teacher_temperatures
        self.temperature.fill_(end + (start - end) * max(0.0, 1 - progress / warmup) if warmup else end)
        self.student_head.frozen = progress < self.freeze_prototypes

    @torch.no_grad()
    def _move_centres(self, teacher: Sequence[Tensor]) -> None:
        for centre, outputs in zip(self.centres[: len(teacher)], teacher, strict=True):
            centre.lerp_(mean_over_processes(outputs.mean(0)), 1 - self.momentum_centre)


@full_precision
def sharpened(
    outputs: Float[Tensor, "*B K"], centre: Float[Tensor, " K"], temperature: Float[Tensor, ""]
) -> Float[Tensor, "*B K"]:
    """The teacher's probabilities: centring and sharpening, which avoid one collapse each (section 3.1)."""
    return ((outputs - centre) / temperature).softmax(-1)


@full_precision
def cross_entropy(
    student: Float[Tensor, "*B K"], targets: Float[Tensor, "*#B K"], *, temperature: float
) -> Float[Tensor, "*B"]:
    """H(targets, student's softmax) of each row, equation 2."""
    return -(targets * (student / temperature).log_softmax(-1)).sum(-1)


@full_precision
def view_loss(
    student: Float[Tensor, "V B K"], targets: Float[Tensor, "T B K"], *, temperature: float
) -> Float[Tensor, ""]:
    """Equation 3, as a mean: every view of the student against every view of the teacher but the same one.

    The teacher's T views are the first T of the student's, in the same order.
    """
    log_probabilities = (student / temperature).log_softmax(-1)
    pairs = -torch.einsum("tbk,vbk->tv", targets, log_probabilities) / targets.shape[1]
    others = ~torch.eye(*pairs.shape, dtype=torch.bool, device=pairs.device)
    return (pairs * others).sum() / (pairs.numel() - min(pairs.shape))


def health(targets: Float[Tensor, "T B K"], loss: Float[Tensor, ""]) -> dict[str, Tensor]:
    """How sure the teacher is, how far the student is from it, and over how many prototypes a batch spreads.

    Entropies are in nats; `prototypes_used` is the exponential of that of the mean target.
    """
    entropy = torch.special.entr(targets).sum(-1).mean()
    used = torch.special.entr(targets.mean((0, 1))).sum().exp()
    return {"teacher_entropy": entropy, "kl": loss - entropy, "prototypes_used": used}


def _hide(encoder: Encoder, mask_ratio: float) -> tuple[int, int]:
    if not encoder.has_patches:
        raise ConfigError(
            f"patch_weight hides patches, but arch {encoder.arch} is no ViT and has none; take "
            "--patch-weight 0, or --arch vit_small_patch16_224"
        )
    if encoder.num_features != encoder.num_channels:
        raise ConfigError(
            f"embeddings have {encoder.num_features} features, patches {encoder.num_channels}, so they "
            "cannot share a head; with --patch-weight take --combine weighted or mean"
        )
    return hidden_patches(encoder, mask_ratio)


def _see(
    encoder: Encoder, head: PrototypeHead, images: Tensor, hidden: Hidden | None, token: Tensor | None
) -> list[Tensor]:
    if hidden is None:
        return [head(encoder(images))]
    if token is None:
        prefix, patches = encoder.tokens(images)
    else:
        prefix, patches = masked_tokens(encoder, images, hidden.mask(), token)
    return [head(pooled(encoder, prefix, patches)), head(hidden.of(patches))]
