"""A ViT that sees a part of a radiograph: some patches left out (MAE), or each replaced by a token (iBOT).

What a patch says of its neighbours is not hidden: a convolutional stem mixes pixels over its receptive field,
so there a visible patch sees the rim of a hidden one. With patches of one convolution nothing leaks.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from hilum.errors import ConfigError
from hilum.models.encoder import Encoder


def patches_of(encoder: Encoder, side: int) -> int:
    """How many patches a square image has along an edge.

    Raises:
        ConfigError: the encoder is no ViT, or its patches do not tile such an image.
    """
    if not encoder.has_patches:
        raise ConfigError(f"arch {encoder.arch} is no ViT and has no patches; try vit_small_patch16_224")
    size = encoder.strides[-1]
    if side % size:
        raise ConfigError(
            f"images of {side} pixels are not tiled by the {size} pixel patches of {encoder.arch}; "
            f"take {max(1, round(side / size)) * size}"
        )
    return side // size


def visible_tokens(
    encoder: Encoder, images: Float[Tensor, "B 1 H W"], visible: Int64[Tensor, "B V"]
) -> tuple[Float[Tensor, "B P D"], Float[Tensor, "B V D"]]:
    """What `Encoder.tokens` gives when only some patches, by their places in reading order, enter the blocks.

    Its cost is theirs: the blocks never see the others.
    """
    net = encoder.net
    x: Tensor = net._pos_embed(net.patch_embed(images))  # type: ignore[operator]
    prefix: int = net.num_prefix_tokens  # type: ignore[assignment]
    return _through(encoder, torch.cat([x[:, :prefix], take(x[:, prefix:], visible)], 1))


def masked_tokens(
    encoder: Encoder,
    images: Float[Tensor, "B 1 H W"],
    masked: Bool[Tensor, "B N"],
    token: Float[Tensor, " D"],
) -> tuple[Float[Tensor, "B P D"], Float[Tensor, "B N D"]]:
    """What `Encoder.tokens` gives when a token stands for each masked patch, at the patch's own position."""
    net = encoder.net
    x: Tensor = net.patch_embed(images)  # type: ignore[operator]
    # A ViT for images of any size keeps its patches in two dimensions until positions are added.
    x = torch.where(masked.view(*x.shape[:-1], 1), token.to(x.dtype), x)
    return _through(encoder, net._pos_embed(x))  # type: ignore[operator]


def take(tokens: Float[Tensor, "B N D"], places: Int64[Tensor, "B K"]) -> Float[Tensor, "B K D"]:
    """The tokens at some places, of each radiograph its own."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[2]))


def pooled(
    encoder: Encoder, prefix: Float[Tensor, "B P D"], patches: Float[Tensor, "B N D"]
) -> Float[Tensor, "B E"]:
    """The embedding that the encoder makes of its tokens, which are of square images."""
    if encoder.pooling.pool == "token":
        return prefix[:, 0]
    edge = math.isqrt(patches.shape[1])
    return encoder.pool(patches.transpose(1, 2).reshape(len(patches), -1, edge, edge))


NUM_UNIFORMS = 1 + 3 * 4
"""Random numbers per radiograph that `Hidden.draw` takes: for one of two views, and four blocks in it."""


@dataclass(frozen=True)
class Hidden:
    """Patches of two views of each radiograph that are hidden, all in one of the two."""

    rows: Int64[Tensor, " B"]
    """The view, among the first views of all radiographs and then the second ones."""
    places: Int64[Tensor, "B M"]
    """Its hidden patches, in reading order of the image."""
    num_patches: int

    @classmethod
    def draw(cls, u: Float[Tensor, "B U"], edge: int, count: int) -> "Hidden":
        """A toss of a coin for the view, then `count` patches in four blocks.

        Where iBOT tosses for each view, here every radiograph has one whole view and one with hidden patches.
        """
        second = (u[:, 0] < 0.5).long()
        rows = second * len(u) + torch.arange(len(u), device=u.device)
        return cls(rows, block_places(u[:, 1:], edge=edge, count=count), edge * edge)

    def mask(self) -> Bool[Tensor, "2*B N"]:
        """True where a patch is hidden."""
        mask = self.rows.new_zeros(2 * len(self.rows), self.num_patches, dtype=torch.bool)
        mask[self.rows[:, None], self.places] = True
        return mask

    def of(self, patches: Float[Tensor, "2*B N D"]) -> Float[Tensor, "B*M D"]:
        """The hidden ones."""
        return take(patches[self.rows], self.places).flatten(0, 1)


def block_places(u: Float[Tensor, "B U"], *, edge: int, count: int) -> Int64[Tensor, "B {count}"]:
    """Places of exactly `count` patches in a few oblong blocks (block-wise masking, Bao et al. 2021).

    To see beside a hidden patch does not help then. Where BEiT adds blocks until enough is hidden, here all
    blocks grow together until exactly enough is, so that every radiograph hides as many.

    Args:
        u: random numbers in [0, 1), three for each block: its centre and its shape.
        edge: patches along an edge of the image.
        count: patches to hide.
    """
    across, down, shape = u.view(len(u), -1, 3, 1).unbind(2)
    stretch = 0.3 ** (shape - 0.5)  # height over width from 0.3 to 1 / 0.3, as BEiT's
    place = torch.arange(edge * edge, device=u.device)
    x, y = place % edge + 0.5, place // edge + 0.5
    distance = torch.maximum((x - across * edge).abs() * stretch, (y - down * edge).abs() / stretch)
    return distance.amin(1).argsort(dim=1, stable=True)[:, :count]


def hidden_patches(encoder: Encoder, mask_ratio: float) -> tuple[int, int]:
    """Patches along an edge of the encoder's own images, and how many of all are hidden, rounded.

    Raises:
        ConfigError: the encoder is no ViT, or no patch would be hidden, or all.
    """
    edge = patches_of(encoder, encoder.input.side)
    count = round(edge * edge * mask_ratio)
    if not 0 < count < edge * edge:
        raise ConfigError(
            f"mask_ratio {mask_ratio} hides {count} of {edge * edge} patches and leaves "
            f"{edge * edge - count}; there have to be both. Change it, or --image-size"
        )
    return edge, count


def _through(encoder: Encoder, x: Tensor) -> tuple[Tensor, Tensor]:
    net = encoder.net
    prefix: int = net.num_prefix_tokens  # type: ignore[assignment]
    out: Tensor = net.norm(net.blocks(net.norm_pre(x)))  # type: ignore[operator]
    return out[:, :prefix], out[:, prefix:]
