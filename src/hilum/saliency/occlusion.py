"""Occlusion: how much a finding's logit falls when a grey square hides a part of the film.

Zeiler & Fergus 2014 (https://arxiv.org/abs/1311.2901), figure 7.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hilum.errors import ConfigError
from hilum.models.classifier import Classifier
from hilum.saliency.maps import Maps

CELLS = 16
"""Cells along the side of a map, unless a stride is given."""
AT_ONCE = 128
"""Occluded images that go through the model together."""


def occlusion(
    model: Classifier,
    images: Float[Tensor, "B 1 S S"],
    finding: int,
    *,
    patch: int = 0,
    stride: int = 0,
    against: bool = False,
) -> Maps:
    """In each cell the mean fall of the logit over the squares that hide it; negative where it rises.

    A square is filled with the mean of its own image. Cells are `stride` pixels wide, to the nearest width
    that divides the image evenly, and a square is as many whole cells as come nearest to `patch`.

    Args:
        model: in evaluation mode.
        images: normalised.
        finding: its place in the model's findings.
        patch: side of the square, pixels of what the encoder sees; 0: two strides.
        stride: how far it moves; 0: a sixteenth of the side.
        against: the rise in place of the fall.

    Raises:
        ConfigError: the square is smaller than its stride, or larger than the image.
    """
    edges, wide = grid(images.shape[-1], patch=patch, stride=stride)
    places = [(row, column) for row in range(len(edges) - wide) for column in range(len(edges) - wide)]
    cells = len(edges) - 1
    fallen = torch.zeros(len(images), cells, cells, device=images.device)
    squares = torch.zeros(cells, cells, device=images.device)
    grey = images.mean((1, 2, 3), keepdim=True)
    with torch.inference_mode():
        logits = model(images).float()
        step = max(1, AT_ONCE // len(images))
        for first in range(0, len(places), step):
            some = places[first : first + step]
            hidden = images.repeat(len(some), 1, 1, 1)
            for copy, (row, column) in zip(torch.split(hidden, len(images)), some, strict=True):
                copy[:, :, edges[row] : edges[row + wide], edges[column] : edges[column + wide]] = grey
            after = model(hidden).float()[:, finding].view(len(some), -1)
            for (row, column), fall in zip(some, logits[:, finding] - after, strict=True):
                fallen[:, row : row + wide, column : column + wide] += fall[:, None, None]
                squares[row : row + wide, column : column + wide] += 1
        scores = (-fallen if against else fallen) / squares
    return Maps(scores, logits)


def grid(side: int, *, patch: int = 0, stride: int = 0) -> tuple[list[int], int]:
    """The edges of the cells along an image, and how many cells a square hides.

    >>> grid(8, patch=4, stride=2)
    ([0, 2, 4, 6, 8], 2)

    Raises:
        ConfigError: the square is smaller than its stride, or larger than the image.
    """
    stride = stride or max(1, side // CELLS)
    patch = patch or 2 * stride
    if not 0 < stride <= patch <= side:
        raise ConfigError(
            f"patch is {patch} and stride {stride} pixels, of images of {side}; expected stride at most "
            f"patch, and patch at most {side}"
        )
    cells = round(side / stride)
    edges: list[int] = np.rint(np.linspace(0, side, cells + 1)).astype(int).tolist()
    return edges, min(cells, max(1, round(patch / stride)))
