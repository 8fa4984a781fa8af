"""Losses with two or more users."""

import functools
from collections.abc import Callable
from typing import ParamSpec

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import betaincinv
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
def masked_focal(
    logits: Float[Tensor, "B F"],
    labels: Float[Tensor, "B F"],
    *,
    gamma: float,
    positive_weight: Float[Tensor, " F"] | None = None,
) -> Float[Tensor, ""]:
    """`masked_bce` with every term times (1 - p)^gamma, p the probability of the label that is true.

    Equation 4 of Lin et al. 2017, https://arxiv.org/abs/1708.02002; `positive_weight` is in the place of
    their alpha. A label between 0 and 1 mixes the terms of both.
    """
    present, absent = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    # As an exponential, since the gradient of a small power is infinite at 0.
    return _masked(
        present * (gamma * absent).exp(),
        absent * (gamma * present).exp(),
        labels,
        positive_weight=positive_weight,
    )


@full_precision
def masked_asymmetric(
    logits: Float[Tensor, "B F"],
    labels: Float[Tensor, "B F"],
    *,
    gamma_positive: float,
    gamma_negative: float,
    margin: float,
    positive_weight: Float[Tensor, " F"] | None = None,
) -> Float[Tensor, ""]:
    """`masked_focal` with a gamma for positives and one for negatives, of which easy ones weigh nothing.

    Ridnik et al. 2020, https://arxiv.org/abs/2009.14119, the loss that they call ASL: the probability of
    negatives is lowered by a margin, and not below 0. Their sum is a mean over known labels here. A label
    between 0 and 1 mixes the terms of both.
    """
    present = functional.logsigmoid(logits) * (gamma_positive * functional.logsigmoid(-logits)).exp()
    kept = (torch.sigmoid(-logits) + margin).clamp(max=1)
    absent = functional.logsigmoid(-logits) if margin == 0 else kept.log()
    # Not below a tiny number, since the gradient of a small power is infinite at 0.
    lowered = (torch.sigmoid(logits) - margin).clamp(min=1e-12)
    return _masked(present, absent * lowered**gamma_negative, labels, positive_weight=positive_weight)


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
def masked_focal_softmax(
    logits: Float[Tensor, "B F"],
    labels: Float[Tensor, "B F"],
    *,
    gamma: float,
    weight: Float[Tensor, " F"] | None = None,
) -> Float[Tensor, ""]:
    """`masked_cross_entropy` with every term times (1 - p)^gamma, p the probability of its finding."""
    log_p = functional.log_softmax(logits, 1)
    target = labels.nan_to_num()
    known = target.sum(1) > 0
    if weight is not None:
        target = target * weight
    easy = (1 - log_p.exp()).clamp(min=1e-12) ** gamma
    return (-(target * easy * log_p).sum(1) * known).sum() / known.sum().clamp(min=1)


def smoothed(labels: Float[Tensor, "B F"], amount: float, *, exclusive: bool) -> Float[Tensor, "B F"]:
    """Labels of which `amount` is spread evenly over 1 and 0, or over findings that exclude each other.

    Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7. NaN stays unknown.
    """
    return labels * (1 - amount) + amount / (labels.shape[1] if exclusive else 2)


def beta_quantiles(alpha: float) -> Float[Tensor, " Q"]:
    """Where the shares of `mixed_in_pairs` are drawn from: quantiles of Beta(alpha, alpha), evenly spaced.

    A line between two of the 4,097 is closer than 1e-6 for the usual alpha of 0.1 to 1. Above, it is closer
    than 1e-3 but for one draw in 2,048, an outermost one.
    """
    return torch.from_numpy(betaincinv(alpha, alpha, np.linspace(0, 1, 4097))).float()


def mixed_in_pairs(
    values: Float[Tensor, "B ..."], uniforms: Float[Tensor, " B"], quantiles: Float[Tensor, " Q"]
) -> Float[Tensor, "B ..."]:
    """Each row as a weighted mean of itself and its partner, by equation 1 of Zhang et al. 2018.

    https://arxiv.org/abs/1710.09412. Partners are rows 0 and 1, 2 and 3, and so on, so that parts of even
    size mix as their batch does. Each row has its own share, drawn by its uniform. A last row without a
    partner stays as it is. What is NaN in either is NaN.
    """
    place = uniforms * (len(quantiles) - 1)
    below = place.long().clamp(max=len(quantiles) - 2)
    share = torch.lerp(quantiles[below], quantiles[below + 1], (place - below).to(quantiles))
    share = share.to(values).view(-1, *[1] * (values.ndim - 1))
    partner = (torch.arange(len(values), device=values.device) ^ 1).clamp(max=len(values) - 1)
    return share * values + (1 - share) * values[partner]


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


def _masked(
    present: Float[Tensor, "B F"],
    absent: Float[Tensor, "B F"],
    labels: Float[Tensor, "B F"],
    *,
    positive_weight: Float[Tensor, " F"] | None,
) -> Float[Tensor, ""]:
    """The mean over known labels of what each would add if it were 1 and if it were 0, negated."""
    known, target = ~labels.isnan(), labels.nan_to_num()
    weight = 1.0 if positive_weight is None else positive_weight
    terms = -(weight * target * present + (1 - target) * absent)
    return (terms * known).sum() / known.sum().clamp(min=1)


def _wide(value: object) -> object:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(torch.promote_types(value.dtype, torch.float32))
    return value
