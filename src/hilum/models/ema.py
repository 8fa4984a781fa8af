"""Moving averages of weights."""

import copy
import math
from typing import TypeVar

import torch
from torch import Tensor, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def copy_of(module: ModuleT) -> ModuleT:
    """A copy that no gradient reaches."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def move_towards(average: nn.Module, source: nn.Module, *, momentum: float, buffers: bool) -> None:
    """Each weight becomes `momentum * average + (1 - momentum) * source` (He et al. 2020, equation 2).

    Args:
        average: changed in place.
        source: of the same shape; left alone.
        momentum: 0 copies, 1 keeps.
        buffers: copy BatchNorm's statistics too; a key encoder that runs in training mode keeps its own.
    """
    kept: list[Tensor] = list(average.parameters())
    new: list[Tensor] = list(source.parameters())
    if kept:  # an encoder of raw pixels has none
        torch._foreach_lerp_(kept, new, 1 - momentum)
    if buffers:
        for mine, its in zip(average.buffers(), source.buffers(), strict=True):
            mine.copy_(its)


def rising_momentum(first: float, progress: float) -> float:
    """From `first` to 1 along half a cosine over the run (Grill et al. 2020, section 3.1).

    https://arxiv.org/abs/2006.07733

    >>> [rising_momentum(0.5, progress) for progress in (0, 0.5, 1)]
    [0.5, 0.75, 1.0]
    """
    return 1 - (1 - first) * (math.cos(math.pi * progress) + 1) / 2
