"""Moving averages of weights."""

import copy
from typing import TypeVar

import torch
from torch import nn

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
    torch._foreach_lerp_(list(average.parameters()), list(source.parameters()), 1 - momentum)
    if buffers:
        for kept, new in zip(average.buffers(), source.buffers(), strict=True):
            kept.copy_(new)
