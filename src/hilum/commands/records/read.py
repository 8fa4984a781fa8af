"""hilum records read: a data set as it was downloaded, made a table."""

import logging
from inspect import signature
from pathlib import Path

import numpy as np

from hilum import find
from hilum.config import Config, settings_in
from hilum.errors import MissingError, OutputError, RecordsError
from hilum.images.identity import film_columns
from hilum.records.overlap import of_dataset

EXAMPLE = "hilum records read rsna --root rsna-pneumonia --out rsna.csv"
TAKES = "source"

log = logging.getLogger(__name__)


class Settings(Config):
    """Writes a data set as one table, with all defects named at once and nothing left out silently.

    The column site has the data set's name, by which a test on films of what was trained on is refused.
    """

    source: str
    """A file of hilum.records.sources by its name, or a dotted module of your own."""
    root: Path
    """The folder that was downloaded."""
    out: Path
    """The table that is written; it must not exist."""


def read(config: Settings) -> Path:
    """Writes the table and returns its path."""
    if config.out.exists():
        raise OutputError(f"{config.out}: is there already; give another --out or remove it")
    if config.root.is_file():
        raise MissingError(f"{config.root}: is a file; --root is the folder that it lies in or unpacks to")
    if not config.root.is_dir():
        raise MissingError(f"{config.root}: no such folder")
    module = find.module("hilum.records.sources", config.source)
    own = settings_in(find.path("hilum.records.sources", config.source)).model_fields
    given = {name: getattr(config, name) for name in own}
    if "look" in signature(module.read).parameters:
        given["look"] = film_columns  # a source that reads headers of films, which its room cannot
    records = of_dataset(module.read(config.root, **given), config.source)
    if not len(records):
        raise RecordsError(
            f"{config.root}: it names no radiograph, or none that was asked for; nothing written"
        )
    records.write(config.out)
    if records.soft is not None:
        uncertain = int((~np.isnan(records.soft)).sum())
        log.info("%d labels are uncertain (-1); what reads the table needs --uncertain", uncertain)
    positives = ", ".join(f"{int((records.table[f] == 1).sum())} {f}" for f in records.findings)
    patients = records.table["patient"].nunique()
    log.info("%d radiographs, %d patients, with %s", len(records), patients, positives or "no finding")
    return config.out
