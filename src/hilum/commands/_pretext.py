"""What pretraining and its rehearsals begin with: the radiographs to train on, the task, and its batches."""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from hilum import find
from hilum.commands._open import held_out, open_encoder, open_records, to_hold_out
from hilum.config import PretextConfig, settings_in
from hilum.data.loader import Loader
from hilum.data.partners import Partners
from hilum.data.views import PRESETS, View
from hilum.errors import ConfigError, RecordsError
from hilum.images.store import Store
from hilum.records.table import Records
from hilum.train.parallel import rank, world
from hilum.train.task import Task

log = logging.getLogger(__name__)


class Trainable(NamedTuple):
    """Radiographs to train on, and how many of the table are none, by the reason."""

    records: Records
    left_out: dict[str, int]
    held_out: tuple[Path, ...] = ()
    """The tables to hold out of which a patient was in it: their patients have the same names."""


def task_in(method: str) -> type[Task]:
    """The task that a method's file defines."""
    module = find.module("hilum.methods", method)
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Task) and value.__module__ == module.__name__
    )
    return found


def open_trainable(config: PretextConfig) -> Trainable:
    """The radiographs of the table that the method can be trained on.

    Raises:
        RecordsError: there are none, or what the method needs is not known of any.
    """
    task_class = task_in(config.method)
    labels = "labels" in task_class.needs or config.positive_findings
    if config.findings and not labels:
        log.warning("%s uses no labels: --findings is not read", config.method)
    records = open_records(config, labels=labels)
    kept = records.take(~records.table["split"].isin(["val", "test"]).to_numpy())
    left_out = {"in val or test": len(records) - len(kept)}
    free = held_out(kept, config.hold_out)
    left_out["held out"] = len(kept) - len(free)
    if not len(free):
        raise RecordsError(
            f"{config.records}: no radiograph is left to train on: all are in val, test or held out"
        )
    told = _with_text(free, config) if "text" in task_class.needs else free
    left_out["without a text"] = len(free) - len(told)
    if "findings" in task_class.needs:  # a classifier's loss: it can take soft labels
        told = told.softened()
    known = _with_label(told, config, task_class) if "labels" in task_class.needs else told
    left_out["without a label"] = len(told) - len(known)
    found = [path for path in config.hold_out if to_hold_out([path])[0] & set(kept.patients)]
    counts = {reason: count for reason, count in left_out.items() if count}
    return Trainable(known, counts, tuple(found))


def _with_text(records: Records, config: PretextConfig) -> Records:
    told = records.table["text"].str.strip() != "" if "text" in records.table else None
    if told is None or not told.any():
        raise RecordsError(
            f"{config.records}: {config.method} needs the radiologists' texts; there is no column text"
            + ("" if told is None else " with anything in it")
            + ". If it is there under another name, say --columns text=NAME"
        )
    log.info("%d of %d radiographs have a text and are used", told.sum(), len(records))
    return records.take(told.to_numpy())


def _with_label(records: Records, config: PretextConfig, task_class: type[Task]) -> Records:
    if not records.findings:
        raise RecordsError(
            f"{config.records}: {config.method} needs labels; there is no column of findings (1, 0 or "
            "empty). Name them with --findings, or choose a method that learns without"
        )
    known = records.table[list(records.findings)].notna().any(axis=1)
    used = "" if task_class.unlabelled else " and are used"
    log.info("%d of %d radiographs have a label%s", known.sum(), len(records), used)
    return records if task_class.unlabelled else records.take(known.to_numpy())


def open_task(config: PretextConfig, records: Records) -> Task:
    """The method's task around its encoder.

    Raises:
        ConfigError: the encoder is none that the method can train.
        RecordsError: the table lacks a column that the method reads.
    """
    encoder = open_encoder(config.init, config, seed=config.seed)
    torch.manual_seed(config.seed)
    task_class = task_in(config.method)
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


def views_of(config: PretextConfig) -> tuple[View, View]:
    """The two views that the settings describe, in turn."""
    view = PRESETS[config.views].change(**config.view)
    return view, view.change(**config.other_view)


def open_loader(
    config: PretextConfig, task: Task, records: Records, store: Store, *, partners: Partners | None
) -> Loader:
    """This process's share of the batches that the task wants."""
    return Loader(
        store,
        records,
        task.recipe(*views_of(config)),
        batch_size=config.batch_size,
        seed=config.seed,
        workers=config.workers,
        columns=task.columns,
        partners=partners,
        rank=rank(),
        world=world(),
    )


def open_partners(config: PretextConfig, records: Records) -> Partners | None:
    """Which films make pairs, where that is not each with itself.

    Raises:
        RecordsError: no film has another that fits.
    """
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


def labels_of(config: PretextConfig, finding: str) -> dict[str, float]:
    """The labels of one finding by image: 1, 0 or NaN. They are read apart, so that no training sees them."""
    read = open_records(config.model_copy(update={"findings": [finding]}))
    return dict(zip(read.table["image"], np.asarray(read.labels)[:, 0].tolist(), strict=True))
