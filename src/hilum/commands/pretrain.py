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
from hilum.config import (
    EncoderConfig,
    PairsConfig,
    RecordsConfig,
    StoreConfig,
    TrainConfig,
    ViewsConfig,
    settings_in,
)
from hilum.data.loader import Loader
from hilum.data.partners import Partners
from hilum.data.views import PRESETS
from hilum.errors import ConfigError, RecordsError
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


class Settings(RecordsConfig, StoreConfig, EncoderConfig, ViewsConfig, PairsConfig, TrainConfig):
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
        task_class = task_in(config.method)
        labels = "labels" in task_class.needs or config.positive_findings
        if config.findings and not labels:
            log.warning("%s uses no labels: --findings is not read", config.method)
        records = open_records(config, labels=labels)
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
            task = _task(task_class, encoder, config, records)
            view = PRESETS[config.views].change(**config.view)
            loader = Loader(
                store,
                records,
                task.recipe(view, view.change(**config.other_view)),
                batch_size=config.batch_size,
                seed=config.seed,
                workers=config.workers,
                columns=task.columns,
                partners=_partners(config, records),
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
    if "text" in task_class.needs:
        told = kept.table["text"].str.strip() != "" if "text" in kept.table else None
        if told is None or not told.any():
            raise RecordsError(
                f"{config.records}: {config.method} needs the radiologists' texts; there is no column text"
                + ("" if told is None else " with anything in it")
                + ". If it is there under another name, say --columns text=NAME"
            )
        log.info("%d of %d radiographs have a text and are used", told.sum(), len(kept))
        kept = kept.take(told.to_numpy())
    if "labels" in task_class.needs:
        if not kept.findings:
            raise RecordsError(
                f"{config.records}: {config.method} needs labels; there is no column of findings (1, 0 or "
                "empty). Name them with --findings, or choose a method that learns without"
            )
        known = kept.table[list(kept.findings)].notna().any(axis=1)
        log.info(
            "%d of %d radiographs have a label%s",
            known.sum(),
            len(kept),
            "" if task_class.unlabelled else " and are used",
        )
        kept = kept if task_class.unlabelled else kept.take(known.to_numpy())
    return kept


def _task(task_class: type[Task], encoder: Encoder, config: Settings, records: Records) -> Task:
    own = settings_in(find.path("hilum.methods", config.method)).model_fields
    arguments = {name: getattr(config, name) for name in own}
    if "findings" in task_class.needs:
        arguments["findings"] = records.findings
    if "patches" in task_class.needs and not encoder.has_patches:
        raise ConfigError(
            f"{config.method} needs an encoder of patches, a ViT; --arch is {encoder.arch}. "
            "Try --arch vit_small_patch16_224"
        )
    task = task_class(encoder, **arguments)
    missing = [name for name in task.columns if name not in records.table]
    if missing:
        raise RecordsError(
            f"{config.records}: {config.method}, as it is set, reads the column {', '.join(missing)}, which "
            f"the table lacks; if it is there under another name, say --columns {missing[0]}=NAME"
        )
    return task


def _partners(config: Settings, records: Records) -> Partners | None:
    if config.positives == "view":
        return None
    partners = Partners(
        records,
        study=config.positive_study,
        laterality=config.positive_laterality,
        same_findings=config.positive_findings,
    )
    log.info(
        "%d of %d radiographs make a pair with another film of their patient, %d with themselves",
        len(records) - partners.missing,
        len(records),
        partners.missing,
    )
    if partners.missing == len(records):
        raise RecordsError(
            f"{config.records}: no radiograph has another film of its patient that fits; use --positives view"
        )
    return partners
