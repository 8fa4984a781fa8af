"""hilum detect: boxes of a finding, from any encoder."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field, NonNegativeFloat, field_validator
from torch import nn

from hilum import find
from hilum.commands._columns import cells_of
from hilum.commands._open import (
    environment,
    open_encoder,
    open_records,
    open_store,
    refuse_overlap,
    write_trained_on,
)
from hilum.config import (
    EncoderConfig,
    RecordsConfig,
    StoreConfig,
    TrainConfig,
    ViewsConfig,
    settings_in,
)
from hilum.data.boxes import BoxSource
from hilum.data.loader import Loader
from hilum.data.views import PRESETS, ViewRecipe
from hilum.detecting import Detected
from hilum.detecting import detect as find_boxes
from hilum.errors import ConfigError, RecordsError
from hilum.images.store import Store
from hilum.metrics.detection import RSNA_IOUS, average_precision
from hilum.models.detector import Detector
from hilum.models.weights import MODEL_FILE, to_bytes
from hilum.records.boxes import asked, boxed_findings, boxes_of, require_boxes
from hilum.records.predictions import Predictions
from hilum.records.splits import split_patients
from hilum.records.table import Records
from hilum.report.detection import DetectionReport, boxes_among, evaluate_detections, scan
from hilum.report.detection_page import write_detection_page
from hilum.report.summary import detection_headline
from hilum.run import Run
from hilum.train.detection import DetectionTask
from hilum.train.loop import fit

EXAMPLE = (
    "hilum detect retinanet --records demo/films-split.csv --boxes Cardiomegaly --init demo/pretrained "
    "--image-size 192 --store-size 192 --width 64 --head-depth 2 --epochs 6 --out runs/detector"
)
TAKES = "detector"
FLOOR = 0.01
"""Scores below it are no boxes: no threshold is looked for there."""

log = logging.getLogger(__name__)


class Settings(RecordsConfig, StoreConfig, EncoderConfig, ViewsConfig, TrainConfig):
    """Trains a detector of boxes on an encoder, and scores it on the test split.

    Films that were looked at and have no box are negatives; films that nobody looked at are left out and
    counted. Several label fractions or seeds make one run with a cell for each.
    """

    detector: str
    """A file of hilum.detectors by its name, or a dotted module of your own."""
    out: Path
    """Where the run is written. An unfinished run there is resumed."""
    boxes: list[str] = []
    """The findings whose boxes are looked for, as the column boxes names them. Empty: all that it names."""
    init: str = "random"
    """The encoder: a run, a weights file, imagenet (needs a network), or random. Whatever it was trained on,
    it sees films as image_size and image_fit say; mean and deviation are its own."""
    label_fraction: list[float] = [1.0]
    """Shares of the training patients whose boxes are used; those of a smaller share are in the larger."""
    seeds: list[int] = [0]
    """Draws of the training patients, and of everything else that is random in a fit."""
    negatives: NonNegativeFloat = 0.0
    """Films without a box that are trained on, for each film with one; 0: all there are."""
    freeze: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the run in which the encoder is held still; 1: always."""
    frozen_norm: bool = False
    """The encoder's BatchNorm keeps the statistics that it came with, as it should with few films a step."""
    encoder_lr: NonNegativeFloat = 0.0
    """Peak learning rate of the encoder; 0: lr."""
    film_column: str = ""
    """A column whose values whole films are told apart into as well (rsna_class); empty: they are not."""
    film_weight: NonNegativeFloat = 0.1
    """How much that counts in the loss."""
    gate: str = ""
    """A value of film_column: scores are multiplied by the probability that a film is of it; empty: they are
    not."""
    turned: Literal["corners", "thirds"] = "thirds"
    """What the upright box around a turned one holds: its corners, or the points at a third and two thirds of
    its sides. Boxes that hold corners are too large, and teach to draw them so."""
    overlaps: list[float] = [0.05, 0.2, 0.4]
    """Overlaps (IoU) from which the less sure of two boxes goes; validation chooses one."""
    thresholds: list[float] = [
        0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.25, 0.3, 0.35,
        0.4, 0.5, 0.6, 0.7, 0.8, 0.9,
    ]  # fmt: skip
    """Scores from which a box is shown; validation chooses one, by the RSNA challenge's score."""
    matching: Literal["score", "truth"] = "score"
    """Who chooses in it: detections, the surest first (the challenge), or true boxes (kaggle-rsna)."""
    monitor: str = "val_box_precision"
    """Validation metric by which the best epoch is kept; empty: the last epoch is kept."""
    allow_overlap: bool = False
    """Score an encoder that was trained on test patients; the report says so."""
    replicates: int = 2000
    """Bootstrap replicates behind each interval."""

    @field_validator("overlaps", "thresholds")
    @classmethod
    def _check_shares(cls, given: list[float]) -> list[float]:
        if not given or not all(0 < share < 1 for share in given):
            raise ValueError("expected one or more numbers between 0 and 1")
        return sorted(given)


