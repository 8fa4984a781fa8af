"""hilum detect: boxes of a finding, from any encoder."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, NonNegativeFloat, NonNegativeInt, field_validator, model_validator

from hilum.commands._detection_films import Given, open_films, trained_on
from hilum.commands._detection_folds import fitted, fitted_in_folds, held_out_part
from hilum.commands._detectors import look_of, new_task
from hilum.config import CellsConfig, EncoderConfig, RecordsConfig, StoreConfig, TrainConfig, ViewsConfig
from hilum.detecting import Detected, check_look
from hilum.records.detections import Detections, joined, side_by_side
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.report.detection import DETECTION, DetectionReport
from hilum.report.detection_evaluate import FilmClasses, evaluate_detections
from hilum.report.detection_page import write_detection_page
from hilum.report.provenance import run_title
from hilum.report.summary import detection_headline
from hilum.run import Run

EXAMPLE = (
    "hilum detect retinanet --records demo/films-split.csv --boxes Cardiomegaly --init demo/pretrained "
    "--image-size 192 --store-size 192 --width 64 --head-depth 2 --epochs 6 --out runs/detector"
)
TAKES = "detector"

log = logging.getLogger(__name__)


class Settings(RecordsConfig, StoreConfig, EncoderConfig, ViewsConfig, CellsConfig, TrainConfig):
    """Trains a detector of boxes on an encoder, and scores it on the test split.

    The films and the encoder of the line above are those that `hilum demo --out demo` leaves.

    Films that were looked at and have no box are negatives; films that nobody looked at are left out and
    counted. Several label fractions or seeds make one run with a cell for each. With folds, every film of
    training and validation is held out once, and all folds speak together on the test split.
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
    folds: NonNegativeInt = 0
    """Detectors that are trained, each on all but one of so many parts of the training and validation
    patients, stratified by boxes and classes of films. Thresholds come from the held-out parts. 0: the split
    is as it is."""
    late_epochs: NonNegativeInt = 0
    """The weights after each of the last so many epochs speak together, the end of the run being the last if
    it falls within one; 0: one model. Monitor then chooses no epoch: it steers schedule plateau and patience
    alone. Where patience ends a run, its last epochs are those before that."""
    flips: bool = False
    """At test time films are looked at mirrored as well."""
    scales: list[Annotated[float, Field(gt=0, le=4)]] = [1.0]
    """At test time films are looked at in these multiples of image_size, rounded to 32 pixels."""
    negatives: NonNegativeFloat = 0.0
    """Films without a box that are trained on, for each film with one; 0: all there are."""
    freeze: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the run in which the encoder is held still; 1: always."""
    frozen_norm: bool = False
    """The encoder's BatchNorm keeps the statistics that it came with, as it should with few films a step."""
    encoder_lr: NonNegativeFloat = 0.0
    """Peak learning rate of the encoder; 0: lr."""
    part_lr: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Peak learning rates of other parts, as in pyramid=0.01 box_head=0.02; that of the rest is lr."""
    film_column: str = ""
    """A column whose values whole films are told apart into as well (RSNA: class); empty: they are not."""
    film_weight: NonNegativeFloat = 0.1
    """How much that counts in the loss."""
    gate: dict[str, Annotated[float, Field(gt=0, le=1)]] = {}
    """Values of film_column with weights, as "Lung Opacity=1": scores are multiplied by the probability that
    the film is of them, so weighted; empty: they are not."""
    boxed_classes: list[str] = []
    """Values of film_column of which every film has a box, and no film of another value (RSNA: Lung Opacity);
    a film that contradicts it is refused. Empty: classes with both kinds of films are warned of."""
    turned: Literal["corners", "thirds"] = "thirds"
    """What the upright box around a turned one holds: its corners, or the points at a third and two thirds of
    its sides. Boxes that hold corners are too large, and teach to draw them so."""
    of_surest: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Boxes with a score below this share of the surest of their finding on the film are left out
    (kaggle-rsna: 0.5), from average precision too; 0: none are."""
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
    """Validation metric by which the best epoch is kept; empty: the last epoch is kept. With late_epochs
    those are kept whatever it says, and schedule plateau and patience alone go by it."""
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

    @field_validator("thresholds")
    @classmethod
    def _check_floor(cls, given: list[float]) -> list[float]:
        if min(given) < 1e-4:
            raise ValueError("a score below 0.0001 is no box here; expected 0.0001 or more")
        return given

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds is 1; expected 2 or more, or 0 for none")
        if self.encoder_lr and "encoder" in self.part_lr:
            raise ValueError("encoder_lr and part_lr both give a rate of the encoder; give one")
        return self


