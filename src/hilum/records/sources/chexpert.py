"""CheXpert: 224,316 films of 65,240 patients of Stanford, 14 findings mined from reports, some uncertain.

Irvin et al. 2019, https://arxiv.org/abs/1901.07031. Stanford's research use agreement: no commercial use,
no sharing.

Expected below the root, as downloaded (the root is the folder of train.csv or one above it):
CheXpert-v1.0/ or CheXpert-v1.0-small/ with train.csv, valid.csv, train/ and valid/. The columns are Path,
Sex, Age, Frontal/Lateral, AP/PA and the 14 findings; small has the same films, their short side 320 pixels.
A download in folders called "CheXpert-v1.0 batch ..." is read too. Films are found by patient, study and
view, so it does not matter what a Path begins with. (What batches are called is from others' code.)

The test set came later, as a part of CheXlocalize: its folder CheXpert/ with test/ and test_labels.csv (Path
and the 14 findings, a row per film, without sex, age and AP/PA; from others' code). Its labels are also in
https://github.com/rajpurkarlab/cheXpert-test-set-labels: groundtruth.csv (Study, as in
CheXpert-v1.0/test/patient64741/study1, and the 14 findings, a row per exam). Either is read where it lies
beside train.csv or in --test, and becomes the split test.

Labels: 1, 0 and -1 (uncertain) stay, and -1 becomes what --uncertain says later. An empty cell is a finding
that the report does not mention. `multiclass` makes one finding three: U-MultiClass of the paper.

The official split is train, valid and test, each with patients of its own. The 234 films of valid were read
by three radiologists and those of test, 500 exams, by five, so that neither has -1 or an empty cell.
Pitfalls: Sex is Unknown and Age 0 on a few films; AP/PA is LL or RL on some frontal films, whose view is
FRONTAL here, as it is on films of test, whose position is not told; lateral films carry the labels of the
exam.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.config import Config
from hilum.errors import ConfigError, RecordsError
from hilum.find import did_you_mean
from hilum.records.defects import SHOWN, Defects, listed, quote
from hilum.records.sources._chexpert import FINDINGS, labels_of
from hilum.records.sources._more import left_out
from hilum.records.sources._places import by_name, files_below, start_of
from hilum.records.sources._tables import keep, records_of, sexes, sheet, with_films, with_validation
from hilum.records.table import Records


class Settings(Config):
    """Settings of CheXpert."""

    lateral: bool = False
    """Keep lateral films too."""
    blank: Literal["zero", "unknown", "no_finding"] = "zero"
    """What an empty label is: 0, unknown, or 0 on films whose No Finding is 1 and unknown on others."""
    valid: Literal["val", "test"] = "val"
    """The split that the official validation films are: val, or test as in LoVT."""
    test: Path | None = None
    """The folder with test/ and test_labels.csv or groundtruth.csv in it, as CheXlocalize has it; none: what
    lies beside train.csv."""
    val_share: float = 0.0
    """Share of the training patients that become val, beside or in place of the official films."""
    multiclass: list[str] = []
    """Findings whose -1 becomes a class: three columns each, FINDING negative, uncertain and positive."""
    only_present: bool = False
    """Leave rows out whose film is not there, counted, where the default is to stop."""


BATCH = "CheXpert-v1.0 batch "
FILM = r"(?P<patient>patient\d+)/(?P<exam>study\d+)/(?P<name>view\d+_(?P<side>frontal|lateral)\.\w+)$"
DETAILS = ("Sex", "Age", "Frontal/Lateral", "AP/PA")
TEST_SHEETS = ("test_labels.csv", "test.csv", "groundtruth.csv")

log = logging.getLogger(__name__)


def read(
    root: Path,
    *,
    lateral: bool,
    blank: str,
    valid: str,
    test: Path | None,
    val_share: float,
    multiclass: Sequence[str],
    only_present: bool,
) -> Records:
    """The films with the official split; study is patient and exam.

    Raises:
        MissingError: a file is not there.
        ConfigError: `multiclass` names no finding, or `val_share` is no share.
        RecordsError: the files have defects; all of them are in the message.
    """
    for name in multiclass:
        if name not in FINDINGS:
            near = did_you_mean(name, FINDINGS) or f"; there are {listed(FINDINGS)}"
            raise ConfigError(f"--multiclass {name}: there is no such finding{near}")
    base = start_of(root, "train.csv", beside=["valid.csv"])
    sheets = {base / "train.csv": "train", base / "valid.csv": valid}
    tests = base if test is None else start_of(test, *TEST_SHEETS, flag="--test")
    several = [name for name in TEST_SHEETS if (tests / name).is_file()]
    if len(several) > 1:
        raise RecordsError(f"{tests}: {listed(several)} are there; keep one of them")
    sheets |= {tests / name: "test" for name in several}
    defects = Defects(base)
    others = {} if tests == base else files_below(tests / "test")
    there = by_name(_films(base) | others, _ending, defects)
    parts = [_part(path, split, there, defects) for path, split in sheets.items()]
    defects.check()
    table = pd.concat([_described(rows, blank, defects) for rows in parts], ignore_index=True)
    left_out(log, set(there) - set(table["study"] + "/" + table["name"]), "films that no sheet names")
    if not lateral:
        table = keep(table, table["view"] != "LATERAL", "they are lateral; --lateral keeps them")
    named = table["study"] + "/" + table["name"]
    table = with_films(table, named, there, defects, only_present=only_present)
    defects.check()
    labels = {name: table[name].to_numpy(np.float64) for name in FINDINGS}
    about = table.drop(columns=["name", *FINDINGS])
    return with_validation(records_of(about, _with_classes(labels, multiclass)), val_share)


def _films(base: Path) -> dict[str, Path]:
    """The files below the folder of the sheets, or of all batches."""
    if not base.name.startswith(BATCH):
        return files_below(base)
    batches = sorted(path for path in base.parent.iterdir() if path.name.startswith(BATCH))
    return {f"{batch.name}/{name}": file for batch in batches for name, file in files_below(batch).items()}


def _part(path: Path, split: str, there: Mapping[str, Path], defects: Defects) -> pd.DataFrame:
    """A sheet's rows, one per film, with its name and its split."""
    test = path.name in TEST_SHEETS
    per_exam = path.name == "groundtruth.csv"
    needed = ("Study" if per_exam else "Path", *(() if test else DETAILS), *FINDINGS)
    rows = sheet(path, needed, defects)
    if per_exam:
        rows = _per_film(rows, there)
    for name in DETAILS:
        if name not in rows:
            rows[name] = ""
    return rows.assign(sheet=path.name, split=split)


