"""Several processes as one: started by torchrun, equal to a single process at the same global batch."""

import gc
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """Joins the processes that torchrun started, if it did.

    Let go of what was `synchronised` before the end: it keeps gloo's threads, and one that frees its last
    tensor while Python ends aborts the process.
    """
    if "RANK" not in os.environ or dist.is_initialized():
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        gc.collect()  # of what `synchronised` gave, whose parts refer to each other
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gather(local: Tensor) -> Tensor:
    """The rows of all processes, in the order of their ranks; gradients flow back to whose rows they were."""
    if world() == 1:
        return local
    everyone: Tensor = _Gather.apply(local)  # type: ignore[no-untyped-call]
    return everyone


def from_first(numbers: dict[str, float]) -> dict[str, float]:
    """The numbers of the first process, in all: what they decide must be decided alike."""
    if world() == 1:
        return numbers
    holder = [numbers]
    dist.broadcast_object_list(holder)
    return holder[0]


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of one number over all processes; no gradient passes."""
    if world() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world()


def places(size: int, device: torch.device) -> Tensor:
    """Where this process's rows stand among those of all, when each has `size`."""
    return torch.arange(size, device=device) + rank() * size


def synchronised(task: nn.Module) -> nn.Module:
    """The task with its gradients averaged and its BatchNorm statistics shared over processes."""
    if world() == 1:
        return task
    _share_statistics(task)
    on_gpu = next(task.parameters()).is_cuda
    # Buffers agree without being broadcast: statistics are shared, and queues are filled with gathered keys.
    # torch 2.13 renamed the option and warns about the old name.
    known = inspect.signature(DistributedDataParallel).parameters
    without = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    devices = [torch.cuda.current_device()] if on_gpu else None
    options: dict[str, Any] = {without: False}
    return DistributedDataParallel(task, device_ids=devices, **options)


def _share_statistics(module: nn.Module) -> None:
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            plain = (nn.BatchNorm1d.forward, nn.BatchNorm2d.forward, nn.BatchNorm3d.forward)
            assert type(child).forward in (*plain, BatchNormAct2d.forward), f"what does {type(child)} add?"
            child.forward = _SharedNorm(child)  # type: ignore[method-assign, assignment]


class _SharedNorm:
    """BatchNorm over the rows of all processes; torch's own SyncBatchNorm refuses tensors on the CPU."""

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm) -> None:
        self.norm = norm
        self.local = norm.forward

    def __call__(self, x: Tensor) -> Tensor:
        norm = self.norm
        if not norm.training:
            return self.local(x)
        over = [0, 2, 3][: x.ndim - 1]
        shape = [1, -1, 1, 1][: x.ndim]
        count = x.numel() // x.shape[1] * world()
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = _sum(wide.sum(over)) / count
        variance = _sum(wide.sub(mean.view(shape)).square().sum(over)) / count
        if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
            with torch.no_grad():
                momentum = 0.1 if norm.momentum is None else norm.momentum
                norm.running_mean.lerp_(mean.detach().to(norm.running_mean.dtype), momentum)
                unbiased = variance.detach() * count / (count - 1)
                norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), momentum)
                if norm.num_batches_tracked is not None:
                    norm.num_batches_tracked.add_(1)
        out: Tensor = (wide - mean.view(shape)) * (variance.view(shape) + norm.eps).rsqrt()
        if norm.affine:
            out = out * norm.weight.view(shape) + norm.bias.view(shape)
        out = out.to(x.dtype)
        # timm's BatchNormAct2d, of DenseNets and EfficientNets, ends with an activation of its own.
        return norm.act(norm.drop(out)) if isinstance(norm, BatchNormAct2d) else out


def _sum(local: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(local)  # type: ignore[no-untyped-call]
    return total


class _Gather(torch.autograd.Function):
    """Rows of all processes; each row's gradient is what all processes together ask of it."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        """Concatenates by rank."""
        parts = [torch.empty_like(local) for _ in range(world())]
        dist.all_gather(parts, local.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Adds up over processes, and takes this one's rows."""
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(world())[rank()]


class _Sum(torch.autograd.Function):
    """The sum over processes, of values and of gradients."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        """Adds up values."""
        total = local.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Adds up gradients."""
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
