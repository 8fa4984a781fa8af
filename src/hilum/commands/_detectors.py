"""Detectors of a run: trained, written down, and found again."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import nn

from hilum import find
from hilum.commands._detection_films import Given, has_boxes, with_classes
from hilum.commands._open import LATE, open_encoder
from hilum.config import settings_in
from hilum.data.boxes import BoxSource
from hilum.data.loader import Loader
from hilum.data.views import PRESETS, ViewRecipe
from hilum.detecting import Detected, Look
from hilum.detecting import detect as find_boxes
from hilum.durable import write_atomically
from hilum.errors import ConfigError, RecordsError
from hilum.images.store import Store
from hilum.metrics.detection import RSNA_IOUS, average_precision
from hilum.models.detector import Detector
from hilum.models.weights import MODEL_FILE, Model, load, to_bytes
from hilum.records.table import Records
from hilum.report.detection import DETECTION, DetectionReport
from hilum.report.detection_evaluate import boxes_among, scan
from hilum.run import Run
from hilum.train.detection import DetectionTask
from hilum.train.loop import fit

if TYPE_CHECKING:
    from hilum.commands.detect import Settings

FLOOR = 0.01
"""Scores below it are no boxes: no threshold is looked for there."""
FOLDS = "folds"
"""Folder of a run with a run for each fold."""

log = logging.getLogger(__name__)


def new_task(config: "Settings", given: Given, *, seed: int) -> DetectionTask:
    """A new detector on its encoder, with its loss."""
    encoder = open_encoder(config.init, config, seed=seed)
    encoder.see(config.image_size, config.image_fit)  # boxes want larger films than most pretrainings saw
    torch.manual_seed(seed)
    own = settings_in(find.path("hilum.detectors", config.detector)).model_fields
    rates = ({"encoder": config.encoder_lr} if config.encoder_lr else {}) | config.part_lr
    made: DetectionTask = _task_in(config.detector)(
        encoder.requires_grad_(True),
        findings=given.findings,
        classes=given.classes,
        freeze=config.freeze,
        frozen_norm=config.frozen_norm,
        part_scales={part: rate / config.lr for part, rate in rates.items()},
        film_weight=config.film_weight,
        **{name: getattr(config, name) for name in own},
    )
    return made


def _task_in(detector: str) -> Callable[..., DetectionTask]:
    """The task that a detector's file defines."""
    module = find.module("hilum.detectors", detector)
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, DetectionTask)
        and value.__module__ == module.__name__
    )
    return found


def train(
    config: "Settings", labelled: Records, val: Records, given: Given, run: Run, *, seed: int
) -> list[Detector]:
    """Trains a detector, writes it into the run, and returns what speaks for it (`models_of`).

    Raises:
        RecordsError: no validation film has a box, and the schedule or the patience go by them.
    """
    watched = has_boxes(val, given.findings).any()
    if not watched:
        if config.schedule == "plateau" or config.patience:
            raise RecordsError(
                f"{config.records}: no validation film has a box, and --schedule plateau and --patience go "
                "by what is found there; make another split, or leave them out"
            )
        if config.monitor and not config.late_epochs:
            log.warning("no validation film has a box: no epoch can be chosen, so the last is kept")
    boxed = has_boxes(labelled, given.findings)
    log.info("trained on %d films with boxes and %d without", boxed.sum(), (~boxed).sum())
    task = new_task(config, given, seed=seed)
    loader = Loader(
        given.store,
        with_classes(labelled, given),
        ViewRecipe((PRESETS[config.views].change(**config.view),)).at(task.input),
        batch_size=config.batch_size,
        seed=seed,
        workers=config.workers,
        boxes=BoxSource(labelled, given.store, given.findings, turned=config.turned),
    )

    def validate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Detector)
        return _validation(config, find_on(config, [model], val, given.store), val, given.findings)

    def keep(model: nn.Module, step: int) -> None:
        assert isinstance(model, Detector)
        kept = run.path / LATE / f"step-{step:08}.safetensors"
        kept.parent.mkdir(exist_ok=True)
        write_atomically(kept, to_bytes(model, parent=config.init))
        for older in sorted(kept.parent.glob("*.safetensors"))[: -config.late_epochs]:
            older.unlink()

    fit(
        task,
        loader,
        config.model_copy(update={"seed": seed}),
        run,
        validate=validate if watched else None,
        keep=keep if config.late_epochs else None,
    )
    if config.late_epochs:
        late = [one.stem for one in sorted((run.path / LATE).glob("*.safetensors"))]
        log.info("late epochs that speak together: %d, %s", len(late), ", ".join(late))
    run.write(MODEL_FILE, to_bytes(task.model, parent=config.init))
    return alike(models_of(run.path), run.path)


