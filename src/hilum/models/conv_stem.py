"""A ViT whose patches come from three convolutions instead of one.

Small strided convolutions in place of one large one make a ViT easier to train (https://arxiv.org/abs/2106.14881).
Each convolution is 3×3 with stride 2, so a patch is 8 pixels wide and sees 15.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from timm.layers.norm import LayerNorm2d
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from hilum.errors import ConfigError
from hilum.find import did_you_mean

STRIDE = 8
CHANNELS_PER_GROUP = 16
"""Of the stem's GroupNorm (Wu & He 2018)."""

_WIDTHS: Mapping[str, dict[str, Any]] = {
    f"convstem_vit_{width}": {"embed_dim": width, "depth": 12, "num_heads": 6} for width in (192, 384)
}


class ConvStem(PatchEmbed):
    """Patches of 8×8 pixels from three convolutions of d/2, d and d channels, each with its activation."""

    def __init__(
        self, *, in_chans: int, embed_dim: int, bias: bool, norm: str, act: str, **kwargs: Any
    ) -> None:
        """Takes timm's arguments of a patch embedding.

        Args:
            in_chans: channels of the image.
            embed_dim: d.
            bias: of the convolutions.
            norm: before each activation: none, batch, layer (over the channels of a place) or group.
            act: relu or gelu.
            kwargs: the rest of timm's.

        Raises:
            ConfigError: no such norm or activation.
        """
        super().__init__(in_chans=in_chans, embed_dim=embed_dim, bias=bias, **kwargs)
        new_norm, new_act = _choose("stem_norm", norm, NORMS), _choose("stem_act", act, ACTIVATIONS)
        layers: list[nn.Module] = []
        before = in_chans
        for width in (embed_dim // 2, embed_dim, embed_dim):
            layers.append(nn.Conv2d(before, width, 3, stride=2, padding=1, bias=bias))
            layers.extend([] if norm == "none" else [new_norm(width)])
            layers.append(new_act())
            before = width
        self.proj = nn.Sequential(*layers)  # type: ignore[assignment]


class PostNormBlock(Block):
    """The block of Vaswani et al. 2017, as torch's `TransformerEncoderLayer`: the norm after each sum."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Attention, then the perceptron."""
        seen = self.attn(x, attn_mask=attn_mask, is_causal=is_causal)
        x = self.norm1(x + self.drop_path1(self.ls1(seen)))
        out: Tensor = self.norm2(x + self.drop_path2(self.ls2(self.mlp(x))))
        return out


ORIGINAL: Mapping[str, Any] = {
    "block_fn": PostNormBlock,
    "act_layer": nn.ReLU,
    "norm_layer": partial(nn.LayerNorm, eps=1e-5),
    "final_norm": False,
    "proj_drop_rate": 0.1,
    "attn_drop_rate": 0.1,
}
"""The transformer of torch's `TransformerEncoder` as it comes: post-norm, ReLU, dropout, no last norm."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    **_WIDTHS,
    **{f"{name}_original": {**size, **ORIGINAL} for name, size in _WIDTHS.items()},
}
"""Arguments of timm's `VisionTransformer` by the architecture's name: pre-norm and GELU, or `ORIGINAL`."""

NORMS: Mapping[str, Any] = {
    "none": nn.Identity,
    "batch": nn.BatchNorm2d,
    "layer": LayerNorm2d,
    "group": lambda width: nn.GroupNorm(max(1, width // CHANNELS_PER_GROUP), width),
}
ACTIVATIONS: Mapping[str, Any] = {"relu": partial(nn.ReLU, inplace=True), "gelu": nn.GELU}


def conv_stem_vit(
    arch: str, side: int, *, stem_norm: str = "none", stem_act: str = "relu", **options: Any
) -> nn.Module:
    """A ViT with a convolutional stem, on one grey channel, for images of any multiple of 8 pixels.

    Args:
        arch: a name in `PRESETS`.
        side: of the images that its position table is made for, pixels.
        stem_norm: in the stem, see `ConvStem`.
        stem_act: in the stem.
        options: further arguments of timm's `VisionTransformer`, over those of the preset.

    Raises:
        ConfigError: the stem has no such norm or activation.
    """
    net: nn.Module = VisionTransformer(
        img_size=side,
        patch_size=STRIDE,
        in_chans=1,
        num_classes=0,
        global_pool="",
        dynamic_img_size=True,
        embed_layer=partial(ConvStem, norm=stem_norm, act=stem_act),
        **{**PRESETS[arch], **options},
    )
    if isinstance(net.cls_token, torch.Tensor):
        nn.init.trunc_normal_(net.cls_token, std=0.02)
    return net


def _choose(setting: str, name: str, known: Mapping[str, Any]) -> Any:
    if name not in known:
        raise ConfigError(f"{setting} is {name!r}; expected {', '.join(known)}{did_you_mean(name, known)}")
    return known[name]
