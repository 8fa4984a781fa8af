"""hilum transfer: what an encoder knows, measured on a finding with few labels or many."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from hilum.commands._open import (
    environment,
    open_encoder,
    open_records,
    open_store,
    refuse_overlap,
    write_trained_on,
)
from hilum.commands.compare import cells_of
from hilum.config import EncoderConfig, RecordsConfig, StoreConfig, TrainConfig, ViewsConfig
from hilum.data.loader import Loader
from hilum.data.views import PRESETS, ViewRecipe
from hilum.errors import RecordsError
from hilum.images.store import Store
from hilum.inference import embed, predict
from hilum.methods.supervised import Supervised
from hilum.metrics.classification import mean_auroc
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.models.weights import MODEL_FILE, to_bytes
from hilum.records.splits import split_patients
from hilum.records.table import Records
from hilum.report.compare import compare as compare_cells
from hilum.report.evaluate import Report, evaluate
from hilum.report.page import write_page
from hilum.report.summary import headline
from hilum.run import Run
from hilum.train.heads import fit_heads
from hilum.train.loop import fit

EXAMPLE = "hilum transfer --records films.csv --init runs/simclr --label-fraction 0.01 0.1 1 --out runs/probe"

log = logging.getLogger(__name__)


class Settings(RecordsConfig, StoreConfig, EncoderConfig, ViewsConfig, TrainConfig):
    """Fits findings on an encoder and scores them on the test split.

    Several label fractions or seeds make one run with a cell for each, compared on one page.
    """

    out: Path
    """Where the run is written. An unfinished run there is resumed."""
    init: str = "random"
    """The encoder: a run, a weights file, imagenet (needs a network), random, or pixels (32×32)."""
    fit: Literal["logistic", "linear", "finetune"] = "logistic"
    """What is trained: a head by logistic regression, a head by gradient descent, or everything."""
    label_fraction: list[float] = [1.0]
    """Shares of the training patients whose labels are used; those of a smaller share are in the larger."""
    seeds: list[int] = [0]
    """Draws of the training patients, and of everything else that is random in a fit."""
    exclusive: bool = False
    """Exactly one finding is present in each radiograph: softmax in place of a sigmoid per finding."""
    allow_overlap: bool = False
    """Score an encoder that was trained on test patients; the report says so."""
    monitor: str = "val_auroc"
    """Validation metric by which the best epoch is kept; empty: the last epoch is kept."""
    replicates: int = 2000
    """Bootstrap replicates behind each interval."""


def transfer(config: Settings) -> Path:
    """Fits every cell that is not finished yet, scores it, and returns the run."""
    records, store = open_store(config, open_records(config))
    records = _split(records, config)
    encoder = _encoder(config, config.seed)
    overlap = refuse_overlap(Path(config.init), records.where("test"), store, allow=config.allow_overlap)
    facts = environment(records, store) | {"test_patients_trained_on": overlap}
    cells = [Cell(fraction, seed) for fraction in config.label_fraction for seed in config.seeds]
    with Run.open(config.out, config, facts) as run:
        if run.finished:
            log.info("%s: finished before; nothing to do", config.out)
            return config.out
        if len(cells) == 1:
            classifier = _fit(config, cells[0], encoder, records, store, run)
            report = _score(classifier, config, records, store, run, facts)
            write_page(report, run.path / "report.html", images=film_of(store), metrics=run.metrics())
            log.info("%s", headline(report))
        else:
            _fit_grid(config, cells, encoder, records, store, run, facts)
        run.finish({"cells": len(cells)})
    return config.out


class Cell(NamedTuple):
    """One fit among several that differ in these alone."""

    fraction: float
    seed: int

    @property
    def name(self) -> str:
        """The folder of the cell.

        >>> Cell(0.01, 3).name
        'fraction-0.01-seed-3'
        """
        return f"fraction-{self.fraction:g}-seed-{self.seed}"


def _fit_grid(
    config: Settings,
    cells: list[Cell],
    encoder: Encoder,
    records: Records,
    store: Store,
    run: Run,
    facts: dict[str, Any],
) -> None:
    folders = {cell: run.path / "cells" / cell.name for cell in cells}
    todo = [cell for cell in cells if not Run(folders[cell]).finished]
    log.info("%d of %d cells to fit", len(todo), len(cells))
    together = _logistic(config, todo, encoder, records, store) if config.fit == "logistic" and todo else {}
    for cell in todo:
        one = config.model_copy(
            update={"label_fraction": [cell.fraction], "seeds": [cell.seed], "out": folders[cell]}
        )
        with Run.open(folders[cell], one, facts) as inner:
            classifier = together.get(cell) or _fit(
                one, cell, _encoder(one, cell.seed), records, store, inner
            )
            # One encoder serves all logistic cells; copies of it would fill the disk.
            report = _score(
                classifier, one, records, store, inner, facts, keep_model=config.fit != "logistic"
            )
            inner.finish({"fraction": cell.fraction, "seed": cell.seed})
            log.info("%s: %s", cell.name, headline(report))
    side_by_side = compare_cells(
        cells_of(run.path, run.path.resolve().name), records, baseline=run.path.resolve().name
    )
    side_by_side.write(run.path / "comparison.json")
    side_by_side.write_page(run.path / "compare.html")


def _fit(
    config: Settings, cell: Cell, encoder: Encoder, records: Records, store: Store, run: Run
) -> Classifier:
    if config.fit == "logistic":
        return _logistic(config, [cell], encoder, records, store)[cell]
    labelled = records.where("train").share(cell.fraction, seed=cell.seed)
    torch.manual_seed(cell.seed)
    encoder.requires_grad_(True)
    task = Supervised(
        encoder, findings=records.findings, exclusive=config.exclusive, freeze=config.fit == "linear"
    )
    recipe = ViewRecipe((PRESETS[config.views].change(**config.view),)).at(encoder.input)
    loader = Loader(
        store, labelled, recipe, batch_size=config.batch_size, seed=cell.seed, workers=config.workers
    )
    val = records.where("val")

    def validate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Classifier)
        scores = predict(model, val, store, device=config.device, precision=config.precision).scores
        return {"val_auroc": mean_auroc(val.labels, scores)}

    fit(task, loader, config.model_copy(update={"seed": cell.seed}), run, validate=validate)
    return task.model


def _logistic(
    config: Settings, cells: list[Cell], encoder: Encoder, records: Records, store: Store
) -> dict[Cell, Classifier]:
    """All cells solved together from features that are encoded once."""
    cache = config.store.expanduser() / "features"
    train, val = records.where("train"), records.where("val")
    features, val_features = (
        embed(encoder, part, store, device=config.device, precision=config.precision, cache=cache)
        for part in (train, val)
    )
    subsets = np.stack(
        [
            train.table["patient"].isin(train.share(c.fraction, seed=c.seed).table["patient"]).to_numpy()
            for c in cells
        ]
    )
    heads = fit_heads(
        features, train.labels, val_features, val.labels, subsets=subsets, exclusive=config.exclusive
    )
    classifiers = {}
    for cell, (weight, bias) in zip(cells, heads, strict=True):
        classifier = Classifier(encoder, records.findings, exclusive=config.exclusive)
        classifier.head.weight.data.copy_(torch.from_numpy(weight))
        classifier.head.bias.data.copy_(torch.from_numpy(bias))
        classifiers[cell] = classifier.eval()
    return classifiers


def _score(
    classifier: Classifier,
    config: Settings,
    records: Records,
    store: Store,
    run: Run,
    facts: dict[str, Any],
    *,
    keep_model: bool = True,
) -> Report:
    scored = records.take(records.table["split"].isin(["val", "test"]).to_numpy())
    cache = config.store.expanduser() / "features" if config.fit == "logistic" else None
    predictions = predict(
        classifier, scored, store, device=config.device, precision=config.precision, cache=cache
    )
    report = evaluate(
        predictions,
        records,
        exclusive=config.exclusive,
        replicates=config.replicates,
        excluded=store.excluded,
        notes=_notes(facts),
        provenance=facts | {"settings": config.model_dump(mode="json")},
    )
    predictions.write(run.path / "predictions.csv")
    report.write(run.path / "report.json")
    if keep_model:
        run.write(MODEL_FILE, to_bytes(classifier, parent=config.init))
        write_trained_on(run, records.where("train"), store, config.init)
    return report


def _encoder(config: Settings, seed: int) -> Encoder:
    return open_encoder(config.init, config, seed=seed)


def _split(records: Records, config: Settings) -> Records:
    """The table with its own split, or with one made by patient where it has none."""
    if not records.findings:
        raise RecordsError(f"{config.records}: no column of findings (1, 0 or empty); transfer needs labels")
    present = set(records.table["split"])
    if present == {""}:
        log.info(
            "%s has no split: made one by patient, 70 %% train, 10 %% val, 20 %% test, seed %d",
            config.records,
            config.seed,
        )
        return split_patients(records, val=0.1, test=0.2, seed=config.seed)
    missing = {"train", "val", "test"} - present
    if missing:
        raise RecordsError(
            f"{config.records}: column split has no {', '.join(sorted(missing))} rows; transfer trains on "
            "train, chooses on val and scores on test. `hilum records split` makes all three by patient"
        )
    return records


def _notes(facts: dict[str, Any]) -> list[str]:
    seen = facts["test_patients_trained_on"]
    return (
        [f"The encoder was trained on {seen} of the test patients: these scores mean little."] if seen else []
    )


def film_of(store: Store) -> Callable[[str], np.ndarray]:
    """Finds the stored film of an image path, for thumbnails."""
    return lambda image: store[int(store.rows([image])[0])]