def _per_film(rows: pd.DataFrame, there: Mapping[str, Path]) -> pd.DataFrame:
    """Rows of exams as rows of films; an exam without any keeps one row, of a film that is not there."""
    films = pd.DataFrame({"film": sorted(there)}, dtype="str")
    films["exam"] = films["film"].str.rpartition("/")[0]
    exams = rows["Study"].str.strip().str.rstrip("/").str.split("/").str[-2:].str.join("/")
    whole = rows.assign(exam=exams).merge(films, on="exam", how="left")
    return whole.assign(Path=whole["film"].fillna(whole["Study"] + "/view1_frontal.jpg"))


def _described(rows: pd.DataFrame, blank: str, defects: Defects) -> pd.DataFrame:
    """What is known of the rows of a sheet, and their labels as numbers."""
    file = str(rows["sheet"].iloc[0]) if len(rows) else ""
    parts = rows["Path"].str.replace("\\", "/").str.strip().str.extract(FILM).fillna("")
    bad = parts["patient"] == ""
    expected = "expected .../patient00001/study1/view1_frontal.jpg"
    shown = zip(rows["line"][bad].head(SHOWN), rows["Path"][bad].head(SHOWN), strict=True)
    problems = ((int(line), f"{file}: Path is {quote(cell)}; {expected}") for line, cell in shown)
    defects.add_many("paths", problems, int(bad.sum()))
    told = rows["Frontal/Lateral"].str.strip().str.lower()
    told = told.where(told != "", parts["side"])
    position = rows["AP/PA"].str.strip().str.upper()
    view = position.where(position.isin(["AP", "PA"]), "FRONTAL").where(told != "lateral", "LATERAL")
    about = pd.DataFrame(
        {
            "line": rows["line"],
            "sheet": rows["sheet"],
            "patient": parts["patient"],
            "split": rows["split"],
            "study": parts["patient"] + "/" + parts["exam"],
            "view": view,
            "sex": sexes(rows["Sex"]),
            "age": rows["Age"].str.strip(),
            "name": parts["name"],
        }
    )
    labels = pd.DataFrame(labels_of(rows, blank, defects, file=file), index=about.index)
    return pd.concat([about, labels], axis=1)[~bad]


def _ending(name: str) -> str:
    return "/".join(name.split("/")[-3:])


def _with_classes(
    labels: dict[str, NDArray[np.float64]], findings: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """The labels with some findings as three classes, of which a film with a known label has exactly one."""
    whole: dict[str, NDArray[np.float64]] = {}
    for name, values in labels.items():
        if name not in findings:
            whole[name] = values
            continue
        for word, value in (("negative", 0), ("uncertain", -1), ("positive", 1)):
            whole[f"{name} {word}"] = np.where(np.isnan(values), np.nan, values == value)
    return whole
