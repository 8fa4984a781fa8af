"""Any column of a table of radiographs, as people wrote it: for colours and captions."""

from collections.abc import Sequence

import numpy as np

from hilum.config import RecordsConfig
from hilum.errors import ConfigError
from hilum.find import did_you_mean
from hilum.records.defects import Defects, listed
from hilum.records.reading import read_text
from hilum.records.table import Records

FEW_FINDINGS = 3
USUAL = ("site", "view", "sex", "split")


def cells_of(config: RecordsConfig, records: Records, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The cells of some columns by image, as text, empty where unknown; labels are 1 and 0.

    A column may be a part (split, site, view, sex, age, patient), a finding, or any other of the file.
    `records` are all rows of the file.

    Raises:
        ConfigError: there is no such column.
    """
    images, table = records.table["image"].tolist(), records.table
    others: dict[str, list[str]] = {}
    if any(name not in table for name in names) and config.records.expanduser().is_file():
        others = read_text(config.records.expanduser(), Defects(config.records))[1]
    found = {}
    for name in names:
        if name in records.findings:
            cells = [_label(value) for value in np.asarray(table[name], np.float64).tolist()]
        elif name in table:
            cells = table[name].tolist()
        elif name in others and len(others[name]) == len(images):
            cells = [cell.strip() for cell in others[name]]
        else:
            known = sorted({*table.columns, *others} - {"image", "text", "boxes"})
            near = did_you_mean(name, known) or f"; there are {listed(known)}"
            raise ConfigError(f"{config.records}: there is no column {name!r}{near}")
        found[name] = dict(zip(images, cells, strict=True))
    return found


def usual_columns(records: Records) -> list[str]:
    """The first findings, and where films differ in it: site, view, sex and split."""
    known = [name for name in USUAL if name in records.table and records.table[name].nunique() > 1]
    return [*records.findings[:FEW_FINDINGS], *known]


def _label(value: float) -> str:
    return "" if np.isnan(value) else f"{value:g}"
