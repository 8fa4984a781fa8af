"""hilum records check: the doctor, before anything is trained."""

import logging
import sys
from pathlib import Path

from hilum.commands._open import open_records
from hilum.config import RecordsConfig
from hilum.images.read import film_facts, read_image
from hilum.progress import Progress
from hilum.records.doctor import inspect, lines

EXAMPLE = "hilum records check films.csv"
TAKES = "records"

log = logging.getLogger(__name__)


class Settings(RecordsConfig):
    """Looks at every radiograph: unreadable, blank, inverted, with writing, twice there, or in two splits."""

    workers: int = 2
    """Threads that read."""
    shown: int = 20
    """Problems of one kind that are printed; the rest is counted."""


def check(config: Settings) -> int:
    """Prints what was found; 0 if nothing is wrong, 65 if something is."""
    records = open_records(config)
    with Progress("Looking", len(records), unit="radiographs") as line:
        diagnosis = inspect(
            records,
            lambda image: read_image(Path(image)),
            burned_in=lambda image: film_facts(Path(image)).burned_in == "YES",
            workers=config.workers,
            progress=line.update,
        )
    sys.stdout.write("\n".join(lines(diagnosis, shown=config.shown)) + "\n")
    return 65 if diagnosis.errors else 0
