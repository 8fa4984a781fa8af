"""MoCo v2: a view attracts its key, made by a slowly moving encoder; a queue of older keys repels it.

He et al. 2020, https://arxiv.org/abs/1911.05722; Chen et al. 2020, https://arxiv.org/abs/2003.04297.
Negatives chosen by metadata: Vu et al. 2021 (MedAug), https://arxiv.org/abs/2102.10663.

Queries and keys of one batch share its BatchNorm statistics and older keys do not, so a key can be known by
them alone. He et al. (section 3.3) saw it with 32 images per GPU and shuffled keys among GPUs. Here
statistics are those of the whole batch on all processes, which vary less from batch to batch;
`shuffle_groups` shuffles all the same: it splits that batch into groups with statistics of their own, queries
in their order and keys permuted. Either way the result is that of one process, however many there are.
"""

import math
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional

from hilum.config import Config
from hilum.data.batch import Batch
from hilum.errors import ConfigError
from hilum.losses import full_precision, refuse_one
from hilum.models.ema import copy_of, move_towards, rising_momentum
from hilum.models.encoder import Encoder
from hilum.models.projector import projector
from hilum.train.parallel import gather, places, rank, world
from hilum.train.task import Task

_UNKNOWN = -1


class Settings(Config):
    """Settings of MoCo v2."""

    temperature: PositiveFloat = 0.2
    """Similarities are divided by it."""
    momentum_keys: Annotated[float, Field(ge=0, le=1)] = 0.99
    """Momentum of the key encoder: 0.999 for a long run, less for a short one."""
    momentum_schedule: Literal["constant", "cosine"] = "constant"
    """Whether that momentum stays, or rises to 1 over the run."""
    queue_size: PositiveInt = 4096
    """Keys kept as negatives: any number that holds a batch; it wraps around."""
    projection_dim: PositiveInt = 128
    """Width of the space in which radiographs are compared."""
    projector_hidden: NonNegativeInt = 0
    """Width of the projector's hidden layer; 0: as wide as the embedding."""
    projector_norm: bool = False
    """BatchNorm in the projector, which MoCo v2 has not."""
    shuffle_groups: PositiveInt = 1
    """Groups of a batch with BatchNorm statistics of their own, other ones for keys than for queries (MoCo:
    its 8 GPUs); 1: all share the whole batch's."""
    hard_negatives: str = ""
    """Column of the records, for example view or site: keys with the query's cell in it are hard negatives.
    A key made of another film of the patient has the cell of the film that it makes a pair with. Empty: all
    negatives are alike."""
    hard_negative_weight: PositiveFloat = 2.0
    """How many times another negative a hard one counts; 1: as much."""
    skip_own_patient: bool = False
    """Keys of the query's own patient are no negatives."""


