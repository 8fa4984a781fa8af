"""The loop: the only one. Pretraining, transfer and detection all go through `fit`."""

import logging
import math
import os
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from hilum.config import TrainConfig
from hilum.data.loader import Batch, Loader
from hilum.errors import ConfigError, Interrupted, NumericalError
from hilum.models.ema import copy_of, move_towards
from hilum.progress import Progress
from hilum.run import Run
from hilum.train import parallel
from hilum.train.clock import Clock
from hilum.train.optim import learning_rate, optimizer_for
from hilum.train.state import State
from hilum.train.stop import stop_signals
from hilum.train.task import Task

log = logging.getLogger(__name__)

MOST_VALIDATIONS = 20
"""A run of many short epochs is validated this often in all."""

Validate = Callable[[nn.Module], Mapping[str, float]]


def fit(
    task: Task,
    loader: Loader,
    config: TrainConfig,
    run: Run,
    *,
    validate: Validate | None = None,
    validate_every: int = 0,
) -> None:
    """Trains `task.model` in place, from the run's last checkpoint if it has one.

    After each epoch, or twenty times where there are more, or every `validate_every` steps if that is not 0,
    and at the end, `validate(model)` gives numbers to log. With
    `config.monitor` the model ends as it was when that number was best: highest, or lowest if its name ends
    in loss.

    Raises:
        NumericalError: the loss is not finite.
        Interrupted: the process was asked to stop; its state is saved.
        StorageError: the disk is full or failing.
    """
    device = choose_device(config.device)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    torch.manual_seed(config.seed)
    task.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    forward = parallel.synchronised(task)
    forward = torch.compile(forward) if config.compile else forward  # type: ignore[assignment]
    optimizer = optimizer_for(task, config)
    average = copy_of(task.model) if config.ema else None
    state = State(task, optimizer, average, run)
    now = state.restore()
    per_epoch = loader.num_images / config.batch_size
    total = config.steps or max(1, math.ceil(config.epochs * per_epoch))
    between = validate_every or max(per_epoch, total / MOST_VALIDATIONS)
    batches = loader.batches(now.step, total)
    clock = Clock(config.save_minutes)
    task.train()
    with Progress("Training", total, unit="steps", done=now.step) as line, stop_signals() as stop:
        while now.step < total and not (config.patience and now.stalled >= config.patience):
            with clock.waiting():
                batch = next(batches).to(device, task.input)
            task.before_step(now.step / total)
            lr = learning_rate(config, now.step / total, now.drops)
            terms = _backward(forward, batch, config, device)
            norm = nn.utils.clip_grad_norm_(task.parameters(), config.clip) if config.clip else None
            logged = (now.step + 1) % config.log_every == 0 or now.step + 1 == total
            if logged or device.type == "cpu":  # on a GPU, looking at a number waits for it
                _refuse_non_finite(task, terms, now.step, run)
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            now.step += 1
            if average is not None:
                # A young average would remember the random start: its momentum grows to what was asked.
                move_towards(
                    average, task.model, momentum=min(config.ema, now.step / (now.step + 10)), buffers=True
                )
            clock.count(len(batch) * parallel.world())
            where = {"step": now.step, "epoch": round(now.step / per_epoch, 4), "lr": lr}
            if logged:
                numbers = {name: float(value) for name, value in terms.items()}
                norms = {} if norm is None else {"gradient_norm": float(norm)}
                _log(run, where | numbers | norms | clock.facts())
                line.update(now.step, loss=f"{numbers['loss']:.4g}", lr=f"{lr:.2g}", **clock.words())
            ended = now.step == total or now.step // between > (now.step - 1) // between
            if ended and validate is not None:
                with torch.no_grad():
                    found = dict(validate(average or task.model)) if parallel.rank() == 0 else {}
                found = parallel.from_first(found)
                task.train()  # validation left the model in evaluation mode
                _log(run, where | found)
                state.judge(found, config)
            wanted = stop.agreed(now.step)
            if wanted or now.step == total or clock.save_due():
                state.save()
                clock.saved()
            if wanted and now.step < total:
                raise Interrupted(
                    f"{run.path}: stopped at step {now.step:,} of {total:,} and saved; the same command goes "
                    "on from here",
                    stop.code,
                )
    state.conclude()


def choose_device(name: str) -> torch.device:
    """The device of a name; auto is a GPU where there is one. Under torchrun each process takes its own.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device is {name!r}: {str(error).splitlines()[0]}; use cpu, or auto") from None
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", torch.cuda.current_device())))
        torch.cuda.set_device(device)
    return device


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The arithmetic of an encoder: bfloat16 where asked, or where auto finds the device fast at it."""
    fast = {"cuda": torch.cuda.is_available() and torch.cuda.is_bf16_supported(), "cpu": _fast_cpu_bfloat16()}
    wanted = precision == "bfloat16" or (precision == "auto" and fast.get(device.type, False))
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


def _fast_cpu_bfloat16() -> bool:
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))


def _backward(
    forward: nn.Module, batch: Batch, config: TrainConfig, device: torch.device
) -> dict[str, Tensor]:
    """Adds a batch's gradient, part by part, and returns the means of the task's terms over the parts."""
    means: dict[str, Tensor] = {}
    for i in range(config.accumulate):
        with autocast(config.precision, device):
            terms = forward(batch.part(i, config.accumulate))
        (terms["loss"] / config.accumulate).backward()
        for name, value in terms.items():
            means[name] = means.get(name, 0) + value.detach() / config.accumulate
    return means


def _refuse_non_finite(task: Task, terms: Mapping[str, Tensor], step: int, run: Run) -> None:
    bad = [name for name, value in terms.items() if not torch.isfinite(value)]
    if not bad:
        return
    weights = [name for name, value in task.state_dict().items() if not torch.isfinite(value).all()]
    cause = (
        f"weights were not finite already: {', '.join(weights[:3])}"
        if weights
        else "the weights were still finite"
    )
    raise NumericalError(
        f"{run.path}: {', '.join(bad)} became {float(terms[bad[0]])} at step {step:,} ({cause}). Nothing was "
        "saved after the last checkpoint. Try a lower --lr, a longer --warmup, --clip 1, or "
        "--precision float32 in a new --out"
    )


def _log(run: Run, row: Mapping[str, float]) -> None:
    if parallel.rank() == 0:
        run.log(row)
