"""hilum records split: train, val and test, by patient."""

import logging
from pathlib import Path

from hilum.commands._open import open_records
from hilum.config import RecordsConfig
from hilum.errors import OutputError
from hilum.records.sealing import seal
from hilum.records.splits import split_patients

EXAMPLE = "hilum records split films.csv --out films-split.csv"
TAKES = "records"

log = logging.getLogger(__name__)


class Settings(RecordsConfig):
    """Writes the table again with a column split: by patient, stratified over findings.

    Every column is kept: those that play a part under its name (PatientID becomes patient), others under
    their own. Labels that --findings leaves out are findings again for what reads the new table without it.
    """

    out: Path
    """The table that is written, and beside it its hash; it must not exist."""
    val: float = 0.1
    """Share of the patients for choosing thresholds, penalties and epochs."""
    test: float = 0.2
    """Share of the patients that nothing is chosen on."""
    seed: int = 0
    """Of the draw."""


def split(config: Settings) -> Path:
    """Writes the split and returns its path."""
    if config.out.exists():
        raise OutputError(f"{config.out}: is there already; give another --out or remove it")
    records = open_records(config, keep_others=True)
    records = split_patients(records, val=config.val, test=config.test, seed=config.seed)
    records.write(config.out)
    seal(config.out)
    for name, group in records.table.groupby("split"):
        positives = ", ".join(f"{int(group[f].sum())} {f}" for f in records.findings)
        log.info(
            "%-5s %6d radiographs  %6d patients  %s", name, len(group), group["patient"].nunique(), positives
        )
    return config.out
