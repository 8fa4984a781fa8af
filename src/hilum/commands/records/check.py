"""hilum records check: the doctor, before anything is trained."""

import logging
import sys
from pathlib import Path

from hilum.commands._open import open_records
from hilum.config import RecordsConfig
from hilum.images.read import film_facts, read_image
from hilum.progress import Progress
from hilum.records.doctor import inspect, lines
from hilum.records.files import cures, probable_root

EXAMPLE = "hilum records check films.csv"
TAKES = "records"

log = logging.getLogger(__name__)


class Settings(RecordsConfig):
    """Looks at each radiograph: missing, unreadable, blank, inverted, with writing, copied, in two splits."""

    workers: int = 2
    """Threads that read."""
    shown: int = 20
    """Problems of one kind that are printed; the rest is counted."""


def check(config: Settings) -> int:
    """Prints what was found; 0 if nothing is wrong, 65 if something is."""
    records = open_records(config, check_files="beside others")  # the doctor names them beside its own
    images = records.table["image"].tolist()
    lost = cures(images, most=config.shown)
    with Progress("Looking", len(records), unit="radiographs") as line:
        diagnosis = inspect(
            records,
            lambda image: read_image(Path(image)),
            burned_in=lambda image: film_facts(Path(image)).burned_in == "YES",
            lost=lost,
            workers=config.workers,
            progress=line.update,
        )
    start = config.root or config.records.expanduser().absolute().parent
    if lost and (other := probable_root(images[next(iter(lost))].removeprefix(f"{start}/"), start)):
        log.warning("image paths seem to start elsewhere; try --root %s", other)
    sys.stdout.write("\n".join(lines(diagnosis, shown=config.shown)) + "\n")
    return 65 if diagnosis.errors else 0
