"""The loop: the only one. Pretraining, transfer and detection all go through `fit`."""

import logging
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from hilum.config import TrainConfig
from hilum.data.batch import Batch
from hilum.data.loader import Loader
from hilum.errors import ConfigError, Interrupted, NumericalError
from hilum.models.ema import copy_of, move_towards
from hilum.progress import Progress
from hilum.run import Run
from hilum.train import parallel
from hilum.train.clock import Clock
from hilum.train.device import autocast, choose_device
from hilum.train.optim import learning_rate, optimizer_for
from hilum.train.state import State
from hilum.train.stop import stop_signals
from hilum.train.task import Task

log = logging.getLogger(__name__)

MOST_VALIDATIONS = 20
"""A run of many short epochs is validated this often in all."""
IN_LINE = {"rankme": "rank", "feature_std": "std", "knn_auroc": "kNN AUROC", "val_auroc": "val AUROC"}
"""What of validation stands in the progress line, and under which name."""
WAY_OUT = (
    "Nothing was saved after the last checkpoint. Try a lower --lr, a longer --warmup, --clip 1, or "
    "--precision float32 in a new --out"
)

Validate = Callable[[nn.Module], Mapping[str, float]]
Keep = Callable[[nn.Module, int], None]


def fit(
    task: Task,
    loader: Loader,
    config: TrainConfig,
    run: Run,
    *,
    validate: Validate | None = None,
    validate_every: int = 0,
    keep: Keep | None = None,
) -> None:
    """Trains `task.model` in place, from the run's last checkpoint if it has one.

    After each epoch, or twenty times where there are more, and at the end, `validate(model)` gives numbers to
    log; with `validate_every` it does so before the first step, every so many steps, and at the end. With
    `config.monitor` the model ends as it was when that number was best: highest, or lowest if its name ends
    in loss. After each epoch, however many there are, and at the end, `keep(model, step)` may write it down;
    with `keep` the model ends as the last step left it, and `config.monitor` only steers rate and patience.

    Raises:
        ConfigError: a batch cannot be split as asked, or is too small for BatchNorm.
        NumericalError: the loss is not finite.
        Interrupted: the process was asked to stop; its state is saved.
        StorageError: the disk is full or failing.
    """
    device = choose_device(config.device)
    forward, optimizer = begin(task, config, device)
    average = copy_of(task.model) if config.ema else None
    state = State(task, optimizer, average, run)
    now = state.restore()
    if config.tensorboard and parallel.rank() == 0:
        run.keep_events()
    per_epoch = loader.num_images / config.batch_size
    total = planned_steps(config, loader.num_images)
    between = validate_every or max(per_epoch, total / MOST_VALIDATIONS)
    found: dict[str, float] = {}
    batches = loader.batches(now.step, total)
    clock = Clock(config.save_minutes)
    with Progress("Training", total, unit="steps", done=now.step) as line, stop_signals() as stop:
        if validate is not None and validate_every and now.step == 0:
            found = _validated(validate, task, None)
            _log(run, {"step": 0, "epoch": 0.0} | found)
        while now.step < total and not (config.patience and now.stalled >= config.patience):
            with clock.waiting():
                batch = next(batches).to(device, task.input)
            task.before_step(now.step / total)
            lr = learning_rate(config, now.step / total, now.drops, restart=task.restart)
            terms = backward(forward, batch, config, device)
            logged = (now.step + 1) % config.log_every == 0 or now.step + 1 == total
            if logged or device.type == "cpu":  # on a GPU, looking at a number waits for it
                _refuse_non_finite(task, terms, now.step, run)
            terms |= follow(optimizer, task, lr=lr, clip=config.clip)
            now.step += 1
            if average is not None:
                # A young average would remember the random start: its momentum grows to what was asked.
                young = min(config.ema, now.step / (now.step + 10))
                move_towards(average, task.model, momentum=young, buffers=True)
            clock.count(len(batch) * parallel.world())
            where = {"step": now.step, "epoch": round(now.step / per_epoch, 4), "lr": lr}
            if logged:
                numbers = {name: float(parallel.mean_over_processes(value)) for name, value in terms.items()}
                _log(run, where | numbers | clock.facts())
                line.update(now.step, **_words(numbers["loss"], lr, found), **clock.words())
            ended = now.step == total or now.step // between > (now.step - 1) // between
            whole = now.step * config.batch_size // loader.num_images
            before = (now.step - 1) * config.batch_size // loader.num_images
            kept = keep is not None and (now.step == total or whole > before)
            if ended or kept:
                _refuse_broken_weights(task, now.step, run)
            if ended and validate is not None:
                found = _validated(validate, task, average)
                _log(run, where | found)
                state.judge(found, config, choose=keep is None)
            if kept and keep is not None and parallel.rank() == 0:
                keep(average or task.model, now.step)
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


