"""Several processes as one: started by torchrun, equal to a single process at the same global batch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as collective
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """Joins the processes that torchrun started, if it did."""
    if "RANK" not in os.environ or dist.is_initialized():
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gather(local: Tensor) -> Tensor:
    """The rows of all processes, in the order of their ranks; the gradient flows back to whose rows they were."""
    if world() == 1:
        return local
    return torch.cat(collective.all_gather(local.contiguous()))


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
    return DistributedDataParallel(
        task, device_ids=[torch.cuda.current_device()] if on_gpu else None, broadcast_buffers=False
    )


def _share_statistics(module: nn.Module) -> None:
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.forward = _SharedNorm(child)  # type: ignore[method-assign]


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
        wide = x.float()
        mean = collective.all_reduce(wide.sum(over)) / count
        variance = collective.all_reduce(wide.sub(mean.view(shape)).square().sum(over)) / count
        if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
            with torch.no_grad():
                momentum = 0.1 if norm.momentum is None else norm.momentum
                norm.running_mean.lerp_(mean.detach(), momentum)
                norm.running_var.lerp_(variance.detach() * count / (count - 1), momentum)
                if norm.num_batches_tracked is not None:
                    norm.num_batches_tracked.add_(1)
        out = (wide - mean.view(shape)) * (variance.view(shape) + norm.eps).rsqrt()
        if norm.affine:
            out = out * norm.weight.view(shape) + norm.bias.view(shape)
        return out.to(x.dtype)
