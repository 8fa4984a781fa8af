"""hilum predict: probabilities, or boxes, for your own radiographs."""

import logging
from pathlib import Path

import torch
from pydantic import NonNegativeFloat, NonNegativeInt

from hilum import inference
from hilum.commands._detectors import alike, manner_of, models_of
from hilum.commands._in_split import in_split
from hilum.commands._open import open_records, open_store, refuse_overlap
from hilum.commands._predicted import (
    TOLD,
    list_of_unreadable,
    tell,
    thresholds_of_run,
    warn_of_blank,
    write_unreadable,
)
from hilum.config import RecordsConfig, StoreConfig
from hilum.detecting import detect
from hilum.errors import ConfigError, ImageError, OutputError, WeightsError
from hilum.find import did_you_mean
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
    """The table that is written; it must not exist. Files that --exclude-unreadable leaves out are listed
    beside it, in NAME-unreadable.csv."""
    records: Path
    """A radiograph (PNG, JPEG or DICOM), a folder of them, or a table (.csv), of which the column image is
    enough. No patients are needed, and no labels are read."""
    findings: list[str] = []
    """Write only these of the findings that the model knows; empty: all."""
    ordinal: list[str] = []
    """Changes nothing, which is said: no labels are read."""
    uncertain: list[str] = ["refuse"]
    """Changes nothing, which is said: no labels are read."""
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
    threads: NonNegativeInt = 0
    """Threads of the arithmetic on the CPU; 0: torch's choice."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes a GPU where there is one."""


def predict(config: Settings) -> Path:
    """Writes the predictions and returns their path."""
    _check_out(config)
    torch.set_num_threads(config.threads or torch.get_num_threads())
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
    findings = _findings(config, model)
    records, store = _films(config)
    splits = set(records.table["split"])
    tested = records if splits == {""} else records.where("test")
    for path in (config.model, *config.ensemble):
        if overlap := refuse_overlap(path, tested, store, allow=config.allow_overlap):
            log.warning("%s: trained on %d of the patients: scores on them would mean little", path, overlap)
    warn_of_blank(records, store)
    if isinstance(model, Detector):
        _write_boxes(models, config, findings, records, store)
        return config.out
    predictions = inference.predict(model, records, store, device=config.device).of(findings)
    predictions.write(config.out)
    if len(records) <= TOLD:
        whole = model.exclusive and len(findings) == len(model.findings)
        tell(predictions, {} if model.exclusive else thresholds_of_run(config.model), exclusive=whole)
    log.info("%d radiographs, %d findings", len(records), len(findings))
    return config.out


def _check_out(config: Settings) -> None:
    beside = [list_of_unreadable(config.out)] if config.exclude_unreadable else []
    for path in (config.out, *beside):
        if path.exists():
            raise OutputError(f"{path}: is there already; give another --out or remove it")


def _findings(config: Settings, model: Classifier | Detector) -> tuple[str, ...]:
    """Those that are written, in the model's order."""
    for name in config.findings:
        if name not in model.findings:
            near = did_you_mean(name, model.findings)
            raise ConfigError(
                f"--findings {name}: {config.model} does not know it{near or ';'} "
                f"it knows {', '.join(model.findings)}"
            )
    return tuple(name for name in model.findings if name in config.findings or not config.findings)


def _films(config: Settings) -> tuple[Records, Store]:
    """The radiographs to predict, and their pixels; what is left out is listed."""
    if config.ordinal or config.uncertain != ["refuse"]:
        log.warning("predict reads no labels: --ordinal and --uncertain change nothing")
    unlabelled = config.model_copy(update={"findings": [], "ordinal": [], "uncertain": ["refuse"]})
    asked = in_split(
        open_records(unlabelled, labels=False, patients=False), config.split, path=config.records
    )
    records, store = open_store(config, asked)
    write_unreadable(config.out, asked.table["image"].tolist(), store)
    if not len(records):
        raise ImageError(f"{config.records}: none of its {len(asked)} radiographs can be read")
    return records, store


def _write_boxes(
    models: list[Model], config: Settings, findings: tuple[str, ...], records: Records, store: Store
) -> None:
    detectors = alike(models, config.model)
    for path in config.ensemble:
        detectors = alike([*detectors, *models_of(path)], path)
    if config.submission and len(findings) > 1:
        raise ConfigError(
            f"{config.model} looks for {', '.join(findings)}; --submission is the table of a challenge of "
            "one finding, and has no column for it; choose one with --findings"
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
    if config.ensemble and not (config.overlap and config.threshold):
        log.info("thresholds are those that %s was given by validation, alone", config.model)
    log.info(
        "%d boxes on %d of %d radiographs (scores from %s on)",
        len(found),
        found.table["image"].nunique(),
        len(records),
        ", ".join(f"{threshold:.3g} for {finding}" for finding, (_, threshold) in cuts.items()),
    )
