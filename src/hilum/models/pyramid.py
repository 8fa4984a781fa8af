"""One map per scale from any encoder: what detectors look at."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from hilum.errors import ConfigError
from hilum.models.encoder import Encoder

STRIDES = (4, 8, 16, 32)
"""Of the encoder's maps, by the names that papers give them: C2 to C5."""


class Pyramid(nn.Module):
    """A feature pyramid, P2 or P3 to P7, on the maps of an encoder.

    Lin et al. 2016, https://arxiv.org/abs/1612.03144; P6, a convolution of C5, and P7, of P6, as in Lin et
    al. 2017, https://arxiv.org/abs/1708.02002. The one map of a ViT is enlarged and reduced first (Li et al.
    2022, https://arxiv.org/abs/2203.16527, section 3).
    """

    strides: tuple[int, ...]
    """Input pixels per cell of each level."""

    def __init__(self, encoder: Encoder, *, width: int, first: int) -> None:
        """Levels of `width` channels, from P`first` (2 or 3) to P7.

        Raises:
            ConfigError: the encoder has no maps of these strides, or sees films of a size that does not fit.
        """
        if encoder.input.side % STRIDES[-1]:
            down = encoder.input.side // STRIDES[-1] * STRIDES[-1]
            raise ConfigError(
                f"--image-size is {encoder.input.side}; the levels of a detector want a multiple of "
                f"{STRIDES[-1]}: {max(down, STRIDES[-1])} or {down + STRIDES[-1]}"
            )
        super().__init__()
        wanted = [stride for stride in STRIDES if stride >= 2**first]
        self.strides = (*wanted, 64, 128)
        self.rescale: nn.ModuleList | None = None
        if encoder.has_patches:
            if encoder.strides[-1] != 16:
                raise ConfigError(
                    f"arch {encoder.arch} has patches of {encoder.strides[-1]} pixels; a detector needs 16"
                )
            self.places: list[int] = []
            self.rescale = nn.ModuleList(_rescaled(encoder.num_channels, stride) for stride in wanted)
            widths = [encoder.num_channels] * len(wanted)
        else:
            missing = [stride for stride in wanted if stride not in encoder.strides]
            if missing:
                raise ConfigError(
                    f"arch {encoder.arch} has maps at strides {', '.join(map(str, encoder.strides))}; a "
                    f"detector needs {', '.join(map(str, wanted))}. Try resnet50 or densenet121"
                )
            self.places = [encoder.strides.index(stride) for stride in wanted]
            widths = [encoder.widths[place] for place in self.places]
        self.top = widths[-1]
        """Channels of C5."""
        coarse = LastLevelP6P7(self.top, width)
        coarse.use_P5 = False  # where C5 is as wide as P5, torchvision would take P5
        self.levels = FeaturePyramidNetwork(widths, width, extra_blocks=coarse)

    def forward(
        self, encoder: Encoder, images: Float[Tensor, "B 1 S S"]
    ) -> tuple[list[Float[Tensor, "B W _ _"]], Float[Tensor, "B C _ _"]]:
        """The levels, fine to coarse, and C5; the encoder is that which the pyramid was built for."""
        if self.rescale is not None:
            last = encoder.last_map(images)
            maps = [part(last) for part in self.rescale]
        else:
            found = encoder.feature_maps(images)
            maps = [
                _of_side(found[place], -(-images.shape[-1] // stride))
                for place, stride in zip(self.places, self.strides[: len(self.places)], strict=True)
            ]
        named = {str(number): part for number, part in enumerate(maps)}
        layout = layout_of_levels(images.device)
        return [level.contiguous(memory_format=layout) for level in self.levels(named).values()], maps[-1]


def layout_of_levels(device: torch.device) -> torch.memory_format:
    """Of levels, and of the weights of heads on them, in memory: what is learnt fastest on the device.

    With AVX2 alone oneDNN's gradients of wide float32 convolutions take 1.6 times as long channels last.
    """
    slow = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2"
    return torch.contiguous_format if slow else torch.channels_last


def _of_side(level: Float[Tensor, "B C _ _"], side: int) -> Float[Tensor, "B C {side} {side}"]:
    """The map with so many cells a side; those of an Inception, which pads nothing, are some short."""
    return level if level.shape[-1] == side else functional.interpolate(level, size=(side, side))


def _rescaled(channels: int, stride: int) -> nn.Module:
    """From patches of 16 pixels to cells of `stride`."""
    if stride == 4:
        first = nn.ConvTranspose2d(channels, channels, 2, 2)
        return nn.Sequential(first, nn.GELU(), nn.ConvTranspose2d(channels, channels, 2, 2))
    if stride == 8:
        return nn.ConvTranspose2d(channels, channels, 2, 2)
    return nn.Identity() if stride == 16 else nn.MaxPool2d(2)