def detect(config: Settings) -> Path:
    """Trains every cell that is not finished yet, scores it, and returns the run."""
    given = open_films(config)
    # What the settings get wrong is said before a run is begun.
    model = new_task(config, given, seed=config.seeds[0]).model
    check_look(look_of(config), model)
    cells = [(fraction, seed) for fraction in config.label_fraction for seed in config.seeds]
    for fraction, seed in [] if config.folds else cells:
        trained_on(config, given.records.where("train"), given.findings, fraction, seed)
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


def _fit_cell(config: Settings, fraction: float, seed: int, given: Given, run: Run) -> None:
    fit = fitted_in_folds if config.folds else fitted
    labelled, scored, parts, metrics = fit(config, fraction, seed, given, run)
    boxes = {overlap: joined([part.boxes[overlap] for part in parts]) for overlap in config.overlaps}
    told = None
    if given.classes:
        own = [given.told.get(image, "") for image in scored.table["image"]]
        told = FilmClasses(given.classes, own, np.concatenate([_classes_of(part) for part in parts]))
    notes = given.notes
    if config.folds:
        part = held_out_part(config)
        notes += (
            f"Thresholds come from out-of-fold boxes of {config.folds} detectors, each on the patients that "
            "it was not trained on; on the test split all of them speak together."
            + (f" A held-out part chose {part}: out-of-fold scores are a little too good." if part else ""),
        )
    report = evaluate_detections(
        boxes,
        scored,
        findings=given.findings,
        thresholds=config.thresholds,
        train=labelled,
        sizes=given.sizes,
        replicates=config.replicates,
        order=config.matching,
        never_asked=given.never_asked,
        unplaced=given.unplaced,
        told=told,
        look=asdict(look_of(config)),
        notes=notes,
        provenance=given.facts | {"settings": config.model_dump(mode="json")},
    )
    _write(config, report, boxes, scored, given, run, metrics)
    log.info("%s", detection_headline(report))


def _classes_of(found: Detected) -> np.ndarray:
    assert found.classes is not None
    return found.classes


def _write(
    config: Settings,
    report: DetectionReport,
    found: Mapping[float, Detections],
    scored: Records,
    given: Given,
    run: Run,
    metrics: Sequence[Mapping[str, object]],
) -> None:
    # Each finding at the overlap that validation chose for it.
    own = [found[one.overlap or config.overlaps[0]].of(one.finding) for one in report.findings]
    boxes = side_by_side(own, scored.table["image"].tolist())
    boxes.write(run.path / "detections.csv")
    surest = np.zeros((len(scored), len(given.findings)))
    rows = pd.Index(scored.table["image"]).get_indexer(pd.Index(boxes.table["image"]))
    columns = pd.Index(given.findings).get_indexer(pd.Index(boxes.table["finding"]))
    np.maximum.at(surest, (rows, columns), boxes.table["score"].to_numpy())
    Predictions.make(scored, given.findings, surest).write(run.path / "predictions.csv")
    report.write(run.path / DETECTION)
    title = run_title("detect", run.path.resolve().name, vars(config))
    page = run.path / "report.html"
    write_detection_page(
        report, page, boxes, scored, given.store, metrics=metrics, title=title, folds=config.folds
    )
