"""Grad-CAM and Grad-CAM++: maps of features weighted by the gradient of a finding's logit.

Selvaraju et al. 2017 (https://arxiv.org/abs/1610.02391), Chattopadhay et al. 2018 (https://arxiv.org/abs/1710.11063).

By default the features are the encoder's last map, of which head and pool are a function: one forward pass of
the encoder without a graph, then the gradient of two small layers. A class token is in no map, and after the
last attention nothing flows to it from the patches; there, the features are what that attention reads.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hilum.errors import ConfigError
from hilum.find import did_you_mean
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.saliency.maps import Maps


def grad_cam(
    model: Classifier,
    images: Float[Tensor, "B 1 S S"],
    finding: int,
    *,
    plus_plus: bool = False,
    against: bool = False,
    layer: str = "",
) -> Maps:
    """The positive part of the weighted sum of feature maps (equations 1 and 2 of Grad-CAM).

    Args:
        model: in evaluation mode.
        images: normalised.
        finding: its place in the model's findings; the logit counts, not the probability.
        plus_plus: weights of Grad-CAM++ (equations 10 and 19), which were derived for features of a ReLU. Of
            features with negative sums its pixel weights may be of either sign, and huge.
        against: what speaks against the finding, by the negative gradient (section 3.3 of Grad-CAM). A model
            can call a film positive for want of evidence against it, of which its own map shows nothing.
        layer: a part of the backbone by its name, whose output is taken in place of the last map.

    Raises:
        ConfigError: there is no such layer, its output is no map, or no gradient reaches it; or the map has
            one place.
    """
    features, logits = _cut_at(model, images, layer)
    with torch.enable_grad():
        asked = -logits[:, finding] if against else logits[:, finding]
        (gradient,) = torch.autograd.grad(asked.sum(), features, allow_unused=True)
    last = bool(layer) and getattr(model.encoder.net, "output_fmt", "") == "NHWC"  # Swin and its like
    a, g = (
        _as_map(part, model.encoder, images, channels_last=last).float()
        for part in (features.detach(), torch.zeros_like(features) if gradient is None else gradient)
    )
    if layer and not g.any():
        raise ConfigError(
            f"layer {layer!r}: no gradient of the finding reaches it; choose an earlier one."
            + known_layers(model.encoder)
        )
    if a.shape[2] * a.shape[3] == 1:
        raise ConfigError(
            f"arch {model.encoder.arch}: the map has a single place, so there is nothing to see in it; try "
            "method occlusion"
        )
    weights = plus_plus_weights(a, g) if plus_plus else g.mean((2, 3))
    return Maps((weights[:, :, None, None] * a).sum(1).relu(), logits.detach().float())


def plus_plus_weights(a: Float[Tensor, "B D h w"], g: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D"]:
    """Equation 10 of Grad-CAM++ with alpha of equation 19, of Y = exp(logit): its factor exp is left out."""
    below = 2 * g**2 + a.sum((2, 3), keepdim=True) * g**3
    alpha = torch.where(below != 0, g**2 / torch.where(below != 0, below, 1), 0)
    return (alpha * g.relu()).sum((2, 3))


def check_layer(encoder: Encoder, layer: str) -> None:
    """Refuses a layer that the backbone has not.

    Raises:
        ConfigError: it has none of that name.
    """
    names = [name for name, _ in encoder.net.named_modules() if name]
    if layer and layer not in names:
        raise ConfigError(
            f"arch {encoder.arch} has no layer {layer!r}{did_you_mean(layer, names)}{known_layers(encoder)}"
        )


def known_layers(encoder: Encoder) -> str:
    """A sentence with the layers that end a stage, as timm lists them."""
    stages = [stage["module"] for stage in getattr(encoder.net, "feature_info", [])]
    return f" Its stages end at {', '.join(stages)}." if stages else ""


def _cut_at(model: Classifier, images: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """Features, cut from what made them, and the logits as a function of them."""
    encoder = model.encoder
    if not layer and encoder.pooling.pool != "token":
        with torch.no_grad():
            features = encoder.last_map(images).float()
        # Exact, and cheap: pool and head are small.
        with torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
            logits: Tensor = model.head(encoder.pool(features.requires_grad_()))
        return features, logits
    check_layer(encoder, layer)
    with torch.no_grad(), _cutting(encoder, layer) as kept:
        logits = model(images)
    if not kept:
        raise ConfigError(f"layer {layer!r} takes no part in this model's forward pass")
    return kept[0], logits


@contextmanager
def _cutting(encoder: Encoder, layer: str) -> Iterator[list[Tensor]]:
    """Makes the output of a layer, or the input of the last attention, the leaf of the graph."""
    kept: list[Tensor] = []

    def cut(value: Any) -> Any:
        if kept:
            return value  # a layer that is used twice is cut where it comes first
        if not isinstance(value, Tensor) or value.ndim not in (3, 4):
            raise ConfigError(f"layer {layer!r} gives no map of features{known_layers(encoder)}")
        torch.set_grad_enabled(True)  # what came before needs no graph; the caller's no_grad ends this
        kept.append(value.detach().requires_grad_())
        return kept[0].clone()  # what follows may write into it

    if layer:
        handle = encoder.net.get_submodule(layer).register_forward_hook(lambda _, __, out: cut(out))
    else:
        handle = _last_attention(encoder).register_forward_pre_hook(
            lambda _, given: (cut(given[0]), *given[1:])
        )
    try:
        yield kept
    finally:
        handle.remove()


def _last_attention(encoder: Encoder) -> nn.Module:
    block = encoder.net.blocks[-1]  # type: ignore[index]
    attention = getattr(block, "attn", None)
    if not isinstance(attention, nn.Module):
        raise ConfigError(f"arch {encoder.arch}: its blocks have no attention of their own; choose a --layer")
    return attention


def _as_map(features: Tensor, encoder: Encoder, images: Tensor, *, channels_last: bool) -> Tensor:
    if features.ndim == 4:
        return features.permute(0, 3, 1, 2) if channels_last else features
    height, width = (side // encoder.strides[-1] for side in images.shape[2:])
    patches = features[:, features.shape[1] - height * width :]  # class and register tokens come first
    return patches.transpose(1, 2).reshape(len(images), -1, height, width)


grad_cam_plus_plus = partial(grad_cam, plus_plus=True)
"""`grad_cam` with the weights of Grad-CAM++."""
