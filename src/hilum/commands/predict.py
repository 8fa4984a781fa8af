"""hilum predict: probabilities for your own radiographs."""

import logging
from pathlib import Path

from hilum import inference
from hilum.commands._open import open_records, open_store, refuse_overlap
from hilum.config import RecordsConfig, StoreConfig
from hilum.errors import OutputError, WeightsError
from hilum.models.classifier import Classifier
from hilum.models.weights import load

EXAMPLE = "hilum predict runs/probe --records films.csv --out predictions.csv"
TAKES = "model"

log = logging.getLogger(__name__)


class Settings(RecordsConfig, StoreConfig):
    """Writes the probability of every finding in every radiograph."""

    model: Path
    """A run of transfer, or its model.safetensors."""
    out: Path
    """The table that is written; it must not exist."""
    split: str = ""
    """Only rows of this split; empty: all."""
    allow_overlap: bool = False
    """Predict radiographs to be tested on (the test split; all, where there is no split) of which the model
    was trained on some, or on other films of their patients."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes a GPU where there is one."""


def predict(config: Settings) -> Path:
    """Writes the predictions and returns their path."""
    if config.out.exists():
        raise OutputError(f"{config.out}: is there already; give another --out or remove it")
    model = load(config.model)
    if not isinstance(model, Classifier):
        raise WeightsError(
            f"{config.model}: an encoder without findings; `hilum transfer --init` fits them first"
        )
    records = open_records(config)
    records, store = open_store(config, records.where(config.split) if config.split else records)
    splits = set(records.table["split"])
    tested = records if splits == {""} else records.where("test")
    overlap = refuse_overlap(config.model, tested, store, allow=config.allow_overlap)
    if overlap:
        log.warning("%d of the patients were trained on: scores on them would mean little", overlap)
    inference.predict(model, records, store, device=config.device).write(config.out)
    log.info("%d radiographs, %d findings", len(records), len(model.findings))
    return config.out