def planned_steps(config: TrainConfig, num_images: int) -> int:
    """The steps of a whole run."""
    return config.steps or max(1, math.ceil(config.epochs * num_images / config.batch_size))


def begin(task: Task, config: TrainConfig, device: torch.device) -> tuple[nn.Module, Optimizer]:
    """Puts a task on its device in training mode; what to call for the loss, and its optimiser.

    Raises:
        ConfigError: a batch cannot be split as asked, or is too small for BatchNorm.
    """
    torch.set_num_threads(config.threads or torch.get_num_threads())
    torch.manual_seed(config.seed)
    task.place(device)
    task.train()
    _refuse_small_parts(task, config)
    forward = parallel.synchronised(task)
    forward = torch.compile(forward) if config.compile else forward  # type: ignore[assignment]
    return forward, optimizer_for(task, config)


def backward(
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


def follow(optimizer: Optimizer, task: Task, *, lr: float, clip: float) -> dict[str, Tensor]:
    """Moves weights along their gradients and clears these; the gradient's norm where `clip` limits it."""
    norm = {"gradient_norm": nn.utils.clip_grad_norm_(task.parameters(), clip)} if clip else {}
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def _validated(validate: Validate, task: Task, average: nn.Module | None) -> dict[str, float]:
    with torch.no_grad():
        found = dict(validate(average or task.model)) if parallel.rank() == 0 else {}
    task.train()  # validation left the model in evaluation mode
    return parallel.from_first(found)


def _words(loss: float, lr: float, found: Mapping[str, float]) -> dict[str, str]:
    health = {word: f"{found[name]:.3g}" for name, word in IN_LINE.items() if name in found}
    return {"loss": f"{loss:.4g}", **health, "lr": f"{lr:.2g}"}


def _refuse_small_parts(task: Task, config: TrainConfig) -> None:
    parts = parallel.world() * config.accumulate
    if config.batch_size % parts:
        raise ConfigError(
            f"--batch-size {config.batch_size} on {parallel.world()} processes cannot be split into "
            f"{config.accumulate} equal parts each; give a multiple of {parts}"
        )
    if config.batch_size // config.accumulate > 1:
        return
    norms = (name for name, m in task.named_modules() if isinstance(m, _BatchNorm) and m.training)
    if (name := next(norms, None)) is not None:
        raise ConfigError(
            f"--batch-size {config.batch_size} in {config.accumulate} parts is 1 radiograph at a time; the "
            f"BatchNorm in {name} needs 2 or more. Give a larger --batch-size or a smaller --accumulate"
        )


def _refuse_non_finite(task: Task, terms: Mapping[str, Tensor], step: int, run: Run) -> None:
    bad = [name for name, value in terms.items() if not torch.isfinite(value)]
    if not bad:
        return
    weights = _broken_weights(task)
    cause = f"weights were not finite already: {weights}" if weights else "the weights were still finite"
    raise NumericalError(
        f"{run.path}: {', '.join(bad)} became {float(terms[bad[0]])} at step {step:,} ({cause}). {WAY_OUT}"
    )


def _refuse_broken_weights(task: Task, step: int, run: Run) -> None:
    """No loss has seen yet what the last step made of the weights, and a model is looked at or kept now."""
    if weights := _broken_weights(task):
        raise NumericalError(f"{run.path}: after step {step:,} weights are not finite: {weights}. {WAY_OUT}")


def _broken_weights(task: Task) -> str:
    return ", ".join([name for name, x in task.state_dict().items() if not torch.isfinite(x).all()][:3])


def _log(run: Run, row: Mapping[str, float]) -> None:
    if parallel.rank() == 0:
        run.log(row)
