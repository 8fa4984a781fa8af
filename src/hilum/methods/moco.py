"""MoCo v2: a view attracts its key, made by a slowly moving encoder; a queue of older keys repels it.

He et al. 2020, https://arxiv.org/abs/1911.05722; Chen et al. 2020, https://arxiv.org/abs/2003.04297
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from hilum.config import Config
from hilum.data.loader import Batch
from hilum.losses import full_precision
from hilum.models.ema import copy_of, move_towards
from hilum.models.encoder import Encoder
from hilum.models.projector import projector
from hilum.train.parallel import gather
from hilum.train.task import Task


class Settings(Config):
    """Settings of MoCo v2."""

    temperature: float = 0.2
    """Similarities are divided by it."""
    momentum_keys: float = 0.99
    """Momentum of the key encoder: 0.999 for a long run, less for a short one."""
    queue_size: int = 4096
    """Keys kept as negatives; any number, it wraps around."""
    projection_dim: int = 128
    """Width of the space in which radiographs are compared."""


class MoCo(Task):
    """An encoder trained by InfoNCE against a queue."""

    num_views: ClassVar[int] = 2
    model: Encoder
    queue: Tensor
    oldest: Tensor

    def __init__(
        self,
        encoder: Encoder,
        *,
        temperature: float,
        momentum_keys: float,
        queue_size: int,
        projection_dim: int,
    ) -> None:
        """The key encoder starts as a copy, the queue as random directions."""
        super().__init__()
        self.model = encoder
        # Without BatchNorm, as in MoCo v2: it lets a query recognise its batch, not its radiograph.
        self.project = projector([encoder.num_features, encoder.num_features, projection_dim], norm=False)
        self.key_model = copy_of(self.model)
        self.key_project = copy_of(self.project)
        self.temperature = temperature
        self.momentum_keys = momentum_keys
        self.register_buffer("queue", functional.normalize(torch.randn(queue_size, projection_dim), dim=1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.long))

    def before_step(self, progress: float) -> None:
        """Moves the key encoder, equation 2; its BatchNorm keeps statistics of its own."""
        move_towards(self.key_model, self.model, momentum=self.momentum_keys, buffers=False)
        move_towards(self.key_project, self.project, momentum=self.momentum_keys, buffers=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss, and how similar a query is to its key and to the queue."""
        query = functional.normalize(self.project(self.model(batch.views[0])).float(), dim=1)
        with torch.no_grad():
            key = functional.normalize(self.key_project(self.key_model(batch.views[1])).float(), dim=1)
        # The loss keeps the queue for its backward, so it gets its own copy before the queue moves on.
        negatives = self.queue.clone()
        loss = moco_loss(query, key, negatives, temperature=self.temperature)
        if self.training:
            self._enqueue(gather(key).detach())
        return {
            "loss": loss,
            "positive_similarity": (query * key).sum(1).mean().detach(),
            "negative_similarity": (query.mean(0) * negatives.mean(0)).sum().detach(),
        }

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        keys = keys[-len(self.queue) :]
        places = (self.oldest + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places] = keys.to(self.queue.dtype)
        self.oldest.copy_((self.oldest + len(keys)) % len(self.queue))


@full_precision
def moco_loss(
    query: Float[Tensor, "B D"], key: Float[Tensor, "B D"], queue: Float[Tensor, "K D"], *, temperature: float
) -> Float[Tensor, ""]:
    """Equation 1 of He et al.: of its own key and the K of the queue, each query's own is the right one.

    All rows have unit length.
    """
    positive = (query * key).sum(1, keepdim=True)
    logits = torch.cat([positive, query @ queue.T], 1) / temperature
    return functional.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))
