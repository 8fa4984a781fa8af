"""hilum evaluate: a table of predictions against a table of labels."""

import logging
from pathlib import Path

from hilum.commands._open import open_records
from hilum.config import RecordsConfig
from hilum.errors import OutputError
from hilum.records.predictions import Predictions
from hilum.report.evaluate import evaluate as score
from hilum.report.page import write_page
from hilum.report.summary import headline

EXAMPLE = "hilum evaluate predictions.csv --records films.csv --out report"
TAKES = "predictions"

log = logging.getLogger(__name__)


class Settings(RecordsConfig):
    """Scores predictions, whoever made them; no model and no pixels are needed."""

    predictions: Path
    """A table with the column image and one column of probabilities per finding."""
    out: Path
    """Folder for report.json and report.html; it must not exist."""
    exclusive: bool = False
    """Exactly one finding is present in each radiograph."""
    replicates: int = 2000
    """Bootstrap replicates behind each interval."""


def evaluate(config: Settings) -> Path:
    """Writes the report and returns its folder."""
    if config.out.exists():
        raise OutputError(f"{config.out}: is there already; give another --out or remove it")
    records, predictions = open_records(config), Predictions.read(config.predictions)
    report = score(predictions, records, exclusive=config.exclusive, replicates=config.replicates)
    config.out.mkdir(parents=True)
    report.write(config.out / "report.json")
    write_page(report, config.out / "report.html")
    log.info("%s", headline(report))
    return config.out
