"""Settings of training: a step, a run of the loop, a pretraining, the cells of a transfer."""

from pathlib import Path
from typing import Literal, Self

from pydantic import field_validator, model_validator

from hilum.config.base import Config
from hilum.config.films import EncoderConfig, PairsConfig, RecordsConfig, StoreConfig, ViewsConfig


class StepConfig(Config):
    """What one step of training is."""

    batch_size: int = 64
    """Radiographs per optimiser step, over all processes and accumulation steps."""
    accumulate: int = 1
    """Parts that a batch is computed in. Losses that compare radiographs compare within a part."""
    optimizer: Literal["adamw", "sgd", "lars"] = "adamw"
    """How weights follow gradients."""
    weight_decay: float = 1e-4
    """Decay of weights; biases and normalisation are left out of it."""
    momentum: float = 0.9
    """Momentum of sgd and lars."""
    clip: float = 0.0
    """Largest norm of the gradient; 0 is no limit."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the encoder. auto: bfloat16 where the device is fast at it, float32 otherwise."""
    compile: bool = False
    """Compile the task with torch.compile: slow to start, fast on GPUs."""
    workers: int = 1
    """Processes that prepare batches; the result does not depend on it."""
    threads: int = 0
    """Threads of the arithmetic on the CPU; 0: torch's choice."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes a GPU where there is one."""
    seed: int = 0
    """Of initial weights, order and augmentation."""

    @model_validator(mode="after")
    def _check_step(self) -> Self:
        for name in ("batch_size", "accumulate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be split into {self.accumulate} equal parts"
            )
        return self


class TextConfig(Config):
    """What a method that compares radiographs with their texts reads, and by what."""

    text_model: str = "emilyalsentzer/Bio_ClinicalBERT"
    """A BERT-like model: a folder, a run of an image-text method, or a name on the hub (needs a network)."""
    text_freeze: int = 0
    """How many of its first layers are not trained, nor the embeddings before them; -1: all."""
    text_pool: Literal["mean", "class"] = "mean"
    """What embeds a text: the mean over its tokens, or its class token."""
    max_tokens: int = 128
    """Longer texts lose their end; how many did is logged, as cut_texts."""
    section: Literal["whole", "findings", "impression"] = "whole"
    """Which section of a report is read; one that lacks it is read whole, and logged, as lacking_section."""
    sentences: int = 0
    """How many sentences are drawn at random, anew each epoch; 0: all."""

    @model_validator(mode="after")
    def _check_text(self) -> Self:
        if self.sentences < 0:
            raise ValueError(f"sentences is {self.sentences}; it is 1 or more, or 0 for all")
        return self


class TrainConfig(StepConfig):
    """What the loop does with any task."""

    epochs: float = 10
    """How often every radiograph is seen."""
    steps: int = 0
    """Optimiser steps, in place of epochs; 0: epochs count."""
    lr: float = 1e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "step", "plateau", "constant"] = "cosine"
    """Learning rate after the warm-up. step: it drops at 60 % and 80 % of the run. plateau: it drops when
    `monitor` stalls."""
    drop: float = 0.1
    """Schedules step and plateau: what the rate is multiplied by when it drops."""
    warmup: float = 0.05
    """Share of the run in which the learning rate rises linearly from 0."""
    ema: float = 0.0
    """Momentum of a moving average of the weights that is validated and kept instead; 0 is none."""
    monitor: str = ""
    """Validation metric by which the best epoch is kept; empty: the last epoch is kept."""
    patience: int = 0
    """Validations without improvement after which the run ends; 0: never. plateau waits half of it, or 1."""
    save_minutes: float = 10
    """A checkpoint is written this often, and when the run stops or ends."""
    log_every: int = 10
    """Steps between rows of metrics.jsonl."""
    tensorboard: bool = False
    """Write the rows of metrics.jsonl for TensorBoard too, into the run's folder tensorboard."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("epochs", "lr"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if not 0 < self.drop < 1:
            raise ValueError(f"drop is {self.drop}; a rate drops by a factor above 0 and below 1")
        if self.drop != type(self).defaults()["drop"] and self.schedule not in ("step", "plateau"):
            raise ValueError(f"drop is for schedules step and plateau, and schedule is {self.schedule}")
        if self.schedule == "plateau" and not self.monitor:
            raise ValueError("schedule plateau needs monitor, the validation metric that it watches")
        if self.patience and not self.monitor:
            raise ValueError("patience needs monitor, the validation metric that it watches")
        return self


class PretextConfig(RecordsConfig, StoreConfig, EncoderConfig, ViewsConfig, PairsConfig, StepConfig):
    """What a pretraining and a rehearsal of it are both told."""

    method: str
    """A file of hilum.methods by its name, or a dotted module of your own."""
    init: str = "random"
    """Where training starts: random, imagenet (needs a network), a weights file, or a run."""
    hold_out: list[Path] = []
    """Tables whose validation and test patients are kept out of this pretraining."""


class CellsConfig(Config):
    """Several fits in one run, each a cell of it."""

    label_fraction: list[float] = [1.0]
    """Shares of the training patients whose labels are used; those of a smaller share are in the larger."""
    seeds: list[int] = [0]
    """Draws of the training patients, and of everything else that is random in a fit."""

    @field_validator("label_fraction", "seeds")
    @classmethod
    def _check_cells(cls, given: list[float]) -> list[float]:
        if not given or len(set(given)) < len(given):
            raise ValueError("expected one or more values, all different")
        return given
