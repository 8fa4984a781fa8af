"""What the sources of whole data sets share: their sheets, their files, and labels with -1 in them."""

import gzip
import logging
import shutil
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from hilum.errors import ConfigError, MissingError, RecordsError
from hilum.find import did_you_mean
from hilum.records.defects import SHOWN, Defects, listed
from hilum.records.reading import read_text
from hilum.records.splits import split_patients
from hilum.records.table import Records
from hilum.records.uncertain import soft_labels

_GZIP = b"\x1f\x8b"


def sheet(
    path: Path, wanted: Sequence[str], defects: Defects, *, older: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """A sheet, packed by gzip or not, every cell as text, and the line of each row as `line`.

    A column of `wanted` that is not there becomes a defect, and is empty. `older` has other names of
    columns, and their names here.

    Raises:
        MissingError: there is no such file.
        RecordsError: it is no table, or damaged.
    """
    if not path.is_file():
        raise MissingError(f"{path}: no such file")
    with path.open("rb") as stream:
        packed = stream.read(2) == _GZIP  # by its content: browsers unpack a .gz and keep its name
    lines, columns = _unpacked(path, defects) if packed else read_text(path, defects)
    for name, now in (older or {}).items():
        if name in columns and now not in columns:
            columns[now] = columns.pop(name)
    table = pd.DataFrame({name: pd.Series(cells, dtype="str") for name, cells in columns.items()})
    for name in wanted:
        if name not in columns:
            near = did_you_mean(name, columns)
            defects.add("columns", f"{path.name} has no column {name!r}{near}")
            table[name] = ""
    return table.assign(line=lines)


def refuse_absent(
    images: pd.Series,
    there: Mapping[str, Path],
    defects: Defects,
    lines: pd.Series,
    *,
    what: str = "films",
    way_out: str = "",
    sheets: pd.Series | None = None,
) -> None:
    """Images of a sheet that no file is there for become defects: the first are named, all are counted.

    Args:
        images: their names, as `there` has them.
        there: the files by name.
        defects: what is added to.
        lines: the line of each row.
        what: what they are.
        way_out: how a message ends.
        sheets: the file of each row, where there are several.
    """
    absent = ~images.isin(list(there))
    if absent.all() and len(images) > 1:
        problem = f"none of {len(images):,} {what} is there, such as {images.iloc[0]}"
        defects.add(f"missing {what}", f"{problem}; unpack them, or correct the folder that is named")
        return
    shown = _first(images, absent, lines, f"is not there{way_out}", sheets)
    defects.add_many(f"missing {what}", shown, int(absent.sum()))


def with_films(
    table: pd.DataFrame,
    names: pd.Series,
    there: Mapping[str, Path],
    defects: Defects,
    *,
    only_present: bool,
) -> pd.DataFrame:
    """The table with `image`, the path of each row's film, which `there` has by its name.

    A film that comes twice becomes a defect. One that is not there does too, or, where `only_present`, its
    row is left out, counted and logged; but some must be there. A column `sheet` says of several files which
    one a row is from.
    """
    again, sheets = names.duplicated(), table.get("sheet")
    defects.add_many(
        "films listed twice",
        _first(names, again, table["line"], "is in an earlier row too", sheets),
        int(again.sum()),
    )
    present = names.isin(list(there))
    if only_present and present.any():
        table = keep(table, present, "their files are not there")
        names = names.loc[table.index]
    else:
        way_out = "; --only-present leaves such rows out"
        refuse_absent(names, there, defects, table["line"], way_out=way_out, sheets=sheets)
    paths = [str(there[name].absolute()) if name in there else "" for name in names]
    return table.assign(image=pd.Series(paths, index=table.index, dtype="str"))


def keep(table: pd.DataFrame, rows: pd.Series, why: str) -> pd.DataFrame:
    """Some rows of a table; how many are left out, and why, is logged."""
    lost = int((~rows).sum())
    if lost:
        logging.getLogger(__name__).info("%d of %d films are left out: %s", lost, len(table), why)
    return table[rows]


def of_views(table: pd.DataFrame, views: Sequence[str]) -> pd.DataFrame:
    """The films of some projections, by the column `view`; none named: all.

    Raises:
        ConfigError: no film is of any of them.
    """
    if not views or table.empty:
        return table
    rows = table["view"].isin(list(views))
    if not rows.any():
        there = sorted(set(table["view"]))
        raise ConfigError(f"--views {' '.join(views)}: no film is of these; views are {listed(there)}")
    counts = table["view"][~rows].value_counts()
    others = ", ".join(f"{count} {name or 'unknown'}" for name, count in counts.items())
    return keep(table, rows, f"their view is none of {', '.join(views)} ({others})")


def sexes(cells: pd.Series) -> pd.Series:
    """M, F or nothing."""
    return cells.str.strip().str.upper().str[:1].where(lambda letter: letter.isin(["M", "F"]), "")


def numbers(
    cells: pd.Series, defects: Defects, lines: pd.Series, *, file: str = ""
) -> Float[np.ndarray, " N"]:
    """1, 0, -1 or NaN of label cells; what is none of these becomes a defect, of a file that is named."""
    codes, distinct = pd.factorize(cells)  # few are, and a column has hundreds of thousands
    known = pd.Series(distinct, dtype="str").str.strip()
    own = pd.to_numeric(known, errors="coerce").to_numpy(np.float64)
    values = own[codes]
    bad = ((known != "").to_numpy() & ~np.isin(own, (-1, 0, 1)))[codes]
    shown = zip(lines[bad].head(20).tolist(), cells[bad].head(20).tolist(), strict=True)
    defects.add_many(
        f"labels of {cells.name}",
        (
            (line, f"{file}{': ' * bool(file)}found {cell!r}; expected 1, 0, -1 or nothing")
            for line, cell in shown
        ),
        int(bad.sum()),
        column=str(cells.name),
    )
    return np.where(bad, np.nan, values)


def records_of(table: pd.DataFrame, labels: Mapping[str, NDArray[np.float64]]) -> Records:
    """Records with labels of 1, 0, NaN and -1. `write` keeps -1: `--uncertain` says later what it becomes.

    Args:
        table: image (absolute path), patient, and further columns, all text; split is added where it lacks.
        labels: by finding.
    """
    whole = table.drop(columns=[name for name in ("line", "sheet") if name in table]).reset_index(drop=True)
    whole = whole.astype("str")
    whole["split"] = whole.get("split", "")
    values = np.column_stack([np.empty((len(whole), 0)), *labels.values()])
    unsure = values == -1
    soft = np.full(values.shape, np.nan, np.float32)
    for column, finding in enumerate(labels):
        rows = np.flatnonzero(unsure[:, column])
        soft[rows, column] = soft_labels(whole["image"].iloc[rows], finding)
    known = pd.DataFrame(np.where(unsure, np.nan, values).astype(np.float32), columns=list(labels))
    first = ["image", "patient", "split"]
    ordered = whole[[*first, *(name for name in whole if name not in first)]]
    return Records(pd.concat([ordered, known], axis=1), tuple(labels), soft if unsure.any() else None)


def with_validation(records: Records, share: float, *, flag: str = "--val-share") -> Records:
    """The same, with a share of the training patients as val: whole patients, stratified, always the same.

    Raises:
        ConfigError: the share is not from 0 to below 1.
    """
    if not 0 <= share < 1:
        raise ConfigError(f"{flag} {share}: expected a share of the training patients, 0 to below 1")
    rows = (records.table["split"] == "train").to_numpy()
    if not share or not rows.any():
        return records
    split = records.table["split"].to_numpy(object).copy()
    split[rows] = split_patients(records.take(rows), val=share, test=0).table["split"]
    return replace(records, table=records.table.assign(split=pd.Series(split, dtype="str")))


def _first(
    names: pd.Series, rows: pd.Series, lines: pd.Series, problem: str, sheets: pd.Series | None
) -> list[tuple[int, str]]:
    """The lines and problems of the first of some rows."""
    shown = names[rows].head(SHOWN)
    files = [""] * len(shown) if sheets is None else (sheets[rows].head(SHOWN) + ": ").tolist()
    return [
        (int(line), f"{file}{name} {problem}")
        for line, file, name in zip(lines[rows].head(SHOWN), files, shown, strict=True)
    ]


def _unpacked(path: Path, defects: Defects) -> tuple[NDArray[np.int64], dict[str, list[str]]]:
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.name.removesuffix(".gz")
        try:
            with gzip.open(path) as packed, plain.open("wb") as out:
                shutil.copyfileobj(packed, out)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise RecordsError(f"{path}: is damaged or not whole ({error}); download it again") from None
        try:
            return read_text(plain, defects)
        except RecordsError as error:
            raise RecordsError(str(error).replace(str(plain), str(path))) from None
