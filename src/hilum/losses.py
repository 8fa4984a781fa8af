"""Losses with two or more users."""

import functools
from collections.abc import Callable
from typing import ParamSpec

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from hilum.errors import ConfigError

Arguments = ParamSpec("Arguments")


def full_precision(loss: Callable[Arguments, Tensor]) -> Callable[Arguments, Tensor]:
    """A loss computed in float32 whatever the encoder ran in: sums over a batch lose too much in bfloat16.

    Only float64 stays what it is.
    """

    @functools.wraps(loss)
    def in_float32(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Tensor:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            named = {name: _wide(value) for name, value in kwargs.items()}
            return loss(*map(_wide, args), **named)  # type: ignore[arg-type]

    return in_float32


def refuse_one(radiographs: int) -> None:
    """Stops a method that compares radiographs where there is one: no negatives, no variance, no BatchNorm.

    Args:
        radiographs: in this part of a batch, over all processes.

    Raises:
        ConfigError: there is only one.
    """
    if radiographs < 2:
        raise ConfigError(
            "a batch, or a part of it, holds 1 radiograph; this method compares radiographs and needs 2 or "
            "more. Raise --batch-size, or lower --accumulate, which cuts a batch into parts"
        )


@full_precision
def masked_bce(
    logits: Float[Tensor, "B F"],
    labels: Float[Tensor, "B F"],
    *,
    positive_weight: Float[Tensor, " F"] | None = None,
) -> Float[Tensor, ""]:
    """Binary cross entropy over the labels that are known (1 or 0); NaN is unknown and weighs nothing.

    The mean is over known labels; a batch without any gives 0, with a gradient of 0. A positive of a finding
    counts `positive_weight` times, in the sum and not in the number that divides it.
    """
    known = ~labels.isnan()
    terms = functional.binary_cross_entropy_with_logits(
        logits, labels.nan_to_num(), reduction="none", pos_weight=positive_weight
    )
    return (terms * known).sum() / known.sum().clamp(min=1)


@full_precision
def masked_cross_entropy(
    logits: Float[Tensor, "B F"],
    labels: Float[Tensor, "B F"],
    *,
    weight: Float[Tensor, " F"] | None = None,
) -> Float[Tensor, ""]:
    """Softmax cross entropy against the one finding that is 1; rows without a 1 are unknown, of no weight.

    The mean is over known rows. A row counts as often as its finding's `weight`, in the sum and not in the
    number that divides it.
    """
    target = labels.nan_to_num()
    known = target.sum(1) > 0
    if weight is not None:
        target = target * weight
    terms = -(target * functional.log_softmax(logits, 1)).sum(1)
    return (terms * known).sum() / known.sum().clamp(min=1)


@full_precision
def info_nce(
    query: Float[Tensor, "B D"],
    keys: Float[Tensor, "K D"],
    positive: Int[Tensor, " B"],
    *,
    temperature: float,
    itself: Int[Tensor, " B"] | None = None,
) -> Float[Tensor, ""]:
    """Cross entropy of telling each query's key from all others (van den Oord et al. 2018, equation 4).

    Both are of unit length. `positive[i]` is the key of query i; `itself[i]`, if given, is query i's own
    place among the keys, which is left out of the denominator.
    """
    logits = query @ keys.T / temperature
    if itself is not None:
        logits = logits.scatter(1, itself[:, None], float("-inf"))
    return functional.cross_entropy(logits, positive)


def _wide(value: object) -> object:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(torch.promote_types(value.dtype, torch.float32))
    return value
