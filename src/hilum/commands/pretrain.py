"""hilum pretrain: an encoder learns from radiographs, with or without labels."""

import logging
from pathlib import Path

import numpy as np
import torch

from hilum import find
from hilum.commands._open import (
    environment,
    held_out,
    input_spec,
    open_encoder,
    open_records,
    open_store,
    write_trained_on,
)
from hilum.config import EncoderConfig, RecordsConfig, StoreConfig, TrainConfig, ViewsConfig, settings_in
from hilum.data.loader import Loader
from hilum.data.views import PRESETS, ViewRecipe
from hilum.errors import RecordsError
from hilum.inference import embed
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.models.weights import MODEL_FILE, to_bytes
from hilum.records.table import Records
from hilum.run import Run
from hilum.train.health import Watch
from hilum.train.loop import choose_device, fit
from hilum.train.parallel import processes, rank, world
from hilum.train.task import Task

EXAMPLE = "hilum pretrain simclr --records films.csv --out runs/simclr"
TAKES = "method"

log = logging.getLogger(__name__)

PROBE = 512
"""Radiographs on which collapse is watched."""


class Settings(RecordsConfig, StoreConfig, EncoderConfig, ViewsConfig, TrainConfig):
    """Pretrains an encoder on radiographs."""

    method: str
    """A file of hilum.methods by its name, or a dotted module of your own."""
    out: Path
    """Where the run is written. An unfinished run there is resumed."""
    init: str = "random"
    """Where training starts: random, imagenet (needs a network), a weights file, or a run."""
    hold_out: list[Path] = []
    """Tables whose validation and test patients are kept out of this pretraining."""


def pretrain(config: Settings) -> Path:
    """Trains, or goes on training, and returns the run.

    Rows whose split is val or test are never trained on, nor are the patients that `hold_out` names.
    """
    device = choose_device(config.device)
    with processes(device):
        records = open_records(config)
        task_class = task_in(config.method)
        records, store = open_store(config, _trainable(records, config, task_class))
        if config.out.joinpath("done.json").exists():
            Run.open(config.out, config, {}).close()
            log.info("%s: finished before; nothing to do", config.out)
            return config.out
        run = Run.open(config.out, config, environment(records, store)) if rank() == 0 else Run(config.out)
        with run:
            spec = input_spec(config)
            encoder = open_encoder(config.init, arch=config.arch, input_spec=spec, seed=config.seed)
            torch.manual_seed(config.seed)
            own = settings_in(find.path("hilum.methods", config.method)).model_fields
            arguments = {name: getattr(config, name) for name in own}
            if "labels" in task_class.needs:
                arguments["findings"] = records.findings
            task = task_class(encoder, **arguments)
            view = PRESETS[config.views].change(**config.view)
            recipe = ViewRecipe((view,) * task.num_views).at(encoder.input)
            loader = Loader(
                store,
                records,
                recipe,
                batch_size=config.batch_size,
                seed=config.seed,
                workers=config.workers,
                rank=rank(),
                world=world(),
            )
            probe = records.take(np.linspace(0, len(records) - 1, min(PROBE, len(records))).astype(np.int64))
            watch = Watch()

            def validate(model: torch.nn.Module) -> dict[str, float]:
                assert isinstance(model, Encoder | Classifier)
                encoder = model if isinstance(model, Encoder) else model.encoder
                features = embed(encoder, probe, store, device=config.device, precision=config.precision)
                return watch.look(torch.from_numpy(features))

            fit(task, loader, config, run, validate=validate)
            if rank() == 0:
                run.write(MODEL_FILE, to_bytes(task.model, parent=config.init))
                write_trained_on(run, records, store, config.init)
                run.finish({"images": len(records), "patients": int(records.table["patient"].nunique())})
    return config.out


def task_in(method: str) -> type[Task]:
    """The task that a method's file defines."""
    module = find.module("hilum.methods", method)
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Task) and value.__module__ == module.__name__
    )
    return found


def _trainable(records: Records, config: Settings, task_class: type[Task]) -> Records:
    split = records.table["split"]
    kept = records.take(~split.isin(["val", "test"]).to_numpy())
    kept = held_out(kept, config.hold_out)
    if not len(kept):
        raise RecordsError(
            f"{config.records}: no radiograph is left to train on: all are in val, test or held out"
        )
    if "labels" in task_class.needs:
        if not kept.findings:
            raise RecordsError(
                "this method needs labels; the table has no column of findings (1, 0 or empty)"
            )
        known = kept.table[list(kept.findings)].notna().any(axis=1)
        log.info("%d of %d radiographs have a label and are used", known.sum(), len(kept))
        kept = kept.take(known.to_numpy())
    return kept
