"""LoRA: a ViT adapted by small matrices beside its attention's large ones, which stand still.

Hu et al. 2021, https://arxiv.org/abs/2106.09685
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hilum.errors import ConfigError
from hilum.models.encoder import Encoder

ADAPTED = ("qkv", "proj")
"""The linear layers of a ViT's attention."""


class LowRank(nn.Module):
    """A linear layer W that stands still, with what is learnt beside it: `W x + alpha / rank · B A x`.

    A is drawn as a linear layer's weight is and B is zero, so at first nothing is changed.
    """

    def __init__(self, linear: nn.Linear, *, rank: int, alpha: float) -> None:
        """Wraps a layer; it is not copied."""
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.a = nn.Parameter(torch.empty(rank, linear.in_features))
        self.b = nn.Parameter(torch.zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.a, a=5**0.5)
        self.scale = alpha / rank

    def forward(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... O"]:
        """The layer's output and the learnt change of it."""
        out: Tensor = self.linear(x) + self.scale * (x @ self.a.T @ self.b.T)
        return out

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The wrapped layer with the change added to its weight."""
        self.linear.weight += self.scale * self.b @ self.a
        return self.linear


def add_lora(encoder: Encoder, *, rank: int, alpha: float) -> list[nn.Module]:
    """Wraps the attention of a ViT; nothing else of it is trained.

    Returns:
        What has to stay in evaluation mode: the BatchNorm that a stem may have.

    Raises:
        ConfigError: the encoder is no ViT, or its attention has no such layers.
    """
    attentions = [m for m in encoder.net.modules() if all(_linear(m, name) for name in ADAPTED)]
    if not encoder.has_patches or not attentions:
        raise ConfigError(
            f"--fit lora adapts the attention of a ViT, and {encoder.arch} is none; take --fit finetune (for "
            "a part of it with --train-from), or an encoder such as vit_small_patch16_224"
        )
    encoder.requires_grad_(False)
    for attention in attentions:
        for name in ADAPTED:
            setattr(attention, name, LowRank(getattr(attention, name), rank=rank, alpha=alpha))
    return [module for module in encoder.modules() if isinstance(module, _BatchNorm)]


def merge_lora(encoder: Encoder) -> None:
    """Makes of a wrapped ViT an ordinary one with the same outputs."""
    for parent in list(encoder.net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LowRank):
                setattr(parent, name, child.merged())


def _linear(module: nn.Module, name: str) -> bool:
    return isinstance(getattr(module, name, None), nn.Linear)
