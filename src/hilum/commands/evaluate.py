"""hilum evaluate: a table of predictions against a table of labels."""

import logging
from pathlib import Path

from hilum.commands._open import open_groups, open_records
from hilum.config import RecordsConfig, ScoringConfig
from hilum.errors import ConfigError, OutputError
from hilum.records.matching import matched
from hilum.records.predictions import Predictions
from hilum.report.evaluate import evaluate as score
from hilum.report.external import thresholds_from
from hilum.report.page import write_page
from hilum.report.summary import headline

EXAMPLE = "hilum evaluate predictions.csv --records films.csv --out report"
TAKES = "predictions"

log = logging.getLogger(__name__)


class Settings(RecordsConfig, ScoringConfig):
    """Scores predictions, whoever made them; no model and no pixels are needed."""

    predictions: Path
    """A table with the column image and one column of probabilities per finding."""
    out: Path
    """Folder for report.json and report.html; it must not exist."""
    exclusive: bool = False
    """Exactly one finding is present in each radiograph."""
    replicates: int = 2000
    """Bootstrap replicates behind each interval."""
    thresholds: Path | None = None
    """A report.json whose thresholds are used, of the run that made the predictions: for records of another
    dataset. Default: they are chosen on the validation split."""


def evaluate(config: Settings) -> Path:
    """Writes the report and returns its folder."""
    if config.out.exists():
        raise OutputError(f"{config.out}: is there already; give another --out or remove it")
    if config.thresholds and config.threshold != type(config).defaults()["threshold"]:
        raise ConfigError(
            f"--threshold {config.threshold} chooses thresholds anew, --thresholds {config.thresholds} "
            "brings chosen ones; give one of them"
        )
    records, predictions = open_records(config, check_files=False), Predictions.read(config.predictions)
    records, notes = matched(records, predictions.findings, chosen=config.match)
    report = score(
        predictions,
        records,
        exclusive=config.exclusive,
        replicates=config.replicates,
        threshold=config.threshold,
        prevalence=config.prevalence,
        calibrate=config.calibrate,
        notes=notes,
        groups=open_groups(config, config.records, records),
        thresholds=thresholds_from(config.thresholds, predictions.findings) if config.thresholds else None,
    )
    config.out.mkdir(parents=True)
    report.write(config.out / "report.json")
    title = f"hilum evaluate: {config.out.resolve().name} ({config.predictions.name})"
    write_page(report, config.out / "report.html", title=title)
    for why in dict.fromkeys(one.note for one in report.thresholds if one.value is None):
        log.warning("no decisions are scored: %s", why)
    log.info("%s", headline(report))
    return config.out
