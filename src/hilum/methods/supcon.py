"""SupCon: radiographs with the same findings attract, all others of the batch repel.

Khosla et al. 2020, https://arxiv.org/abs/2004.11362

The paper has one label per image. What makes two radiographs with several findings a pair, and what an
unknown finding does, is said by `positive_weights`.
"""

from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional

from hilum.config import Config
from hilum.data.batch import Batch
from hilum.losses import full_precision, refuse_one
from hilum.models.encoder import Encoder
from hilum.models.projector import projector
from hilum.train.parallel import gather, places, world
from hilum.train.task import Task


class Settings(Config):
    """Settings of SupCon."""

    temperature: PositiveFloat = 0.07
    """Similarities are divided by it: lower looks harder at the nearest radiographs."""
    base_temperature: PositiveFloat = 0.07
    """The loss is multiplied by temperature / base_temperature: gradients then keep their size."""
    projector_sizes: list[PositiveInt] = [2048, 128]
    """Widths of the projector's layers, ReLU between them; one number is a linear projector."""
    contrast_mode: Literal["all", "one"] = "all"
    """Which views ask for their like: both of a radiograph, or the first alone; all views answer."""
    shared: Literal["identical", "any", "jaccard", "per_finding"] = "identical"
    """What attracts: equal findings, one that both have, their Jaccard index, or each finding in turn."""


class SupCon(Task):
    """An encoder trained by contrast between findings; where none is known, between radiographs as SimCLR."""

    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    unlabelled: ClassVar[bool] = True
    num_views: ClassVar[int] = 2
    model: Encoder

    def __init__(
        self,
        encoder: Encoder,
        *,
        temperature: float,
        base_temperature: float,
        projector_sizes: list[int],
        contrast_mode: Literal["all", "one"],
        shared: Literal["identical", "any", "jaccard", "per_finding"],
    ) -> None:
        """Puts a projector without BatchNorm, as in the authors' code, on the encoder."""
        super().__init__()
        self.model = encoder
        self.project = projector([encoder.num_features, *projector_sizes], norm=False)
        self.temperature = temperature
        self.base_temperature = base_temperature
        self.contrast_mode = contrast_mode
        self.shared = shared

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss, how similar the views of a radiograph are, and how many others attract it on average."""
        refuse_one(len(batch) * world())
        both = torch.cat(batch.views)  # one batch of 2B for BatchNorm too, as the authors' code has it
        za, zb = functional.normalize(self.project(self.model(both)).float(), dim=1).chunk(2)
        weights = positive_weights(
            batch.labels,
            gather(batch.labels),
            itself=places(len(batch), za.device),
            shared=self.shared,
        )
        loss = supcon_loss(
            za,
            zb,
            weights=weights,
            temperature=self.temperature,
            base_temperature=self.base_temperature,
            contrast_mode=self.contrast_mode,
        )
        return {
            "loss": loss,
            "positive_similarity": (za * zb).sum(1).mean().detach(),
            "positives": (weights > 0).sum(1).float().mean() - 1,
        }


@full_precision
def positive_weights(
    labels: Float[Tensor, "B F"],
    others: Float[Tensor, "K F"],
    *,
    itself: Int[Tensor, " B"],
    shared: Literal["identical", "any", "jaccard", "per_finding"],
) -> Float[Tensor, "B K"]:
    """How much each radiograph attracts each of the others, among which `itself[i]` is radiograph i.

    A finding counts between two radiographs where it is known of both, and is passed over otherwise: what is
    unknown makes no pair and prevents none. Of the findings that count,

    - identical: 1 if they agree in all, and there is any;
    - any: 1 if both have one of them;
    - jaccard: those that both have, as a share of those that either has; 1 if both are known to have none;
    - per_finding: weights that make the loss the mean of a loss per finding, in which two radiographs attract
      if both have the finding or both lack it.

    A radiograph goes with itself always: of one without known findings, the other view is all that attracts.
    """
    own = functional.one_hot(itself, len(others))
    has, lacks = (labels == 1).float(), (labels == 0).float()
    other_has, other_lacks = (others == 1).float(), (others == 0).float()
    both, neither = has @ other_has.T, lacks @ other_lacks.T
    different = has @ other_lacks.T + lacks @ other_has.T
    if shared == "any":
        return (both > 0).float().maximum(own)
    if shared == "identical":
        return ((different == 0) & (both + neither > 0)).float().maximum(own)
    if shared == "jaccard":
        index = both / (both + different).clamp(min=1)
        return torch.where(both + different > 0, index, (neither > 0).float()).maximum(own)
    alike = torch.einsum("bf,kf->fbk", has, other_has) + torch.einsum("bf,kf->fbk", lacks, other_lacks)
    alike = alike.maximum(own)
    # Both views of everybody attract an anchor, but for the anchor itself.
    return (alike / (2 * alike.sum(2, keepdim=True) - 1)).mean(0)


@full_precision
def supcon_loss(
    za: Float[Tensor, "B D"],
    zb: Float[Tensor, "B D"],
    *,
    temperature: float,
    base_temperature: float,
    weights: Float[Tensor, "B K"] | None = None,
    contrast_mode: Literal["all", "one"] = "all",
) -> Float[Tensor, ""]:
    """Equation 2 of the paper (the sum outside the logarithm), weighted, averaged over the anchors.

    Rows of both have unit length and row i of both comes from radiograph i. With several processes the
    anchors are this process's, and the K radiographs that they are compared with are everybody's.

    Args:
        za: first views.
        zb: second views.
        temperature: tau of the paper.
        base_temperature: the loss is multiplied by temperature / base_temperature.
        weights: how much radiograph k attracts anchor i, from 0; a mask is a special case, and need not be
            symmetric. None: only the other view of the same radiograph attracts, which is NT-Xent.
        contrast_mode: whether both views are anchors, or the first alone.

    An anchor that nothing attracts adds 0 to the sum, and counts in the mean.
    """
    keys = torch.cat([gather(za), gather(zb)])
    mine = places(len(za), za.device)
    count = len(keys) // 2
    if weights is None:
        weights = functional.one_hot(mine, count).to(za.dtype)
    anchors = [(za, mine), (zb, mine + count)][: 2 if contrast_mode == "all" else 1]
    terms = [
        _attraction(z, keys, weights.repeat(1, 2), functional.one_hot(itself, len(keys)).bool(), temperature)
        for z, itself in anchors
    ]
    return temperature / base_temperature * torch.cat(terms).mean()


def _attraction(
    z: Float[Tensor, "B D"],
    keys: Float[Tensor, "N D"],
    weights: Float[Tensor, "B N"],
    itself: Bool[Tensor, "B N"],
    temperature: float,
) -> Float[Tensor, " B"]:
    """The negative mean logarithm of the probability of an anchor's positives, one number per anchor."""
    logits = z @ keys.T / temperature
    log_probability = logits - logits.masked_fill(itself, float("-inf")).logsumexp(1, keepdim=True)
    weights = weights.masked_fill(itself, 0)
    total = weights.sum(1)
    return -(weights * log_probability).sum(1) / torch.where(total > 0, total, 1)
