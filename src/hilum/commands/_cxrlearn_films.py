"""The CSVs of cxrlearn in one table, with one split by patient."""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from hilum.errors import ConfigError, RecordsError
from hilum.records.defects import Defects
from hilum.records.reading import read_text
from hilum.records.splits import split_patients
from hilum.records.table import Records

if TYPE_CHECKING:
    from hilum.commands.cxrlearn import Settings


def joined_films(config: "Settings") -> tuple[pd.DataFrame, bool]:
    """The films of all CSVs in one table, and whether their classes exclude each other.

    Raises:
        ConfigError: there are not as many findings, or classes, as the settings say.
        RecordsError: a file lacks a column, or a patient is in two of them.
    """
    wanted = [config.path_column, *config.class_columns, *filter(None, [config.patient_column])]
    parts = []
    for split, path in (("train", config.train_csv), ("val", config.val_csv), ("test", config.test_csv)):
        if path is None:
            continue
        defects = Defects(path)
        _, columns = read_text(path, defects)
        for name in wanted:
            if name not in columns:
                defects.add("columns", f"there is no column {name!r}; columns are {', '.join(columns)}")
        defects.check()
        films = pd.Series(columns[config.path_column], dtype="str")
        beside = not len(films) or (path.parent / films[0]).exists() or not Path(films[0]).exists()
        root = path.parent if beside else Path()
        part = pd.DataFrame({"image": [str((root / film).absolute()) for film in films]})
        part["patient"] = columns[config.patient_column] if config.patient_column else part["image"]
        part["split"] = split
        parts.append(part.assign(**{name: columns[name] for name in config.class_columns}))
    table = pd.concat(parts, ignore_index=True)
    overlap = table.groupby("patient")["split"].nunique()
    if (overlap > 1).any():
        raise RecordsError(
            f"{(overlap > 1).sum()} patients (or films) are in more than one CSV, as {overlap.idxmax()!r}; "
            "cxrlearn did not notice. Remove them from all but one"
        )
    if config.val_csv is None:
        train = table["split"] == "train"
        bare = Records(table.loc[train, ["image", "patient", "split"]].reset_index(drop=True), ())
        drawn = split_patients(bare, val=1 / 7, test=0).table
        table.loc[train, "split"] = drawn["split"].to_numpy()
    if len(config.class_columns) > 1 or config.num_classes == 1:
        if len(config.class_columns) != config.num_classes:
            raise ConfigError(
                f"--num_classes {config.num_classes}, but {len(config.class_columns)} --class_columns"
            )
        return table, False
    return _one_hot(table, config.class_columns[0], config.num_classes), True


def _one_hot(table: pd.DataFrame, name: str, num_classes: int) -> pd.DataFrame:
    """One column for each class in the place of theirs; all are empty where the class is."""
    classes = sorted(set(table[name]) - {""}, key=_order)
    if len(classes) != num_classes:
        raise ConfigError(
            f"--num_classes {num_classes}, but {name} has {len(classes)} classes: {classes[:8]}"
        )
    known = table[name] != ""
    for one in classes:
        table[f"{name} {one}"] = (table[name] == one).astype(int).astype(str).where(known, "")
    return table.drop(columns=name)


def _order(written: str) -> tuple[bool, float, str]:
    """Numbers by their value, then words."""
    try:
        return False, float(written), written
    except ValueError:
        return True, 0.0, written
