"""What the sources of whole data sets share: their sheets, their files, and labels with -1 in them."""

import gzip
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from hilum.errors import ConfigError, MissingError
from hilum.records.defects import Defects, listed
from hilum.records.folders import ENDINGS
from hilum.records.reading import read_text
from hilum.records.splits import split_patients
from hilum.records.table import Records
from hilum.records.uncertain import soft_labels


def found(root: Path, *names: str) -> Path:
    """The first of some paths below the root that is there.

    Raises:
        MissingError: none is; the message names all of them.
    """
    for name in names:
        if (root / name).exists():
            return root / name
    raise MissingError(f"{root}: expected {' or '.join(names)} in it; the root is the folder as downloaded")


def sheet(path: Path, wanted: Sequence[str], defects: Defects) -> pd.DataFrame:
    """A .csv or .csv.gz, every cell as text, and the line of each row as `line`.

    A column of `wanted` that is not there becomes a defect, and is empty.

    Raises:
        MissingError: there is no such file.
        RecordsError: it is no table.
    """
    if path.suffix == ".gz":
        if not path.is_file():
            raise MissingError(f"{path}: no such file")
        with tempfile.TemporaryDirectory() as folder:
            unpacked = Path(folder) / path.stem
            with gzip.open(path) as packed, unpacked.open("wb") as out:
                shutil.copyfileobj(packed, out)
            lines, columns = read_text(unpacked, defects)
    else:
        lines, columns = read_text(path, defects)
    table = pd.DataFrame({name: pd.Series(cells, dtype="str") for name, cells in columns.items()})
    for name in wanted:
        if name not in columns:
            defects.add("columns", f"{path.name} has no column {name!r}")
            table[name] = ""
    return table.assign(line=lines)


def files_below(folder: Path, endings: Iterable[str] = ENDINGS) -> dict[str, Path]:
    """The files below a folder, by their path from it; walked once, which is faster than asking for each.

    What is hidden, or in the folder __MACOSX that archives made on a Mac have, is no file of the data set.
    """
    kept, found = tuple(endings), {}
    real = os.path.realpath(folder)
    folders, linked = [("", str(folder))], set[str]()
    while folders:
        start, place = folders.pop()
        if not os.path.isdir(place):
            continue
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    continue
                if entry.is_dir():
                    if entry.is_symlink():
                        target = os.path.realpath(entry.path)
                        if target in linked or os.path.commonpath([target, real]) in (target, real):
                            continue  # it is walked anyway, or would be walked for ever
                        linked.add(target)
                    folders.append((f"{start}{entry.name}/", entry.path))
                elif entry.name.lower().endswith(kept):
                    found[f"{start}{entry.name}"] = Path(entry.path)
    return found


def refuse_absent(images: pd.Series, there: Mapping[str, Path], defects: Defects, lines: pd.Series) -> None:
    """Images of a sheet that no file is there for become defects: the first are named, all are counted."""
    absent = ~images.isin(list(there))
    named = zip(lines[absent].head(20).tolist(), images[absent].head(20).tolist(), strict=True)
    defects.add_many(
        "missing films", ((line, f"{image} is not there") for line, image in named), int(absent.sum())
    )


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
    row is left out, counted and logged.
    """
    again = names.duplicated()
    shown = zip(table["line"][again].head(20).tolist(), names[again].head(20).tolist(), strict=True)
    defects.add_many(
        "films listed twice",
        ((line, f"{name} is in an earlier row too") for line, name in shown),
        int(again.sum()),
    )
    if only_present:
        table = keep(table, names.isin(list(there)), "their files are not there")
        names = names.loc[table.index]
    else:
        refuse_absent(names, there, defects, table["line"])
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
    whole = table.drop(columns=[name for name in ("line",) if name in table]).reset_index(drop=True)
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


def with_validation(records: Records, share: float) -> Records:
    """The same, with a share of the training patients as val: whole patients, stratified, always the same.

    Raises:
        ConfigError: the share is not from 0 to below 1.
    """
    if not 0 <= share < 1:
        raise ConfigError(f"--val-share {share}: expected a share of the training patients, 0 to below 1")
    rows = (records.table["split"] == "train").to_numpy()
    if not share or not rows.any():
        return records
    split = records.table["split"].to_numpy(object).copy()
    split[rows] = split_patients(records.take(rows), val=share, test=0).table["split"]
    return replace(records, table=records.table.assign(split=pd.Series(split, dtype="str")))