class _Given(NamedTuple):
    """What all cells start from."""

    records: Records
    """Films that were looked at."""
    store: Store
    findings: tuple[str, ...]
    classes: tuple[str, ...]
    told: dict[str, str]
    """The class of each film, by image; empty where it is unknown."""
    facts: dict[str, Any]
    never_asked: int
    notes: tuple[str, ...]


def detect(config: Settings) -> Path:
    """Trains every cell that is not finished yet, scores it, and returns the run."""
    given = _open(config)
    _task(config, given, seed=config.seeds[0])  # what the settings get wrong is said before a run is begun
    cells = [(fraction, seed) for fraction in config.label_fraction for seed in config.seeds]
    with Run.open(config.out, config, given.facts) as run:
        if run.finished:
            log.info("%s: finished before; nothing to do", config.out)
            return config.out
        for fraction, seed in cells:
            if len(cells) == 1:
                _fit_cell(config, fraction, seed, given, run)
                continue
            folder = run.path / "cells" / f"fraction-{fraction:g}-seed-{seed}"
            if Run(folder).finished:
                continue
            one = config.model_copy(update={"label_fraction": [fraction], "seeds": [seed], "out": folder})
            with Run.open(folder, one, given.facts) as inner:
                _fit_cell(one, fraction, seed, given, inner)
                inner.finish({"fraction": fraction, "seed": seed})
        run.finish({"cells": len(cells)})
    return config.out


def _open(config: Settings) -> _Given:
    read = open_records(config)
    findings = tuple(config.boxes or boxed_findings(read))
    if not findings:
        raise RecordsError(
            f"{config.records}: no cell of the column boxes has a box; it holds a JSON list such as "
            '[["Nodule", 10, 20, 30, 40]], x1, y1, x2, y2 in pixels of the file, and [] on a film that was '
            "looked at and has none"
        )
    for finding in findings:
        require_boxes(read, finding, where=str(config.records))
    records, store = open_store(config, read)
    if set(records.table["split"]) == {""}:
        log.info("%s has no split: made one by patient, seed %d", config.records, config.seed)
        records = split_patients(records, val=0.15, test=0.25, seed=config.seed)
    known = asked(records, findings)
    never = int((~known & (records.table["split"] == "test").to_numpy()).sum())
    if not known.all():
        log.info(
            "%d of %d films were never looked at for %s and are left out",
            (~known).sum(),
            len(known),
            ", ".join(findings),
        )
    records = records.take(known)
    told = cells_of(config, read, [config.film_column])[config.film_column] if config.film_column else {}
    classes = tuple(sorted({told[image] for image in records.table["image"] if told} - {""}))
    if config.gate and config.gate not in classes:
        raise ConfigError(
            f"--gate is {config.gate!r}; it is one of the values of --film-column"
            + (f": {', '.join(classes)}" if classes else ", and none was given")
        )
    overlap = refuse_overlap(Path(config.init), records.where("test"), store, allow=config.allow_overlap)
    notes = []
    if overlap:
        notes.append(f"The encoder was trained on {overlap} of the test patients: these scores mean little.")
    facts = environment(records, store) | {"test_patients_trained_on": overlap}
    return _Given(records, store, findings, classes, told, facts, never, tuple(notes))


def _task(config: Settings, given: _Given, *, seed: int) -> DetectionTask:
    encoder = open_encoder(config.init, config, seed=seed)
    encoder.see(config.image_size, config.image_fit)  # boxes want larger films than most pretrainings saw
    torch.manual_seed(seed)
    own = settings_in(find.path("hilum.detectors", config.detector)).model_fields
    made: DetectionTask = _task_in(config.detector)(
        encoder.requires_grad_(True),
        findings=given.findings,
        classes=given.classes,
        freeze=config.freeze,
        frozen_norm=config.frozen_norm,
        encoder_scale=config.encoder_lr / config.lr if config.encoder_lr else 1.0,
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


def _fit_cell(config: Settings, fraction: float, seed: int, given: _Given, run: Run) -> None:
    records, store = given.records, given.store
    task = _task(config, given, seed=seed)
    labelled = _trained_on(config, records.where("train"), given.findings, fraction, seed)
    val = records.where("val")
    loader = Loader(
        store,
        _with_classes(labelled, given),
        ViewRecipe((PRESETS[config.views].change(**config.view),)).at(task.input),
        batch_size=config.batch_size,
        seed=seed,
        workers=config.workers,
        boxes=BoxSource(labelled, store, given.findings, turned=config.turned),
    )

    def validate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Detector)
        return _validation(config, _found(config, [model], val, store), val, given.findings)

    fit(
        task,
        loader,
        config.model_copy(update={"seed": seed}),
        run,
        validate=validate if len(val) else None,
    )
    scored = records.take(records.table["split"].isin(["val", "test"]).to_numpy())
    found = _found(config, [task.model], scored, store)
    report = evaluate_detections(
        found.boxes,
        scored,
        findings=given.findings,
        thresholds=config.thresholds,
        train=labelled,
        replicates=config.replicates,
        order=config.matching,
        never_asked=given.never_asked,
        notes=given.notes,
        provenance=given.facts | {"settings": config.model_dump(mode="json")},
    )
    _write(config, report, found, scored, store, run, task.model)
    write_trained_on(run, labelled, store, config.init)
    log.info("%s", detection_headline(report))


