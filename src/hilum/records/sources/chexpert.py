"""CheXpert: 224,316 films of 65,240 patients of Stanford, 14 findings mined from reports, some uncertain.

Irvin et al. 2019, https://arxiv.org/abs/1901.07031. Stanford's research use agreement: no commercial use,
no sharing.

Expected below the root, as downloaded (the root is the folder of train.csv or the one that holds it):
CheXpert-v1.0/ or CheXpert-v1.0-small/ with train.csv, valid.csv, train/ and valid/. The columns are Path,
Sex, Age, Frontal/Lateral, AP/PA and the 14 findings; small has the same films, their short side 320 pixels.
A download in folders called "CheXpert-v1.0 batch ..." is read too. Films are found by patient, study and
view, so it does not matter what a Path begins with. A test.csv or test_labels.csv beside them becomes the
split test; of it Path and the findings are needed. (The names of batches and of the test sheet are from
others' code and were not seen.)

Labels: 1, 0 and -1 (uncertain) stay, and -1 becomes what --uncertain says later. An empty cell is a finding
that the report does not mention. `multiclass` makes one finding three: U-MultiClass of the paper.

The official split is train and valid; the patients of valid are others, and its 234 films were read by
three radiologists, so that it has no -1 and no empty cell. Pitfalls: Sex is Unknown and Age 0 on a few
films; AP/PA is LL or RL on some frontal films, whose view is FRONTAL here; lateral films carry the labels
of the exam.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.config import Config
from hilum.errors import ConfigError
from hilum.find import did_you_mean
from hilum.records.defects import Defects, listed, quote
from hilum.records.sources._chexpert import FINDINGS, labels_of
from hilum.records.sources._tables import (
    files_below,
    found,
    keep,
    records_of,
    sexes,
    sheet,
    with_films,
    with_validation,
)
from hilum.records.table import Records


class Settings(Config):
    """Settings of CheXpert."""

    lateral: bool = False
    """Keep lateral films too."""
    blank: Literal["zero", "unknown", "no_finding"] = "zero"
    """What an empty label is: 0, unknown, or 0 on films whose No Finding is 1 and unknown on others."""
    valid: Literal["val", "test"] = "val"
    """The split that the official validation films are: val, or test as in LoVT."""
    val_share: float = 0.0
    """Share of the training patients that become val, beside or in place of the official films."""
    multiclass: str = ""
    """A finding whose -1 becomes a class: three columns of 1 and 0, FINDING negative, uncertain, positive."""
    only_present: bool = False
    """Leave rows out whose film is not there, counted, where the default is to stop."""


FOLDERS = ("CheXpert-v1.0-small", "CheXpert-v1.0", "CheXpert-v1.0 batch 1 (validate & csv)", "CheXpert")
FILM = r"(?P<patient>patient\d+)/(?P<exam>study\d+)/(?P<name>view\d+_(?P<side>frontal|lateral)\.\w+)$"
DETAILS = ("Sex", "Age", "Frontal/Lateral", "AP/PA")


def read(
    root: Path,
    *,
    lateral: bool,
    blank: str,
    valid: str,
    val_share: float,
    multiclass: str,
    only_present: bool,
) -> Records:
    """The films with the official split; study is patient and exam.

    Raises:
        MissingError: a file is not there.
        ConfigError: `multiclass` names no finding, or `val_share` is no share.
        RecordsError: the files have defects; all of them are in the message.
    """
    if multiclass and multiclass not in FINDINGS:
        near = did_you_mean(multiclass, FINDINGS) or f"; there are {listed(FINDINGS)}"
        raise ConfigError(f"--multiclass {multiclass}: there is no such finding{near}")
    base = found(root, "train.csv", *(f"{name}/train.csv" for name in FOLDERS)).parent
    defects = Defects(base)
    parts = [_part(base / "train.csv", "train", blank, defects)]
    parts.append(_part(found(base, "valid.csv"), valid, blank, defects))
    for name in ("test.csv", "test_labels.csv"):
        if (base / name).is_file():
            parts.append(_part(base / name, "test", blank, defects))
    table = pd.concat(parts, ignore_index=True)
    batches = base.name.startswith("CheXpert-v1.0 batch")
    there = {_ending(name): path for name, path in files_below(base.parent if batches else base).items()}
    if not lateral:
        table = keep(table, table["view"] != "LATERAL", "they are lateral; --lateral keeps them")
    named = table["study"] + "/" + table["name"]
    table = with_films(table, named, there, defects, only_present=only_present)
    defects.check()
    labels = {name: table[name].to_numpy(np.float64) for name in FINDINGS}
    about = table.drop(columns=["name", *FINDINGS])
    return with_validation(records_of(about, _with_classes(labels, multiclass)), val_share)


def _part(path: Path, split: str, blank: str, defects: Defects) -> pd.DataFrame:
    """A sheet's rows: what is known of them, and their labels as numbers."""
    needed = ("Path", *FINDINGS) if path.name.startswith("test") else ("Path", *DETAILS, *FINDINGS)
    rows = sheet(path, needed, defects)
    for name in DETAILS:
        if name not in rows:
            rows[name] = ""
    parts = rows["Path"].str.replace("\\", "/").str.strip().str.extract(FILM).fillna("")
    bad = parts["patient"] == ""
    expected = "expected .../patient00001/study1/view1_frontal.jpg"
    shown = zip(rows["line"][bad].head(20), rows["Path"][bad].head(20), strict=True)
    problems = ((int(line), f"{path.name}: Path is {quote(cell)}; {expected}") for line, cell in shown)
    defects.add_many("paths", problems, int(bad.sum()))
    told = rows["Frontal/Lateral"].str.strip().str.lower()
    told = told.where(told != "", parts["side"])
    position = rows["AP/PA"].str.strip().str.upper()
    view = position.where(position.isin(["AP", "PA"]), "FRONTAL").where(told != "lateral", "LATERAL")
    about = pd.DataFrame(
        {
            "line": rows["line"],
            "patient": parts["patient"],
            "split": split,
            "study": parts["patient"] + "/" + parts["exam"],
            "view": view,
            "sex": sexes(rows["Sex"]),
            "age": rows["Age"].str.strip(),
            "name": parts["name"],
        }
    )
    labels = pd.DataFrame(labels_of(rows, blank, defects, file=path.name), index=about.index)
    return pd.concat([about, labels], axis=1)


def _ending(name: str) -> str:
    return "/".join(name.split("/")[-3:])


def _with_classes(labels: dict[str, NDArray[np.float64]], finding: str) -> dict[str, NDArray[np.float64]]:
    """The labels with one finding as three classes, of which a film with a known label has exactly one."""
    whole: dict[str, NDArray[np.float64]] = {}
    for name, values in labels.items():
        if name != finding:
            whole[name] = values
            continue
        for word, value in (("negative", 0), ("uncertain", -1), ("positive", 1)):
            whole[f"{name} {word}"] = np.where(np.isnan(values), np.nan, values == value)
    return whole
