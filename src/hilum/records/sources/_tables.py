"""What the sources of whole data sets share: their sheets, their files, and labels with -1 in them."""

import gzip
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from hilum.errors import MissingError
from hilum.records.defects import Defects
from hilum.records.folders import ENDINGS
from hilum.records.reading import read_text
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
    """The files below a folder, by their path from it; walked once, which is faster than asking for each."""
    kept, start = tuple(endings), f"{folder}/"
    return {
        f"{place}/{name}".removeprefix(start): Path(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(kept)
    }


def refuse_absent(images: pd.Series, there: Mapping[str, Path], defects: Defects, lines: pd.Series) -> None:
    """Images of a sheet that no file is there for become defects: the first are named, all are counted."""
    absent = ~images.isin(list(there))
    named = zip(lines[absent].head(20).tolist(), images[absent].head(20).tolist(), strict=True)
    defects.add_many(
        "missing films", ((line, f"{image} is not there") for line, image in named), int(absent.sum())
    )


def numbers(cells: pd.Series, defects: Defects, lines: pd.Series) -> Float[np.ndarray, " N"]:
    """1, 0, -1 or NaN of label cells; what is none of these becomes a defect."""
    values = pd.to_numeric(cells.str.strip(), errors="coerce").to_numpy(np.float64)
    bad = (cells.str.strip() != "").to_numpy() & ~np.isin(values, (-1, 0, 1))
    shown = zip(lines[bad].head(20).tolist(), cells[bad].head(20).tolist(), strict=True)
    defects.add_many(
        f"labels of {cells.name}",
        ((line, f"found {cell!r}; expected 1, 0, -1 or nothing") for line, cell in shown),
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
