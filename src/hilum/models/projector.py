"""The head on which a pretext loss is computed, thrown away afterwards."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def projector(sizes: Sequence[int], *, norm: bool = True) -> nn.Sequential:
    """Linear layers of the given widths, input first, with BatchNorm (if asked) and ReLU between them.

    The input's width alone is no layer at all: what comes in goes out.

    >>> projector([512, 128])
    Sequential(
      (0): Linear(in_features=512, out_features=128, bias=False)
    )
    >>> len(projector([512]))
    0
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes[:-1]):
        layers.append(nn.Linear(before, after, bias=not norm))
        layers.extend([nn.BatchNorm1d(after)] if norm else [])
        layers.append(nn.ReLU(inplace=True))
    if len(sizes) > 1:
        layers.append(nn.Linear(sizes[-2], sizes[-1], bias=False))
    return nn.Sequential(*layers)
