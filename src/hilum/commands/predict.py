"""hilum predict: probabilities, or boxes, for your own radiographs."""

import logging
from pathlib import Path

from pydantic import NonNegativeFloat

from hilum import inference
from hilum.commands._detectors import alike, manner_of, models_of
from hilum.commands._open import open_records, open_store, refuse_overlap
from hilum.config import RecordsConfig, StoreConfig
from hilum.detecting import detect
from hilum.errors import ConfigError, OutputError, WeightsError
from hilum.images.store import Store
from hilum.models.classifier import Classifier
from hilum.models.detector import Detector
from hilum.models.encoder import Encoder
from hilum.models.weights import Model
from hilum.records.detections import rsna_submission, side_by_side
from hilum.records.table import Records
from hilum.records.writing import write_csv

EXAMPLE = "hilum predict runs/probe --records films.csv --out predictions.csv"
TAKES = "model"

log = logging.getLogger(__name__)


class Settings(RecordsConfig, StoreConfig):
    """Writes the probability of every finding in every radiograph, or the boxes that a detector finds."""

    model: Path
    """A run of transfer or detect, or its model.safetensors."""
    out: Path
    """The table that is written; it must not exist."""
    ensemble: list[Path] = []
    """Further detectors of the same kind that speak together with it: other seeds, or folds of one's own. The
    folds and late epochs of a run speak together as it is."""
    overlap: NonNegativeFloat = 0.0
    """Detectors: overlap (IoU) from which the less sure of two boxes goes; 0: as validation chose."""
    threshold: NonNegativeFloat = 0.0
    """Detectors: score from which a box is written; 0: as validation chose."""
    submission: bool = False
    """Detectors: write the RSNA challenge's table, patientId and PredictionString, in its 1024 pixels."""
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
    models = models_of(config.model)
    model = models[0]
    if isinstance(model, Encoder):
        raise WeightsError(
            f"{config.model}: an encoder without findings; `hilum transfer --init` fits them first"
        )
    if isinstance(model, Classifier) and (
        config.ensemble or config.overlap or config.threshold or config.submission
    ):
        raise ConfigError(
            f"{config.model} is a classifier; --ensemble, --overlap, --threshold and --submission are for "
            "detectors"
        )
    records = open_records(config)
    records, store = open_store(config, records.where(config.split) if config.split else records)
    splits = set(records.table["split"])
    tested = records if splits == {""} else records.where("test")
    for path in (config.model, *config.ensemble):
        if overlap := refuse_overlap(path, tested, store, allow=config.allow_overlap):
            log.warning("%s: trained on %d of the patients: scores on them would mean little", path, overlap)
    if isinstance(model, Detector):
        _write_boxes(models, config, records, store)
        return config.out
    inference.predict(model, records, store, device=config.device).write(config.out)
    log.info("%d radiographs, %d findings", len(records), len(model.findings))
    return config.out


def _write_boxes(models: list[Model], config: Settings, records: Records, store: Store) -> None:
    detectors = alike(models, config.model)
    for path in config.ensemble:
        detectors = alike([*detectors, *models_of(path)], path)
    findings = detectors[0].findings
    if config.submission and len(findings) > 1:
        raise ConfigError(
            f"{config.model} looks for {', '.join(findings)}; --submission is the table of a challenge of "
            "one finding, and has no column for it"
        )
    report, look = manner_of(config.model)
    chosen = {one.finding: (one.overlap, one.threshold) for one in report.findings} if report else {}
    cuts = {}
    for finding in findings:
        overlap, threshold = chosen.get(finding, (None, None))
        overlap, threshold = config.overlap or overlap, config.threshold or threshold
        if not (overlap and threshold):
            raise ConfigError(
                f"{config.model}: no threshold of {finding} was chosen on validation; give --overlap and "
                "--threshold"
            )
        cuts[finding] = overlap, threshold
    boxes = detect(
        detectors,
        records,
        store,
        overlaps=sorted({overlap for overlap, _ in cuts.values()}),
        floor=min(threshold for _, threshold in cuts.values()),
        device=config.device,
        look=look,
    ).boxes
    images = records.table["image"].tolist()
    found = side_by_side(
        [boxes[overlap].of(finding).above(threshold) for finding, (overlap, threshold) in cuts.items()],
        images,
    )
    if config.submission:
        sizes = {
            image: store.source_size(int(row)) for image, row in zip(images, store.rows(images), strict=True)
        }
        write_csv(rsna_submission(found, sizes), config.out)
    else:
        found.write(config.out)
    log.info(
        "%d boxes on %d of %d radiographs (scores from %s on)",
        len(found),
        found.table["image"].nunique(),
        len(records),
        ", ".join(f"{threshold:.3g} for {finding}" for finding, (_, threshold) in cuts.items()),
    )
