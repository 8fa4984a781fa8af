"""hilum records merge: tables of several sites made one, with findings of one meaning in one column."""

import json
import logging
import sys
from pathlib import Path
from typing import Literal

from hilum.config import Config
from hilum.durable import write_atomically
from hilum.errors import ConfigError, OutputError
from hilum.records.merging import merge as merge_tables
from hilum.records.table import Records

EXAMPLE = "hilum records merge nih.csv chexpert.csv --out merged.csv"
TAKES = "tables"

log = logging.getLogger(__name__)


class Settings(Config):
    """Joins tables of several sites into one, with findings of one meaning in one column.

    Patients are kept apart by site, -1 stays -1, and what a table does not say is unknown. Beside the table,
    a file of its name that ends in .json says what was changed and what contradicts what.
    """

    tables: list[Path]
    """The tables, one or more."""
    out: Path
    """The table that is written; it must not exist."""
    sites: list[str] = []
    """A name for each table, in order; the column site. Default: the files' names."""
    join: Literal["union", "intersection"] = "union"
    """Which findings are kept: those that any table has, or those that all have."""
    parents: Literal["positive", "leave"] = "positive"
    """What becomes of a wider finding that is unknown or uncertain where a narrower one is positive: positive
    (Lung Opacity where there is Consolidation), or left as it is."""
    complete: list[str] = []
    """Wider findings whose narrower ones were all asked for, so that they are negative where all of these
    are; of one site alone, as in "nih=Lung Opacity"."""
    match: dict[str, str] = {}
    """Other names for findings, as in "Opacity=Lung Opacity". Names of one meaning are found without."""
    columns: dict[str, str] = {}
    """Which of the files' columns plays which part, for example patient=PatientID; of all tables."""


def merge(config: Settings) -> Path:
    """Writes the merged table and what was changed, and returns the table's path."""
    beside = config.out.with_suffix(".json")
    for path in (config.out, beside):
        if path.exists():
            raise OutputError(f"{path}: is there already; give another --out or remove it")
    sites = config.sites or [path.stem for path in config.tables]
    if not sites or len(sites) != len(config.tables):
        raise ConfigError(f"--sites: {len(sites)} names for {len(config.tables)} tables; give one for each")
    if len(set(sites)) < len(sites) or not all(sites):
        raise ConfigError(f"--sites: {', '.join(sites)}; every table needs a name of its own")
    if config.parents == "leave" and config.complete:
        raise ConfigError("--complete fills wider findings, and --parents leave does not; give one of them")
    tables = {
        # Soft is the policy that keeps -1 apart, and a table is written with -1 from it.
        site: Records.read(path, uncertain="soft", columns=config.columns)
        for site, path in zip(sites, config.tables, strict=True)
    }
    merged = merge_tables(
        tables,
        common=config.join == "intersection",
        fill=config.parents == "positive",
        complete=config.complete,
        match=config.match,
    )
    merged.records.write(config.out)
    write_atomically(beside, (json.dumps(merged.facts(), indent=1, ensure_ascii=False) + "\n").encode())
    sys.stdout.write("\n".join(merged.lines()) + "\n")
    log.info("%d radiographs, %d findings", len(merged.records), len(merged.findings))
    return config.out
