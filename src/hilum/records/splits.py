"""Splits by patient: made, written to a file with its hash, and applied from it."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int
from numpy.typing import NDArray

from hilum.errors import ConfigError, RecordsError
from hilum.records.cells import SPLITS, split_of
from hilum.records.defects import SHOWN, Defects, listed, quote
from hilum.records.ranking import ranking
from hilum.records.reading import read_text
from hilum.records.sealing import check_seal, seal
from hilum.records.table import Records, relative
from hilum.records.writing import write_csv


def split_patients(records: Records, *, val: float = 0.1, test: float = 0.2, seed: int = 0) -> Records:
    """The same radiographs with the column `split` filled anew: whole patients, stratified over findings.

    Each of the three splits gets a positive and a negative patient of every finding that has at least three
    of them, where the sizes allow. A split that the table had is replaced.

    Args:
        records: what to split.
        val: fraction of the patients for validation.
        test: fraction of the patients for testing.
        seed: another seed gives another split; the order of rows does not matter.

    Raises:
        ConfigError: the fractions are negative, or leave nothing to train on.
        RecordsError: there are too few patients for the splits asked for.
    """
    if val < 0 or test < 0 or val + test >= 1:
        raise ConfigError(
            f"val {val} and test {test}: expected fractions of at least 0 that sum to less than 1"
        )
    count = len(set(records.patients))
    wanted = 1 + (val > 0) + (test > 0)
    if count < wanted:
        raise RecordsError(
            f"{count} patient{'s' * (count != 1)} cannot fill {wanted} splits; ask for fewer splits"
        )
    split_by_patient: dict[str, str] = {}
    rest = records
    for name, fraction, spare in (("test", test, 2), ("val", val, 1)):
        if fraction:
            ranked = ranking(rest.patients, rest.labels, seed=seed, spare=spare)
            keep = wanted - 1 - (name == "val" and test > 0)
            size = min(max(1, round(fraction * count)), len(ranked) - keep)
            split_by_patient |= dict.fromkeys(ranked[:size].tolist(), name)
            rest = rest.take(~rest.table["patient"].isin(ranked[:size]).to_numpy())
    return _with_split(records, [split_by_patient.get(patient, "train") for patient in records.patients])


def patient_folds(
    patients: NDArray[np.object_], labels: Float32[np.ndarray, "N F"], count: int, *, seed: int = 0
) -> Int[np.ndarray, " N"]:
    """The fold of every radiograph, 0 to `count` - 1: whole patients, stratified over findings.

    Args:
        patients: the patient of each.
        labels: what every fold should have its share of: 1, 0 or NaN.
        count: of folds.
        seed: another seed gives other folds; the order of rows does not matter.

    Raises:
        RecordsError: there are fewer patients than folds.
    """
    ranked = ranking(patients, labels, seed=seed, spare=len(patients))
    if len(ranked) < count:
        raise RecordsError(f"{len(ranked)} patients cannot fill {count} folds; ask for fewer folds")
    folds = {
        patient: fold
        for fold, part in enumerate(
            np.array_split(ranked, count)
        )  # every beginning is stratified: so is each
        for patient in part
    }
    return np.array([folds[patient] for patient in patients], np.int64)


def write_split(records: Records, path: Path) -> str:
    """Writes image, patient and split of every radiograph, and beside it `<path>.sha256`; returns the hash.

    `sha256sum -c` checks the pair, and so does everything here that reads the file. Images below the file's
    folder are written relative to it.

    Raises:
        RecordsError: some radiograph is in no split.
        OutputError: the place cannot be written to.
    """
    path = Path(path).expanduser().absolute()
    unsplit = int((records.table["split"] == "").sum())
    if unsplit:
        raise RecordsError(
            f"{unsplit:,} of {len(records):,} radiographs are in no split; split the patients first"
        )
    table = records.table[["image", "patient", "split"]]
    write_csv(table.assign(image=relative(table["image"], path.parent)), path)
    return seal(path)


def read_split(records: Records, path: Path) -> Records:
    """The same radiographs with the splits that a file gives to their patients; images may have moved.

    Raises:
        MissingError: there is no such file.
        RecordsError: the file is not as it was written, or some patient of the records is not in it.
    """
    path = Path(path).expanduser().absolute()
    defects = Defects(path)
    lines, columns = read_text(path, defects)
    check_seal(path)
    for name in ("patient", "split"):
        if name not in columns:
            defects.add("columns", f"there is no column {name!r}; expected image, patient, split")
    defects.check()
    split_by_patient: dict[str, str] = {}
    for line, patient, cell in zip(lines.tolist(), columns["patient"], columns["split"], strict=True):
        split = split_of(cell)
        if not split:
            problem = f"found {quote(cell)}; expected one of {listed(SPLITS)}"
            defects.add("cells of split", problem, line=line, column="split")
        elif split_by_patient.setdefault(patient, split) != split:
            problem = f"patient {quote(patient)} is in {split} and {split_by_patient[patient]}; keep one"
            defects.add("patients in two splits", problem, line=line, column="split")
    strangers = [patient for patient in dict.fromkeys(records.patients) if patient not in split_by_patient]
    examples = ((0, f"patient {quote(one)} of the records is not in the file") for one in strangers[:SHOWN])
    defects.add_many("patients without a split", examples, len(strangers))
    defects.check()
    return _with_split(records, [split_by_patient[patient] for patient in records.patients])


def _with_split(records: Records, splits: list[str]) -> Records:
    counts = pd.Series(splits, dtype=object).value_counts()
    logging.getLogger(__name__).info(
        "radiographs per split: %s", ", ".join(f"{k} {v}" for k, v in counts.items())
    )
    return replace(records, table=records.table.assign(split=pd.Series(splits, dtype="str")))
