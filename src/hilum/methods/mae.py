"""MAE: an encoder sees a quarter of a radiograph's patches, a small decoder draws the others from that.

He et al. 2021, https://arxiv.org/abs/2111.06377

The encoder runs on visible patches only, which is what makes it fast. A ViT with a convolutional stem is
trained too, but there a visible patch sees the rim of hidden ones (see `hilum.models.masked`).
"""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor

from hilum.config import Config
from hilum.data.batch import Batch
from hilum.errors import ConfigError
from hilum.losses import full_precision
from hilum.models.decoder import PatchDecoder
from hilum.models.encoder import Encoder
from hilum.models.masked import hidden_patches, take, visible_tokens
from hilum.train.task import Task


class Settings(Config):
    """Settings of MAE."""

    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
    """Share of the patches that the encoder does not see. On radiographs 0.9 did better than 0.75
    (Xiao et al. 2022, https://arxiv.org/abs/2210.12843), and it is faster."""
    normalised_targets: bool = True
    """Each hidden patch is predicted less its mean, in units of its deviation: texture, not brightness."""
    decoder_width: PositiveInt = 256
    """Width of the decoder, which is thrown away; half the encoder's in the paper."""
    decoder_depth: PositiveInt = 4
    """Blocks of the decoder; a third of the encoder's in the paper."""
    decoder_heads: PositiveInt = 8
    """Attention heads of the decoder."""


class MAE(Task):
    """An encoder trained by the pixels of patches that it did not see."""

    needs: ClassVar[frozenset[str]] = frozenset({"patches"})
    model: Encoder

    def __init__(
        self,
        encoder: Encoder,
        *,
        mask_ratio: float,
        normalised_targets: bool,
        decoder_width: int,
        decoder_depth: int,
        decoder_heads: int,
    ) -> None:
        """Puts a new decoder on the encoder.

        Raises:
            ConfigError: no patch would be left, or none hidden; or the encoder is no ViT, or has a scorer.
        """
        super().__init__()
        if encoder.top_k is not None:
            raise ConfigError(
                "mae makes no embedding, so it cannot train the scorer of --pool top_k; pretrain with --pool "
                "mean, and choose top_k in the transfer"
            )
        edge, num_hidden = hidden_patches(encoder, mask_ratio)
        self.num_visible = edge * edge - num_hidden
        self.model = encoder
        self.patch_size = encoder.strides[-1]
        self.decode = PatchDecoder(
            encoder.num_channels,
            width=decoder_width,
            depth=decoder_depth,
            heads=decoder_heads,
            edge=edge,
            pixels=self.patch_size**2,
        )
        self.normalised_targets = normalised_targets

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss, and which share of the hidden pixels' variance is explained."""
        patches = patchify(batch.views[0], self.patch_size)
        order = batch.uniforms(patches.shape[1]).argsort(dim=1, stable=True)
        visible, hidden = order[:, : self.num_visible], order[:, self.num_visible :]
        predicted = self.decode(*visible_tokens(self.model, batch.views[0], visible), order)
        targets = take(patches, hidden)
        targets = normalised(targets) if self.normalised_targets else targets
        loss = pixel_error(predicted, targets)
        return {"loss": loss, "explained": 1 - loss.detach() / targets.var().float().clamp(min=1e-6)}


def patchify(images: Float[Tensor, "B 1 H W"], size: int) -> Float[Tensor, "B N P"]:
    """The pixels of each patch of `size`×`size`; patches, and pixels in a patch, in reading order."""
    height, width = images.shape[2] // size, images.shape[3] // size
    rows = images.reshape(len(images), height, size, width, size)
    return rows.transpose(2, 3).reshape(len(images), height * width, size * size)


def normalised(patches: Float[Tensor, "B N P"]) -> Float[Tensor, "B N P"]:
    """Each patch less its mean and by its deviation, with the paper's implementation's constant of 1e-6."""
    variance, mean = torch.var_mean(patches, 2, keepdim=True)
    return (patches - mean) * (variance + 1e-6).rsqrt()


@full_precision
def pixel_error(predicted: Float[Tensor, "B M P"], targets: Float[Tensor, "B M P"]) -> Float[Tensor, ""]:
    """Mean squared error over the pixels of hidden patches, and of these alone (section 3)."""
    return (predicted - targets).square().mean()
