"""Training steps of which nothing is kept: what they cost, and where a learning rate leads."""

import math
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from hilum.config import TrainConfig
from hilum.data.batch import Batch
from hilum.errors import NumericalError
from hilum.run import KEEP
from hilum.train.device import choose_device
from hilum.train.loop import backward, begin, follow
from hilum.train.task import Task


class Rehearsal:
    """A task that takes steps exactly as `fit` does, without a run."""

    def __init__(self, task: Task, config: TrainConfig) -> None:
        """Puts the task on its device; the settings' schedule is not followed.

        Raises:
            ConfigError: as `fit`.
        """
        self.task, self.config = task, config
        self.device = choose_device(config.device)
        self.forward, self.optimizer = begin(task, config, self.device)
        self.seconds = 0.0
        """What the last step took."""

    def step(self, batch: Batch, *, lr: float, progress: float = 0.0) -> dict[str, float]:
        """The task's terms of a batch, which the weights have followed then.

        Raises:
            NumericalError: the loss is not finite; no weight has moved.
        """
        start = time.monotonic()
        moved = batch.to(self.device, self.task.input)
        self.task.before_step(progress)
        terms = backward(self.forward, moved, self.config, self.device)
        numbers = {name: float(value) for name, value in terms.items()}
        if not all(map(math.isfinite, numbers.values())):
            raise NumericalError(
                f"the loss is {numbers['loss']} at a learning rate of {lr:.3g}; try --precision float32, or "
                "another method"
            )
        follow(self.optimizer, self.task, lr=lr, clip=self.config.clip)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds = time.monotonic() - start
        return numbers

    def peak_memory(self) -> int:
        """Bytes taken at most so far: of the GPU, or of this whole process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_reserved(self.device)
        if sys.platform == "linux":  # where ru_maxrss may be that of the process that began this one
            status = Path("/proc/self/status").read_text()
            return int(status.partition("VmHWM:")[2].split()[0]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS

    def weights_bytes(self) -> int:
        """Bytes of the weights file that the run would leave."""
        return _size(self.task.model.state_dict())

    def checkpoint_bytes(self) -> int:
        """Bytes on disk while the run lasts: the checkpoints kept, and the next one while it is written."""
        one = _size(self.task.state_dict())
        one += sum(_size(state) for state in self.optimizer.state.values())
        one += self.weights_bytes() * (bool(self.config.ema) + bool(self.config.monitor))
        return one * (KEEP + 1)


def _size(tensors: Mapping[str, object]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors.values() if isinstance(t, Tensor))
