"""hilum transfer: what an encoder knows, measured on a finding with few labels or many."""

import logging
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from hilum.commands._door import check_encoder, with_split
from hilum.commands._elsewhere import Elsewhere, open_elsewhere
from hilum.commands._fits import Cell
from hilum.commands._open import (
    environment,
    open_encoder,
    open_groups,
    open_records,
    open_store,
    refuse_overlap,
)
from hilum.commands._transfer_cells import Given, fit_cell, fit_grid, fit_together, folder_of
from hilum.config import (
    CellsConfig,
    EncoderConfig,
    RecordsConfig,
    ScoringConfig,
    StoreConfig,
    TrainConfig,
    ViewsConfig,
    flag,
)
from hilum.images.store import Store
from hilum.records.table import Records
from hilum.report.page import write_page
from hilum.report.provenance import run_title
from hilum.report.summary import headline
from hilum.run import Run
from hilum.tensorboard import require_tensorboard

EXAMPLE = "hilum transfer --records films.csv --init runs/simclr --label-fraction 0.01 0.1 1 --out runs/probe"

log = logging.getLogger(__name__)


class Settings(
    RecordsConfig, StoreConfig, EncoderConfig, ViewsConfig, CellsConfig, ScoringConfig, TrainConfig
):
    """Fits findings on an encoder and scores them on the test split.

    Several label fractions or seeds make one run with a cell for each, compared on one page.
    """

    out: Path
    """Where the run is written. An unfinished run there is resumed."""
    init: str = "random"
    """The encoder: a run, a weights file, imagenet (needs a network), random, or pixels (32×32)."""
    fit: Literal["logistic", "knn", "linear", "finetune", "linear_then_finetune", "lora"] = "logistic"
    """What is trained. logistic: a head, by logistic regression. knn: nothing, the nearest films vote.
    linear: a head, by gradient descent. finetune: everything. linear_then_finetune: a head, then everything.
    lora: a head, and small matrices beside those of a ViT's attention."""
    shots: NonNegativeInt = 0
    """In place of label_fraction: how many positives and negatives of each finding are used; 0: no limit."""
    exclusive: bool = False
    """Exactly one finding is present in each radiograph: softmax in place of a sigmoid per finding."""
    penalty: NonNegativeFloat = 0.0
    """logistic: scikit-learn's C, small is strong; 0: chosen on validation, for each finding."""
    max_iter: PositiveInt = 300
    """logistic: iterations after which a head that has not converged is taken as it is, with a warning."""
    neighbours: NonNegativeInt = 0
    """knn: how many films vote; 0: chosen on validation."""
    train_from: str = ""
    """The first block of the encoder that is trained (layer3, blocks.6); those before it stay as they are,
    BatchNorm statistics too. Empty: all are trained."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The learning rate of a block over that of the next one; the head's is lr, or head_lr."""
    head_lr: NonNegativeFloat = 0.0
    """Peak learning rate of the head; 0: lr."""
    linear_share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """linear_then_finetune: the share of the run that the head has alone. Each part has its own schedule."""
    lora_rank: PositiveInt = 8
    """lora: rank of the matrices."""
    lora_alpha: PositiveFloat = 16.0
    """lora: their product counts alpha / rank."""
    weighting: Literal["none", "balanced"] = "none"
    """balanced: of each finding, positives and negatives count alike in sum; if exclusive, findings do."""
    loss: Literal["cross_entropy", "focal", "asymmetric"] = "cross_entropy"
    """What is minimised; focal and asymmetric weigh films less that are easy already."""
    focal_gamma: NonNegativeFloat = 2.0
    """focal: how much less; 0 is cross_entropy."""
    gamma_positive: NonNegativeFloat = 0.0
    """asymmetric: the same of positives."""
    gamma_negative: NonNegativeFloat = 4.0
    """asymmetric: the same of negatives."""
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """asymmetric: negatives of a lower probability weigh nothing, and that of others is lowered by it."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """How much of each label is spread over the other values."""
    mixup: NonNegativeFloat = 0.0
    """Films are mixed in pairs, by shares from Beta(mixup, mixup); 0: none are."""
    allow_overlap: bool = False
    """Score an encoder that was trained on test patients; the report says so."""
    monitor: str = "val_auroc"
    """Validation metric by which the best epoch is kept; empty: the last epoch is kept."""
    test_records: Path | None = None
    """A table of another data set that each fit is tested on too, with the thresholds chosen here; read as
    the first is. Its report is in the folder external."""
    replicates: int = 2000
    """Bootstrap replicates behind each interval."""

    # Which fits read which settings; those that are not here are read by all, or change no result.
    READ_BY: ClassVar[dict[str, str]] = {
        "penalty max_iter": "logistic",
        "neighbours": "knn",
        "linear_share": "linear_then_finetune",
        "lora_rank lora_alpha": "lora",
        "train_from layer_decay": "finetune linear_then_finetune",
        "head_lr": "finetune linear_then_finetune lora",
        "weighting loss label_smoothing mixup views view epochs steps batch_size accumulate optimizer lr "
        "schedule drop warmup weight_decay momentum clip ema monitor patience tensorboard": (
            "linear finetune linear_then_finetune lora"
        ),
    }

    @model_validator(mode="after")
    def _check_fit(self) -> Self:
        if self.shots and self.label_fraction != [1.0]:
            raise ValueError("shots and label_fraction both limit the labels; give one of them")
        defaults, idle = type(self).defaults(), []
        for names, fits in self.READ_BY.items():
            changed = [name for name in names.split() if getattr(self, name) != defaults[name]]
            if changed and self.fit not in fits.split():
                idle.append(f"{' and '.join(map(flag, changed))} (for --fit {' or '.join(fits.split())})")
        for loss, names in (("focal", "focal_gamma"), ("asymmetric", "gamma_positive gamma_negative margin")):
            changed = [name for name in names.split() if getattr(self, name) != defaults[name]]
            if changed and self.loss != loss:
                raise ValueError(
                    f"{' and '.join(map(flag, changed))} belong to --loss {loss}, and loss is {self.loss}"
                )
        if self.fit in ("logistic", "knn") and any(word.endswith("soft") for word in self.uncertain):
            idle.append("--uncertain soft (for fits by gradient descent)")
        if idle:
            raise ValueError(
                f"--fit {self.fit} does not use {', '.join(idle)}; leave that out, or choose another fit"
            )
        return self


def transfer(config: Settings) -> Path:
    """Fits every cell that is not finished yet, scores it, and returns the run."""
    if config.tensorboard:
        require_tensorboard()
    read = open_records(config)
    groups = open_groups(config, config.records, read)
    records, store = open_store(config, read)
    records = with_split(records, config)
    encoder = open_encoder(config.init, config, seed=config.seed)
    check_encoder(config, encoder, records.findings)
    overlap = refuse_overlap(Path(config.init), records.where("test"), store, allow=config.allow_overlap)
    facts = environment(records, store) | {"test_patients_trained_on": overlap}
    cells = [
        Cell(fraction, seed, config.shots) for fraction in config.label_fraction for seed in config.seeds
    ]
    train = records.where("train")
    todo = (
        [] if Run(config.out).finished else [c for c in cells if not Run(folder_of(c, config.out)).finished]
    )
    drawn = {cell: cell.draw(train) for cell in todo}
    given = Given(records, store, encoder, facts, groups, _elsewhere(config, records, store), drawn)
    with Run.open(config.out, config, facts) as run:
        if run.finished:
            log.info("%s: finished before; nothing to do", config.out)
            return config.out
        if len(cells) == 1:
            report = fit_cell(config, cells[0], given, run, fit_together(config, cells, given))
            write_page(
                report,
                run.path / "report.html",
                images=lambda image: store[int(store.rows([image])[0])],
                metrics=run.metrics(),
                title=run_title("transfer", run.path.resolve().name, config.model_dump(mode="json")),
            )
            log.info("%s", headline(report))
        else:
            log.info("%d of %d cells to fit", len(todo), len(cells))
            fit_grid(config, given, run)
        run.finish({"cells": len(cells), "parameters": given.parameters})
    return config.out


def _elsewhere(config: Settings, records: Records, store: Store) -> Elsewhere | None:
    if config.test_records is None:
        return None
    return open_elsewhere(
        RecordsConfig(records=config.test_records, uncertain=config.uncertain),
        config,
        known=records,
        known_store=store,
        init=Path(config.init),
        allow_overlap=config.allow_overlap,
    )
