"""hilum lr-range: which learning rate to begin with."""

import json
import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from hilum.commands._open import open_store
from hilum.commands._pretext import open_loader, open_partners, open_task, open_trainable
from hilum.config import PretextConfig, StepConfig, TrainConfig
from hilum.durable import write_atomically
from hilum.errors import ConfigError, NumericalError, OutputError
from hilum.progress import Progress
from hilum.report.drawing import SERIES, style
from hilum.train.device import choose_device
from hilum.train.parallel import processes, rank
from hilum.train.range_test import Suggestion, has_diverged, smooth, suggest, sweep
from hilum.train.rehearsal import Rehearsal

EXAMPLE = "hilum lr-range simclr --records films.csv --out lr-range"
TAKES = "method"

log = logging.getLogger(__name__)


class Settings(PretextConfig):
    """Trains a method for a few steps while the learning rate rises, and plots the loss.

    A method without negatives (byol) may lower its loss by collapse: look at a run's rank too.
    """

    out: Path
    """Folder for lr_range.json and lr_range.png; it must not exist."""
    lr_min: float = 1e-6
    """Learning rate of the first step."""
    lr_max: float = 10.0
    """Learning rate of the last step; the sweep ends before it when the loss diverges."""
    steps: int = 150
    """Steps from the one to the other."""


def lr_range(config: Settings) -> Path:
    """Writes the curve and its plot, and returns their folder."""
    if config.out.exists():
        raise OutputError(f"{config.out}: is there already; give another --out or remove it")
    if not 0 < config.lr_min < config.lr_max or config.steps < 10:
        raise ConfigError(
            f"lr-range goes from --lr-min {config.lr_min:g} to --lr-max {config.lr_max:g} in --steps "
            f"{config.steps}; expected 0 < lr-min < lr-max, and 10 steps or more"
        )
    with processes(choose_device(config.device)):
        rates, losses = _sweep(config)
        if rank() == 0:
            _write(config, rates, losses)
    return config.out


def _sweep(config: Settings) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Rates and losses; what was synchronised for it is let go of, as `processes` wants it."""
    records, store = open_store(config, open_trainable(config).records)
    task = open_task(config, records)
    loader = open_loader(config, task, records, store, partners=open_partners(config, records))
    shared = {name: getattr(config, name) for name in StepConfig.model_fields}
    rehearsal = Rehearsal(task, TrainConfig(**shared, steps=config.steps))
    rates = sweep(config.lr_min, config.lr_max, config.steps)
    losses: list[float] = []
    with Progress("Sweeping", config.steps, unit="steps") as line:
        for lr, batch in zip(rates.tolist(), loader.batches(0, config.steps), strict=True):
            try:
                losses.append(rehearsal.step(batch, lr=lr)["loss"])
            except NumericalError:
                if not losses:
                    raise
                break
            line.update(len(losses), loss=f"{losses[-1]:.4g}", lr=f"{lr:.2g}")
            if has_diverged(np.array(losses), config.steps):
                break
    return rates[: len(losses)], np.array(losses)


def _write(config: Settings, rates: Float[np.ndarray, " N"], losses: Float[np.ndarray, " N"]) -> None:
    smoothed = smooth(losses, config.steps)
    suggestion = suggest(rates, losses, planned=config.steps)
    found = {
        **asdict(suggestion),
        "settings": config.model_dump(mode="json"),
        "lr": rates.tolist(),
        "loss": losses.tolist(),
        "smoothed": smoothed.tolist(),
    }
    write_atomically(config.out / "lr_range.json", (json.dumps(found, indent=1) + "\n").encode())
    _plot(config, rates, losses, smoothed, suggestion)
    end = "diverged after it" if suggestion.diverged else "did not diverge: a higher --lr-max would tell"
    log.info(
        "Steepest fall at --lr %.2g: a good start. Highest before divergence %.2g; the loss %s",
        suggestion.steepest_fall,
        suggestion.highest_before_divergence,
        end,
    )


def _plot(
    config: Settings,
    rates: Float[np.ndarray, " N"],
    losses: Float[np.ndarray, " N"],
    smoothed: Float[np.ndarray, " N"],
    suggestion: Suggestion,
) -> None:
    with style():
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(rates, losses, color=SERIES[0], alpha=0.3, linewidth=0.9, label="loss")
        axes.plot(rates, smoothed, color=SERIES[0], label="smoothed")
        marks = (
            ("steepest fall", suggestion.steepest_fall, "--"),
            ("highest before divergence", suggestion.highest_before_divergence, ":"),
        )
        for name, rate, dashes in marks:
            axes.axvline(rate, color=SERIES[1], linestyle=dashes, label=f"{name}: {rate:.2g}")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("learning rate")
        axes.set_title(f"{config.method}, {config.optimizer}, batches of {config.batch_size}")
        axes.legend()
        figure.savefig(config.out / "lr_range.png", dpi=150)
