"""A cell of a run of detect fitted: one detector on the split as it is, or one for each fold of patients."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from hilum.commands._detection_films import Given, has_boxes, trained_on, with_classes
from hilum.commands._detectors import FOLDS, alike, find_on, models_of, train
from hilum.commands._open import write_trained_on
from hilum.detecting import Detected
from hilum.models.detector import Detector
from hilum.records.splits import patient_folds
from hilum.records.table import Records
from hilum.records.writing import write_csv
from hilum.run import Run

if TYPE_CHECKING:
    from hilum.commands.detect import Settings


class Found(NamedTuple):
    """What was found, and on which films."""

    labelled: Records
    """Films that were trained on."""
    scored: Records
    """Films of validation and test."""
    parts: Sequence[Detected]
    """What was found on them, in their order."""
    metrics: Sequence[Mapping[str, object]]
    """Of the training; with folds, of the first."""


def fitted(config: "Settings", fraction: float, seed: int, given: Given, run: Run) -> Found:
    """One detector, on the split as it is."""
    records = given.records
    labelled = trained_on(config, records.where("train"), given.findings, fraction, seed)
    write_trained_on(run, labelled, given.store, config.init)
    models = train(config, labelled, records.where("val"), given, run, seed=seed)
    scored = records.take(records.table["split"].isin(["val", "test"]).to_numpy())
    return Found(labelled, scored, [find_on(config, models, scored, given.store)], run.metrics())


def fitted_in_folds(config: "Settings", fraction: float, seed: int, given: Given, run: Run) -> Found:
    """A detector for each fold of the training and validation patients."""
    records = given.records
    pool, test = records.take((records.table["split"] != "test").to_numpy()), records.where("test")
    like = np.column_stack([has_boxes(pool, given.findings), with_classes(pool, given).labels])
    fold = patient_folds(pool.patients, like.astype(np.float32), config.folds, seed=config.seed)
    write_csv(pool.table[["image", "patient"]].assign(fold=fold), run.path / "folds.csv")
    pool = replace(pool, table=pool.table.assign(split="val"))
    write_trained_on(run, pool, given.store, config.init)
    held, parts, models = [], [], list[Detector]()
    metrics: Sequence[Mapping[str, object]] = ()
    for number in range(config.folds):
        out = pool.take(fold == number)
        labelled = trained_on(config, pool.take(fold != number), given.findings, fraction, seed)
        folder = run.path / FOLDS / str(number)
        with Run.open(folder, config.model_copy(update={"out": folder}), given.facts) as inner:
            if inner.finished:
                members = alike(models_of(inner.path), inner.path)
            else:
                seen = pool.table["image"].isin(labelled.table["image"]).to_numpy()
                if held_out_part(config):  # then its weights come from the films held out from it too
                    seen = seen | (fold == number)
                write_trained_on(inner, pool.take(seen), given.store, config.init)
                members = train(config, labelled, out, given, inner, seed=seed)
                inner.finish({"fold": number})
            metrics = metrics or inner.metrics()
        held.append(out)
        parts.append(find_on(config, members, out, given.store))
        models += members
    parts.append(find_on(config, models, test, given.store))
    table = pd.concat([part.table for part in (*held, test)], ignore_index=True)
    return Found(pool, replace(pool, table=table), parts, metrics)


def held_out_part(config: "Settings") -> str:
    """What of a fold's training its held-out films decide, in words; empty: nothing."""
    if not config.monitor:
        return ""
    said = {
        "the epoch": not config.late_epochs,
        "the learning rate": config.schedule == "plateau",
        "the end of the run": config.patience > 0,
    }
    return " and ".join(words for words, decided in said.items() if decided)
