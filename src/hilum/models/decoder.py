"""From what an encoder made of visible patches to the pixels of the hidden ones; thrown away afterwards."""

import torch
from jaxtyping import Float, Int64
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from hilum.errors import ConfigError
from hilum.models.masked import take


class PatchDecoder(nn.Module):
    """A small transformer over all patches: the visible ones as encoded, one learnt token for each other."""

    positions: Tensor

    def __init__(
        self, num_features: int, *, width: int, depth: int, heads: int, edge: int, pixels: int
    ) -> None:
        """New weights.

        Args:
            num_features: of the encoder's tokens.
            width: of the transformer, a multiple of 4 and of `heads`.
            depth: its blocks.
            heads: of its attention.
            edge: patches along an edge of the image.
            pixels: of a patch.

        Raises:
            ConfigError: the width is no such multiple.
        """
        super().__init__()
        if width % 4 or width % heads:
            raise ConfigError(
                f"decoder_width is {width}, decoder_heads {heads}; the width has to be a multiple of 4 "
                "and of the heads"
            )
        self.enter = nn.Linear(num_features, width)
        self.blocks = nn.Sequential(*(Block(width, heads, qkv_bias=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, pixels)
        self.apply(_initialise)
        self.hidden_token = nn.Parameter(torch.randn(width) * 0.02)
        self.register_buffer("positions", sine_positions(edge, width), persistent=False)

    def forward(
        self,
        prefix: Float[Tensor, "B P D"],
        visible: Float[Tensor, "B V D"],
        order: Int64[Tensor, "B N"],
    ) -> Float[Tensor, "B M E"]:
        """The pixels of the M = N - V hidden patches.

        `order` holds the places of all patches, the visible ones first, in the order of `visible`; the rest
        is what comes out. A transformer knows places by their positions alone: nothing is put back in order.
        """
        tokens = self.enter(torch.cat([prefix, visible], 1))
        num_hidden = order.shape[1] - visible.shape[1]
        hidden = self.hidden_token.to(tokens.dtype).expand(len(tokens), num_hidden, -1)
        places = take(self.positions.expand(len(tokens), -1, -1), order)
        patches = torch.cat([tokens[:, prefix.shape[1] :], hidden], 1) + places
        seen = self.norm(self.blocks(torch.cat([tokens[:, : prefix.shape[1]], patches], 1)))
        pixels: Tensor = self.leave(seen[:, seen.shape[1] - num_hidden :])
        return pixels


def sine_positions(edge: int, width: int) -> Float[Tensor, "{edge}*{edge} {width}"]:
    """Fixed positions of the patches of a square: sines and cosines of x in one half, of y in the other.

    Vaswani et al. 2017, section 3.5, for each axis; the wavelengths rise from 2π to nearly 10000·2π patches.
    """
    quarter = width // 4
    frequencies = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = torch.arange(edge, dtype=torch.float64)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], 1)
    return torch.cat([axis.repeat(edge, 1), axis.repeat_interleave(edge, 0)], 1).float()


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
