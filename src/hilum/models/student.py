"""What self-distillation puts around an encoder: a head of prototypes, and sizes of crops that it can see."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from jaxtyping import Float
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.nn import functional

from hilum.errors import ConfigError
from hilum.models.encoder import Encoder
from hilum.models.masked import patches_of

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class PrototypeHead(nn.Module):
    """Layers down to a narrow unit vector, then its cosine with each of many prototypes, learnt directions.

    As in Caron et al. 2021, section 3.1. It has no BatchNorm, so one view gives what it gives among many.
    """

    def __init__(self, sizes: Sequence[int], *, num_prototypes: int) -> None:
        """New weights.

        Args:
            sizes: of what comes in, of the hidden layers, and last of the unit vector.
            num_prototypes: K.
        """
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layer = nn.Linear(before, after)
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
            layers.extend([layer, nn.GELU()])
        self.narrow = nn.Sequential(*layers[:-1])
        # Only the direction counts: this is the paper's weight normalisation with its length held at 1.
        self.prototypes = nn.Parameter(torch.randn(num_prototypes, sizes[-1]) * sizes[-1] ** -0.5)
        self.frozen = False
        """Whether prototypes stand still."""

    def forward(self, embeddings: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Cosines, in single precision whatever the encoder ran in: a temperature magnifies their errors."""
        narrow: Tensor = self.narrow(embeddings)
        with torch.autocast(narrow.device.type, enabled=False):
            # A frozen weight gets a gradient of zero and not none, for which other processes would wait.
            weight = self.prototypes.detach() + 0 * self.prototypes if self.frozen else self.prototypes
            unit = functional.normalize(narrow.to(weight.dtype), dim=1)
            return unit @ functional.normalize(weight, dim=1).T


def without_dropout(module: ModuleT) -> ModuleT:
    """The module, now one that leaves nothing out at random: a teacher sees all, also in training mode."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(part, DropPath):
            part.drop_prob = 0.0
    return module


def local_side_of(encoder: Encoder, *, asked: int) -> int:
    """The side of small crops in pixels: what was asked for, or with 0 three sevenths of the encoder's own.

    The latter in whole cells of the last map: 96 of 224 pixels for strides of 16 and of 32.

    Raises:
        ConfigError: the encoder cannot see such crops.
    """
    cell = encoder.strides[-1]
    side = asked or max(1, round(encoder.input.side * 3 / 7 / cell)) * cell
    training, weight = encoder.training, next(encoder.parameters())
    try:
        if encoder.has_patches:
            patches_of(encoder, side)
        with torch.no_grad():
            encoder.eval()(weight.new_zeros(1, 1, side, side))
    except (AssertionError, RuntimeError, ValueError, ConfigError) as error:
        raise ConfigError(
            f"arch {encoder.arch} cannot see local crops of {side} pixels: {error}. Set --local-side to what "
            f"it can see, as {encoder.input.side}, or --num-local 0"
        ) from None
    finally:
        encoder.train(training)
    return side
