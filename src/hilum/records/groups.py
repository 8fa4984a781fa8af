"""Which group each radiograph is in: women and men, bands of age, views, sites, or a column of one's own."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pandas as pd

from hilum.errors import ConfigError, RecordsError
from hilum.find import did_you_mean
from hilum.records.defects import Defects, listed, quote
from hilum.records.reading import read_text
from hilum.records.table import Records

USUAL = ("sex", "age", "view", "site")
"""Columns that divide the radiographs if none are named."""

MOST = 20
"""More groups than this are no grouping."""

_SEX = {"m": "male", "male": "male", "man": "male", "f": "female", "female": "female", "woman": "female"}
_UNKNOWN = {"", "nan", "na", "n/a", "none", "unknown"}


def read_groups(
    records: Records, path: Path, *, columns: Sequence[str], age_bands: Sequence[int]
) -> pd.DataFrame:
    """The group of every radiograph, a column per grouping, by image; empty where it is unknown.

    `columns` are those of the records (sex, age, view, site, a finding), or any other of the file at `path`
    that the records were read from, all rows of it; none: those of `USUAL` that there are and in which
    radiographs differ. Ages become bands that begin at `age_bands`. Upper and lower case are the same.

    Raises:
        ConfigError: there is no such column, or the bands do not ascend.
        RecordsError: a column has so many values that it is no grouping.
    """
    _check_bands(age_bands)
    path, table = Path(path).expanduser(), records.table
    known = [name for name in table.columns if name not in ("image", "split", "text", "boxes")]
    usual = [name for name in USUAL if name in known and len(set(table[name]) - {""}) > 1]
    wanted = list(dict.fromkeys(columns)) or usual
    others = _others(path, len(records)) if any(name not in known for name in wanted) else {}
    found: dict[str, list[str]] = {}
    for name in wanted:
        if name in records.findings:
            cells = table[name].map({1.0: "present", 0.0: "absent"}).fillna("").tolist()
        elif name in known:
            cells = table[name].astype(str).tolist()
        elif name in others:
            cells = others[name]
        else:
            names = list(dict.fromkeys([*known, *others]))
            near = did_you_mean(name, names) or f"; columns are {listed(names)}"
            raise ConfigError(f"--subgroups {name}: there is no column {name!r} in {path}{near}")
        found[name] = bands(cells, age_bands) if name == "age" else _merged(name, cells)
        _check_groups(name, found[name], path)
    return pd.DataFrame(found, index=pd.Index(table["image"], name="image"), dtype="str")


def bands(ages: Sequence[str], starts: Sequence[int]) -> list[str]:
    """The band of each age in whole years, empty where it is unknown.

    >>> bands(["17.9", "18", "", "93"], [18, 80])
    ['0–17', '18–79', '', '80+']
    """
    edges = [0, *starts]
    names = [f"{low}–{high - 1}" for low, high in pairwise(edges)] + [f"{edges[-1]}+"]
    return [
        names[sum(float(age) >= start for start in starts)] if age not in _UNKNOWN else "" for age in ages
    ]


def in_order(column: str, groups: Sequence[str]) -> list[str]:
    """The names of the groups, once each: bands of age ascending, others by name."""
    names = sorted({group for group in groups if group})
    if column == "age":
        return sorted(names, key=lambda name: int(name.rstrip("+").partition("–")[0]))
    return names


def _merged(name: str, cells: Sequence[str]) -> list[str]:
    """Cells without blanks around them; those that differ in case alone get the most frequent spelling."""
    plain = [cell.strip() for cell in cells]
    if name == "sex":
        return [_SEX.get(cell.lower(), "" if cell.lower() in _UNKNOWN else cell) for cell in plain]
    spelling: dict[str, str] = {}
    for cell, _ in Counter(plain).most_common():
        spelling.setdefault(cell.lower(), "" if cell.lower() in _UNKNOWN else cell)
    return [spelling[cell.lower()] for cell in plain]


def _others(path: Path, rows: int) -> dict[str, list[str]]:
    """The columns of the file as text, row by row of the records."""
    if not path.is_file():
        return {}
    defects = Defects(path)
    lines, columns = read_text(path, defects)
    defects.check()
    assert len(lines) == rows, (len(lines), rows)
    return columns


def _check_bands(starts: Sequence[int]) -> None:
    if not starts or any(high <= low for low, high in pairwise([0, *starts])):
        raise ConfigError(
            f"--age-bands {' '.join(map(str, starts))}: expected the first year of every band but the first, "
            "ascending and above 0, such as 18 40 60 80"
        )


def _check_groups(name: str, groups: Sequence[str], path: Path) -> None:
    distinct = sorted({group for group in groups if group})
    if len(distinct) > MOST:
        raise RecordsError(
            f"{path}: column {name!r} has {len(distinct):,} values (such as "
            f"{', '.join(map(quote, distinct[:3]))}); a grouping has at most {MOST}. Make a column of wider "
            "groups and name that with --subgroups, or leave it out"
        )