class MoCo(Task):
    """An encoder trained by InfoNCE against a queue."""

    num_views: ClassVar[int] = 2
    model: Encoder
    queue: Tensor
    queue_codes: Tensor
    enqueued: Tensor

    def __init__(
        self,
        encoder: Encoder,
        *,
        temperature: float,
        momentum_keys: float,
        momentum_schedule: Literal["constant", "cosine"],
        queue_size: int,
        projection_dim: int,
        projector_hidden: int,
        projector_norm: bool,
        shuffle_groups: int,
        hard_negatives: str,
        hard_negative_weight: float,
        skip_own_patient: bool,
    ) -> None:
        """The key encoder starts as a copy, the queue as random directions."""
        super().__init__()
        self.model = encoder
        # By default without BatchNorm, as in MoCo v2.
        sizes = [encoder.num_features, projector_hidden or encoder.num_features, projection_dim]
        self.project = projector(sizes, norm=projector_norm)
        self.key_model = copy_of(self.model)
        self.key_project = copy_of(self.project)
        self.temperature = temperature
        self.momentum_keys, self.momentum_schedule = momentum_keys, momentum_schedule
        self.groups = shuffle_groups
        self.hard_negatives, self.hard_negative_weight = hard_negatives, hard_negative_weight
        self.skip_own_patient = skip_own_patient
        wanted = [hard_negatives] * bool(hard_negatives) + ["patient"] * skip_own_patient
        self.columns = tuple(dict.fromkeys(wanted))
        self.register_buffer("queue", functional.normalize(torch.randn(queue_size, projection_dim), dim=1))
        self.register_buffer("queue_codes", torch.full((queue_size, len(self.columns)), _UNKNOWN))
        self.register_buffer("enqueued", torch.zeros((), dtype=torch.long))

    def before_step(self, progress: float) -> None:
        """Moves the key encoder, equation 2; its BatchNorm keeps statistics of its own."""
        momentum = self.momentum_keys
        if self.momentum_schedule == "cosine":
            momentum = rising_momentum(momentum, progress)
        move_towards(self.key_model, self.model, momentum=momentum, buffers=False)
        move_towards(self.key_project, self.project, momentum=momentum, buffers=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss, how similar a query is to its key and to the queue, and of what the queue is made.

        `hard_share` is that of pairs of a query and a key of the queue.

        Raises:
            ConfigError: the queue is smaller than a batch, or a batch has no equal groups.
        """
        self._check(len(batch) * world())
        query = self._encode(batch.views[0], lambda view: self.project(self.model(view)))
        with torch.no_grad():
            order = gather(batch.uniforms(1))[:, 0].argsort() if self.groups > 1 else None
            key = self._encode(batch.views[1], lambda view: self.key_project(self.key_model(view)), order)
        # The loss keeps the queue for its backward, so it gets its own copy before the queue moves on.
        negatives = self.queue.to(query.dtype, copy=True)
        facts = self._queue_facts(len(batch) * world())
        hard = self._alike(batch, self.hard_negatives) if self.hard_negatives else None
        skipped = self._alike(batch, "patient") if self.skip_own_patient else None
        loss = moco_loss(
            query,
            key,
            negatives,
            temperature=self.temperature,
            hard=hard,
            hard_weight=self.hard_negative_weight,
            skipped=skipped,
        )
        if self.training:
            self._enqueue(gather(key), gather(self._key_codes(batch)))
        return {
            "loss": loss,
            "positive_similarity": (query * key).sum(1).mean().detach(),
            "negative_similarity": (query.mean(0) * negatives.mean(0)).sum().detach(),
            **facts,
            **({} if hard is None else {"hard_share": hard.float().mean()}),
        }

    def _check(self, count: int) -> None:
        refuse_one(count)
        if self.training and count > len(self.queue):
            raise ConfigError(
                f"moco: --queue-size is {len(self.queue)} and a batch adds {count} keys; the queue must "
                f"hold a batch. Give --queue-size {count} or more, or a smaller --batch-size"
            )
        if count % (self.groups * world()) or count < 2 * self.groups:
            raise ConfigError(
                f"moco: --shuffle-groups is {self.groups}; a batch, or a part of it, of {count} radiographs "
                f"on {world()} processes cannot be split into as many equal groups of 2 or more. Change "
                "--batch-size, or give --shuffle-groups 1"
            )

    def _encode(
        self, view: Tensor, encode: Callable[[Tensor], Tensor], order: Tensor | None = None
    ) -> Float[Tensor, "B D"]:
        """Unit projections of a view; group by group, in an order of all processes' rows, where asked."""
        if self.groups == 1:
            return functional.normalize(encode(view).float(), dim=1)
        everyone = gather(view)
        count = len(everyone)
        order = torch.arange(count, device=view.device) if order is None else order
        # BatchNorm sees a group of all processes as one: each encodes its part of every group.
        own = order.view(self.groups, world(), -1)[:, rank()]
        made = gather(torch.stack([encode(everyone[rows]).float() for rows in own]))
        grouped = made.view(world(), self.groups, own.shape[1], -1).transpose(0, 1).reshape(count, -1)
        mine = order.argsort()[places(len(view), view.device)]
        return functional.normalize(grouped[mine], dim=1)

    def _key_codes(self, batch: Batch) -> Int[Tensor, "B C"]:
        codes = [batch.partner_codes[name] for name in self.columns]
        return torch.stack(codes, 1) if codes else self.queue_codes.new_empty(len(batch), 0)

    def _alike(self, batch: Batch, column: str) -> Bool[Tensor, "B K"]:
        """Which keys of the queue have the query's cell in a column; what is unknown is like nothing."""
        own = batch.codes[column][:, None]
        return (own == self.queue_codes[:, self.columns.index(column)]) & (own != _UNKNOWN)

    def _queue_facts(self, count: int) -> dict[str, Tensor]:
        """Mean age of the keys in steps, the newest being 1 old, and how many places are random still.

        A part of an accumulated batch counts as a step.
        """
        filled = self.enqueued.clamp(max=len(self.queue))
        steps, rest = filled // count, filled % count
        ages = count * steps * (steps + 1) / 2 + rest * (steps + 1)
        return {"queue_age": ages / filled.clamp(min=1), "queue_random": (len(self.queue) - filled).float()}

    @torch.no_grad()
    def _enqueue(self, keys: Float[Tensor, "B D"], codes: Int[Tensor, "B C"]) -> None:
        places = (self.enqueued + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places] = keys.to(self.queue.dtype)
        self.queue_codes[places] = codes
        self.enqueued += len(keys)


@full_precision
def moco_loss(
    query: Float[Tensor, "B D"],
    key: Float[Tensor, "B D"],
    queue: Float[Tensor, "K D"],
    *,
    temperature: float,
    hard: Bool[Tensor, "B K"] | None = None,
    hard_weight: float = 1.0,
    skipped: Bool[Tensor, "B K"] | None = None,
) -> Float[Tensor, ""]:
    """Equation 1 of He et al.: of its own key and the K of the queue, each query's own is the right one.

    All rows have unit length. A hard key counts w = `hard_weight` times, a skipped one not at all. Where hard
    keys are a share h of the queue, they get wh / (wh + 1 - h) of the weight of all negatives, which is the
    share that MedAug's re-weighting sets; its other way, to append fK keys drawn from the hard ones, makes
    each count 1 + f / h times in expectation.
    """
    positive = (query * key).sum(1) / temperature
    negatives = (query / temperature) @ queue.T
    if hard is not None:
        negatives = negatives + math.log(hard_weight) * hard
    if skipped is not None:
        negatives = negatives.masked_fill(skipped, float("-inf"))
    return (torch.logaddexp(positive, negatives.logsumexp(1)) - positive).mean()
