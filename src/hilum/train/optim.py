"""Which weights follow gradients how fast."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hilum.config import TrainConfig
from hilum.models.blocks import distances, freeze_before
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.models.lora import add_lora
from hilum.train.task import Task


@dataclass(frozen=True)
class Fitting:
    """What of a classifier is trained, and how fast; as it comes, everything at one rate."""

    head_only: bool = False
    """Nothing of the encoder is trained."""
    train_from: str = ""
    """The first block of the encoder that is trained; empty: all are."""
    head_first: float = 0.0
    """Share of the run in which the head alone is trained (LP-FT); then the schedule starts anew.
    Kumar et al. 2022, https://arxiv.org/abs/2202.10054"""
    layer_decay: float = 1.0
    """A block's learning rate over that of the next, the head last (BEiT, https://arxiv.org/abs/2106.08254;
    MAE, https://arxiv.org/abs/2111.06377)."""
    head_scale: float = 1.0
    """The head's learning rate over that of the last block before any layer decay."""
    lora_rank: int = 0
    """Rank of LoRA, where of the encoder nothing else is trained; 0: no LoRA."""
    lora_alpha: float = 0.0
    """What LoRA's change is multiplied by, times the rank."""

    def prepare(self, encoder: Encoder) -> list[nn.Module]:
        """Takes the gradient from what is not trained, and returns what has to stay in evaluation mode.

        Raises:
            ConfigError: the encoder has no such block, or is no ViT for LoRA.
        """
        if self.lora_rank:
            return add_lora(encoder, rank=self.lora_rank, alpha=self.lora_alpha)
        if self.head_only:
            encoder.requires_grad_(False)
            return [encoder]
        return freeze_before(encoder, self.train_from) if self.train_from else []

    def scales(self, model: Classifier) -> dict[str, float]:
        """Factors of the learning rate other than 1, by the names of the model's weights."""
        steps = {"encoder.net." + name: n for name, n in distances(model.encoder.net).items()}
        scales = {name: self.layer_decay**n for name, n in steps.items()}
        scales |= {"head." + name: self.head_scale for name, _ in model.head.named_parameters()}
        return {name: scale for name, scale in scales.items() if scale != 1}


EVERYTHING = Fitting()
"""Encoder and head alike, at one rate."""


def optimizer_for(task: Task, config: TrainConfig) -> Optimizer:
    """The optimiser of a task's trainable weights; biases and normalisation are not decayed.

    Each group has the `scale` of the learning rate that the task asks for.
    """
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    trainable = [(name, weight) for name, weight in task.named_parameters() if weight.requires_grad]
    for matrix in (True, False):
        for name, weight in trainable:
            if (weight.ndim > 1) == matrix:
                scale = task.scales.get(name, 1.0)
                decay = config.weight_decay if matrix else 0.0
                new = {"params": [], "weight_decay": decay, "adapt": matrix, "scale": scale}
                groups.setdefault((scale, matrix), new)["params"].append(weight)
    return _optimizer(list(groups.values()), config)


def _optimizer(groups: list[dict[str, Any]], config: TrainConfig) -> Optimizer:
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, fused=True)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    return LARS(groups, lr=config.lr, momentum=config.momentum)


def learning_rate(config: TrainConfig, progress: float, drops: int = 0, *, restart: float = 0.0) -> float:
    """The learning rate at a share of the run in [0, 1]: linear warm-up, then the schedule.

    `drops` is how often the plateau schedule has seen its metric stall. At `restart`, if that is above 0,
    one whole schedule with its warm-up ends and another begins.
    """
    if restart:
        progress = progress / restart if progress < restart else (progress - restart) / (1 - restart)
    if progress < config.warmup:
        return config.lr * progress / config.warmup
    if config.schedule == "cosine":
        done = (progress - config.warmup) / max(1 - config.warmup, 1e-12)
        return config.lr * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    if config.schedule == "step":
        drops = (progress >= 0.6) + (progress >= 0.8)
    return config.lr * config.drop**drops


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You, Gitman, Ginsburg 2017, algorithm 1), as Barlow Twins uses it.

    A group with `adapt` false (biases, normalisation) follows plain SGD with momentum.
    """

    def __init__(self, params: Any, *, lr: float, momentum: float = 0.9, trust: float = 0.001) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "trust": trust, "adapt": True}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Moves every weight that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                update = weight.grad + group["weight_decay"] * weight
                if group["adapt"]:
                    update = update * _trust_ratio(weight, update, group["trust"])
                state = self.state[weight]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].mul_(group["momentum"]).add_(update)
                weight.add_(state["momentum"], alpha=-group["lr"])


def _trust_ratio(weight: Tensor, update: Tensor, trust: float) -> Tensor:
    ratio = trust * weight.norm() / update.norm()
    return torch.where(ratio.isfinite() & (ratio > 0), ratio, 1.0)