def models_of(path: Path) -> list[Model]:
    """The models that a run or a file holds: those of all folds and late epochs of a detector speak together.

    Raises:
        MissingError: there is none.
        WeightsError: it is none.
    """
    path = Path(path)
    folds = sorted((path / FOLDS).glob("*"))
    if folds:
        return [model for fold in folds for model in models_of(fold)]
    return [load(one) for one in sorted((path / LATE).glob("*.safetensors")) or [path]]


def alike(models: list[Model], path: Path) -> list[Detector]:
    """The same, which are detectors that can speak together.

    Raises:
        ConfigError: one is of another kind than the first.
    """
    found = [model for model in models if isinstance(model, Detector)]
    kinds = {
        repr((one.name, one.findings, one.classes, sorted(one.settings.items()), one.encoder.input))
        for one in found
    }
    if len(found) < len(models) or len(kinds) > 1:
        raise ConfigError(f"{path}: not a detector of the same kind, findings, settings and size")
    return found


def manner_of(path: Path) -> tuple[DetectionReport | None, Look]:
    """What validation chose for a run of detect, and the look that it was chosen with."""
    report = (path if path.is_dir() else path.parent) / DETECTION
    if not report.is_file():
        return None, Look()
    read = DetectionReport.read(report)
    return read, TypeAdapter(Look).validate_python(read.look)


def find_on(config: "Settings", models: list[Detector], records: Records, store: Store) -> Detected:
    """Boxes for every overlap that is tried."""
    return find_boxes(
        models,
        records,
        store,
        overlaps=config.overlaps,
        floor=FLOOR,
        device=config.device,
        precision=config.precision,
        batch_size=max(1, config.batch_size),
        look=look_of(config),
    )


def look_of(config: "Settings") -> Look:
    """How the settings want films to be looked at."""
    return Look(config.flips, tuple(config.scales), config.gate, config.of_surest)


def _validation(
    config: "Settings", found: Detected, val: Records, findings: tuple[str, ...]
) -> dict[str, float]:
    """Average precision (IoU 0.4 to 0.75), and the RSNA score at every threshold.

    Means over the findings of which a validation film has a box: of others nothing can be told.
    """
    middle = config.overlaps[len(config.overlaps) // 2]
    once = np.ones((len(val), 1))
    precisions, scores = [], []
    for finding in (one for one in findings if has_boxes(val, (one,)).any()):
        boxes = boxes_among(found.boxes[middle], val, finding)
        precisions.append(float(average_precision(boxes, once, ious=RSNA_IOUS).mean()))
        table = scan({middle: found.boxes[middle]}, val, finding, config.thresholds, order=config.matching)
        scores.append([np.nan if one is None else one for one in table.scores[0]])
    means = np.mean(scores, axis=0)
    at = {f"val_rsna_at_{cut:g}": float(mean) for cut, mean in zip(config.thresholds, means, strict=True)}
    return {
        "val_box_precision": float(np.mean(precisions)),
        "val_rsna": float(means.max()),
        **at,
    }
