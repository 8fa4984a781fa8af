"""Attention rollout of a ViT: how much of each patch reaches what the encoder pools.

Abnar & Zuidema 2020 (https://arxiv.org/abs/2005.00928).
"""

from typing import Any

import torch
from jaxtyping import Float
from timm.models.vision_transformer import Attention  # type: ignore[attr-defined]
from torch import Tensor, nn

from hilum.errors import ConfigError
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.saliency.maps import Maps


def attention_rollout(model: Classifier, images: Float[Tensor, "B 1 S S"], finding: int) -> Maps:
    """The row of the class token, or the mean row of the patches where these are pooled; see `joint`.

    It is the same for every finding: attention says what was read, not what for.

    Raises:
        ConfigError: the encoder is no ViT with plain attention.
    """
    encoder = model.encoder
    layers = attentions(encoder)
    rolled: list[Tensor] = []

    def look(attention: nn.Module, given: tuple[Any, ...]) -> None:
        step = joint(attention_weights(attention, given[0]))
        rolled[:] = [step @ rolled[0]] if rolled else [step]

    handles = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        with torch.no_grad():
            logits = model(images)
    finally:
        for handle in handles:
            handle.remove()
    height, width = (side // encoder.strides[-1] for side in images.shape[2:])
    prefix = rolled[0].shape[1] - height * width
    patches = rolled[0][:, :, prefix:]
    read = patches[:, 0] if encoder.pooling.pool == "token" else patches[:, prefix:].mean(1)
    return Maps(read.reshape(-1, height, width), logits.float())


def joint(weights: Float[Tensor, "B M N N"]) -> Float[Tensor, "B N N"]:
    """The mean over heads, half of it replaced by the identity for the residual connection."""
    mean = weights.mean(1)
    return (mean + torch.eye(mean.shape[1], device=mean.device)) / 2


def attention_weights(attention: nn.Module, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B M N N"]:
    """What the fused kernel of timm's `Attention` computes and throws away, in single precision."""
    batch, num_tokens, _ = tokens.shape
    num_heads: int = attention.num_heads  # type: ignore[assignment]
    qkv = attention.qkv(tokens).reshape(batch, num_tokens, 3, num_heads, -1)  # type: ignore[operator]
    queries, keys, _ = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    queries, keys = attention.q_norm(queries).float(), attention.k_norm(keys).float()  # type: ignore[operator]
    with torch.autocast(tokens.device.type, enabled=False):
        alike: Tensor = queries * attention.scale @ keys.transpose(-2, -1)
    return alike.softmax(-1)


def attentions(encoder: Encoder) -> list[nn.Module]:
    """The attention of every block, first to last.

    Raises:
        ConfigError: the encoder is no ViT, or its blocks have another kind of attention.
    """
    if not encoder.has_patches:
        raise ConfigError(
            f"arch {encoder.arch} is no ViT and has no attention to roll out; try method grad_cam"
        )
    found = [getattr(block, "attn", None) for block in encoder.net.blocks]  # type: ignore[union-attr]
    if not all(type(layer) is Attention for layer in found):
        raise ConfigError(
            f"arch {encoder.arch}: its attention is of another kind than a plain ViT's, whose rows are "
            "weights of tokens; try method grad_cam"
        )
    return [layer for layer in found if layer is not None]
