"""Which weights follow gradients how fast."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hilum.config import TrainConfig


def optimizer_for(task: nn.Module, config: TrainConfig) -> Optimizer:
    """The optimiser of a task's trainable weights; biases and normalisation are not decayed."""
    trainable = [weight for weight in task.parameters() if weight.requires_grad]
    groups = [
        {"params": [w for w in trainable if w.ndim > 1], "weight_decay": config.weight_decay, "adapt": True},
        {"params": [w for w in trainable if w.ndim <= 1], "weight_decay": 0.0, "adapt": False},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, fused=True)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    return LARS(groups, lr=config.lr, momentum=config.momentum)


def learning_rate(config: TrainConfig, progress: float, drops: int = 0) -> float:
    """The learning rate at a share of the run in [0, 1]: linear warm-up, then the schedule.

    `drops` is how often the plateau schedule has seen its metric stall.
    """
    if progress < config.warmup:
        return config.lr * progress / config.warmup
    if config.schedule == "cosine":
        done = (progress - config.warmup) / max(1 - config.warmup, 1e-12)
        return config.lr * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    if config.schedule == "step":
        return config.lr * 0.1 ** ((progress >= 0.6) + (progress >= 0.8))
    return config.lr * 0.1**drops


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
