"""Losses with two or more users."""

import functools
from collections.abc import Callable
from typing import ParamSpec

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

Arguments = ParamSpec("Arguments")


def full_precision(loss: Callable[Arguments, Tensor]) -> Callable[Arguments, Tensor]:
    """A loss computed in float32 whatever the encoder ran in: sums over a batch lose too much in bfloat16."""

    @functools.wraps(loss)
    def in_float32(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Tensor:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            wide = [a.float() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args]
            return loss(*wide, **kwargs)  # type: ignore[arg-type]

    return in_float32


@full_precision
def masked_bce(logits: Float[Tensor, "B F"], labels: Float[Tensor, "B F"]) -> Float[Tensor, ""]:
    """Binary cross entropy over the labels that are known (1 or 0); NaN is unknown and weighs nothing.

    The mean is over known labels; a batch without any gives 0, with a gradient of 0.
    """
    known = ~labels.isnan()
    terms = functional.binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
    return (terms * known).sum() / known.sum().clamp(min=1)


@full_precision
def masked_cross_entropy(logits: Float[Tensor, "B F"], labels: Float[Tensor, "B F"]) -> Float[Tensor, ""]:
    """Softmax cross entropy against the one finding that is 1; rows without a 1 are unknown, of no weight."""
    target = labels.nan_to_num()
    known = target.sum(1) > 0
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