def _with_classes(records: Records, given: _Given) -> Records:
    """The films with their classes as labels: 1 for its own, 0 for the others, NaN where it is unknown."""
    table = records.table[["image", "patient", "split"]]
    own = np.array([given.told.get(image, "") for image in table["image"]], object)
    labels = {name: np.where(own == "", np.nan, own == name).astype(np.float32) for name in given.classes}
    return Records(pd.concat([table, pd.DataFrame(labels, index=table.index)], axis=1), given.classes)


def _trained_on(
    config: Settings, train: Records, findings: tuple[str, ...], fraction: float, seed: int
) -> Records:
    """The labelled share of the training films, with as many negatives as asked."""
    share = train.share(fraction, seed=seed)
    boxed = np.array(
        [any(map(len, parts)) for parts in zip(*(boxes_of(share, f) for f in findings), strict=True)]
    )
    if not boxed.any():
        raise RecordsError(
            f"{config.records}: none of the {len(share)} films of {fraction:g} of the training patients has "
            "a box; give a larger --label-fraction or another seed"
        )
    if not config.negatives:
        return share
    wanted = round(config.negatives * boxed.sum())
    others = np.flatnonzero(~boxed)
    chosen = np.random.default_rng(seed).permutation(others)[:wanted]
    kept = boxed.copy()
    kept[chosen] = True
    log.info("%d films with boxes, %d of %d without", boxed.sum(), len(chosen), len(others))
    return share.take(kept)


def _found(config: Settings, models: list[Detector], records: Records, store: Store) -> Detected:
    found = find_boxes(
        models,
        records,
        store,
        overlaps=config.overlaps,
        floor=FLOOR,
        device=config.device,
        precision=config.precision,
        batch_size=max(1, config.batch_size),
    )
    if not config.gate or found.classes is None:
        return found
    gate = found.classes[:, models[0].classes.index(config.gate)]
    return found._replace(
        boxes={
            o: boxes.scaled(dict(zip(records.table["image"], gate, strict=True)))
            for o, boxes in found.boxes.items()
        }
    )


def _validation(
    config: Settings, found: Detected, val: Records, findings: tuple[str, ...]
) -> dict[str, float]:
    """Average precision (IoU 0.4 to 0.75), and the RSNA score at every threshold, means over the findings."""
    middle = config.overlaps[len(config.overlaps) // 2]
    once = np.ones((len(val), 1))
    precisions, scores = [], []
    for finding in findings:
        boxes = boxes_among(found.boxes[middle], val, finding)
        precisions.append(float(average_precision(boxes, once, ious=RSNA_IOUS).mean()))
        table = scan({middle: found.boxes[middle]}, val, finding, config.thresholds, order=config.matching)
        scores.append([np.nan if one is None else one for one in table.scores[0]])
    means = np.nan_to_num(np.mean(scores, axis=0))
    at = {f"val_rsna_at_{cut:g}": float(mean) for cut, mean in zip(config.thresholds, means, strict=True)}
    return {
        "val_box_precision": float(np.nan_to_num(np.mean(precisions))),
        "val_rsna": float(means.max()),
        **at,
    }


def _write(
    config: Settings,
    report: DetectionReport,
    found: Detected,
    scored: Records,
    store: Store,
    run: Run,
    model: Detector,
) -> None:
    overlap = report.findings[0].overlap or config.overlaps[0]
    boxes = found.boxes[overlap]
    boxes.write(run.path / "detections.csv")
    surest = np.zeros((len(scored), len(model.findings)))
    place = {image: row for row, image in enumerate(scored.table["image"])}
    for image, finding, score in zip(
        boxes.table["image"], boxes.table["finding"], boxes.table["score"], strict=True
    ):
        row, column = place[image], model.findings.index(finding)
        surest[row, column] = max(surest[row, column], score)
    Predictions.make(scored, model.findings, surest).write(run.path / "predictions.csv")
    report.write(run.path / "detection.json")
    run.write(MODEL_FILE, to_bytes(model, parent=config.init))
    write_detection_page(report, run.path / "report.html", boxes, scored, store, metrics=run.metrics())
