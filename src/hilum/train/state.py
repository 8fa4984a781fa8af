"""What a checkpoint holds: everything without which the next step would differ by a bit."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hilum.config import TrainConfig
from hilum.errors import ConfigError
from hilum.run import Run
from hilum.train import parallel
from hilum.train.task import Task

log = logging.getLogger(__name__)

TENSORS, STANDING = "tensors.safetensors", "standing.json"


@dataclass
class Standing:
    """Where a run stands, beside its tensors."""

    step: int = 0
    best: float | None = None
    """Best value so far of the monitored metric."""
    stalled: int = 0
    """Validations since it was reached."""
    drops: int = 0
    """Times that the plateau schedule lowered the learning rate."""
    threads: int = 0
    """Threads of the arithmetic: another number sums in another order."""


class State:
    """A task with its optimiser, moving average and random generators, in memory and in checkpoints."""

    def __init__(self, task: Task, optimizer: Optimizer, average: nn.Module | None, run: Run) -> None:
        """Holds them; nothing is read or written yet."""
        self.task, self.optimizer, self.average, self.run = task, optimizer, average, run
        self.now = Standing(threads=torch.get_num_threads())
        self.best: dict[str, Tensor] = {}

    def restore(self) -> Standing:
        """Takes over the run's newest good checkpoint, if there is one."""
        found = self.run.load_checkpoint(cut=parallel.rank() == 0)
        if found is None:
            return self.now
        step, files = found
        self.now = Standing(**json.loads(files[STANDING]))
        if self.now.threads != torch.get_num_threads():
            log.warning(
                "resuming on %d threads, begun on %d: the last bits will differ from an uninterrupted run",
                torch.get_num_threads(),
                self.now.threads,
            )
            self.now.threads = torch.get_num_threads()
        tensors = safetensors.torch.load(files[TENSORS])
        self.task.load_state_dict(_under(tensors, "task."))
        if self.average is not None:
            self.average.load_state_dict(_under(tensors, "average."))
        self.best = _under(tensors, "best.")
        weights = self._weights()
        for name, tensor in _under(tensors, "optimizer.").items():
            index, key = name.split(".", 1)
            weight = weights[int(index)]
            # The same strides as the weight: kernels assume it.
            same = (
                torch.empty_like(weight, dtype=tensor.dtype)
                if tensor.shape == weight.shape
                else torch.empty_like(tensor)
            )
            self.optimizer.state[weight][key] = same.copy_(tensor)
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"])
        log.info("%s: going on from step %d", self.run.path, step)
        return self.now

    def save(self) -> None:
        """Writes a checkpoint; the main process does, for all."""
        if parallel.rank() != 0:
            return
        tensors = {"task." + name: tensor for name, tensor in self.task.state_dict().items()}
        if self.average is not None:
            tensors |= {"average." + name: tensor for name, tensor in self.average.state_dict().items()}
        tensors |= {"best." + name: tensor for name, tensor in self.best.items()}
        for index, weight in enumerate(self._weights()):
            tensors |= {
                f"optimizer.{index}.{key}": value
                for key, value in self.optimizer.state.get(weight, {}).items()
            }
        tensors["random.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        packed = safetensors.torch.save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
        self.run.save_checkpoint(
            self.now.step, {TENSORS: packed, STANDING: json.dumps(asdict(self.now)).encode()}
        )

    def judge(self, found: Mapping[str, float], config: TrainConfig, *, choose: bool = True) -> None:
        """Keeps the model, if this is to `choose`, where the monitored metric is its best yet; counts stalls.

        Raises:
            ConfigError: validation gives no such metric.
        """
        if not config.monitor:
            return
        if config.monitor not in found:
            raise ConfigError(
                f"--monitor is {config.monitor!r}; validation gives {', '.join(found) or 'nothing'}"
            )
        value, sign = found[config.monitor], -1 if config.monitor.endswith("loss") else 1
        if self.now.best is None or sign * value > sign * self.now.best:
            self.now.best, self.now.stalled = value, 0
            if choose:
                model = self.average or self.task.model
                self.best = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
            return
        self.now.stalled += 1
        if config.schedule == "plateau" and self.now.stalled % max(1, config.patience // 2) == 0:
            self.now.drops += 1

    def conclude(self) -> None:
        """Leaves in `task.model` what is to be kept: the best epoch, the moving average, or the last step."""
        if self.best:
            self.task.model.load_state_dict(self.best)
        elif self.average is not None:
            self.task.model.load_state_dict(self.average.state_dict())
        self.task.eval()

    def _weights(self) -> list[Tensor]:
        return [weight for group in self.optimizer.param_groups for weight in group["params"]]


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
