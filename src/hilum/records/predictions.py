"""Predictions: one row per radiograph, a probability where Records has a label."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from hilum.errors import MissingError, RecordsError
from hilum.records.cells import split_of
from hilum.records.defects import Defects, quote
from hilum.records.detections import CORNERS
from hilum.records.reading import read_text
from hilum.records.table import Records
from hilum.records.writing import write_csv

_OWN = ("image", "patient", "split")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Radiographs with the probability of each finding, float64 in [0, 1].

    The table has the columns `image`, `patient` and `split` as Records has them, and one column per finding.
    """

    table: pd.DataFrame
    findings: tuple[str, ...]

    @classmethod
    def make(cls, records: Records, findings: Sequence[str], probabilities: Float[np.ndarray, "N F"]) -> Self:
        """The probabilities of these findings, row by row of the records."""
        assert probabilities.shape == (len(records), len(findings)), probabilities.shape
        table = records.table[list(_OWN)].reset_index(drop=True)
        scores = pd.DataFrame(np.asarray(probabilities, np.float64), columns=list(findings))
        return cls(pd.concat([table, scores], axis=1), tuple(findings))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads what `write` wrote; the probabilities are the same to the bit.

        Raises:
            MissingError: there is no such file.
            RecordsError: the file has defects, all of which are in the message, or it holds boxes.
        """
        path = Path(path).expanduser().absolute()
        if not path.is_file():
            raise MissingError(f"{path}: no such file of predictions")
        defects = Defects(path)
        lines, columns = read_text(path, defects)
        if {"score", *CORNERS} <= set(columns):
            raise RecordsError(
                f"{path}: these are a detector's boxes (columns finding, score, x1, y1, x2, y2), not "
                "probabilities of radiographs. `hilum detect` scores boxes itself, in its run's report.html; "
                "the run's predictions.csv, with the score of the surest box of each film, can be given here"
            )
        for name in _OWN:
            if name not in columns:
                defects.add(
                    "columns", f"there is no column {name!r}; expected image, patient, split, then findings"
                )
        findings = tuple(name for name in columns if name not in _OWN)
        if not findings:
            defects.add("columns", "there is no column of probabilities")
        scores = {name: _probabilities(name, columns[name], lines, defects) for name in findings}
        _check_own(columns, lines, defects)
        defects.check()
        texts = {name: pd.Series(columns[name], dtype="str") for name in _OWN}
        return cls(pd.DataFrame({**texts, **scores}), findings)

    def write(self, path: Path) -> None:
        """Writes the table as CSV, every probability with all its digits.

        Raises:
            OutputError: the place cannot be written to.
            StorageError: the disk is full or fails.
        """
        write_csv(self.table, Path(path).expanduser().absolute())

    def where(self, split: str) -> Self:
        """The predictions of one split, in order."""
        rows = self.table["split"].to_numpy() == split
        return type(self)(self.table[rows].reset_index(drop=True), self.findings)

    def of(self, findings: Sequence[str]) -> Self:
        """The predictions of some of the findings."""
        return type(self)(self.table[[*_OWN, *findings]], tuple(findings))

    @property
    def scores(self) -> Float[np.ndarray, "N F"]:
        """The probability of each finding in each radiograph."""
        return np.array(self.table[list(self.findings)], np.float64, order="C")

    @property
    def patients(self) -> NDArray[np.object_]:
        """The patient of every radiograph."""
        return self.table["patient"].to_numpy(object)

    @cached_property
    def sha256(self) -> str:
        """Hash of the table's content, as it would be written."""
        return hashlib.sha256(self.table.to_csv(index=False, lineterminator="\n").encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.table)


def _probabilities(
    name: str, cells: list[str], lines: NDArray[np.int64], defects: Defects
) -> NDArray[np.float64]:
    values = np.array([_number(cell) for cell in cells], np.float64)
    wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
    examples = (
        (int(lines[place]), f"found {quote(cells[place])}; expected a probability from 0 to 1")
        for place in wrong[:20].tolist()
    )
    defects.add_many(f"probabilities of {name!r}", examples, len(wrong), column=name)
    return values


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _check_own(columns: dict[str, list[str]], lines: NDArray[np.int64], defects: Defects) -> None:
    seen: dict[str, int] = {}
    for line, image in zip(lines.tolist(), columns["image"], strict=True) if "image" in columns else ():
        if not image:
            defects.add("rows without image", "the cell is empty", line=line, column="image")
        elif seen.setdefault(image, line) != line:
            problem = f"{quote(image)} is already in line {seen[image]}; keep one of the rows"
            defects.add("repeated images", problem, line=line, column="image")
    for line, split in zip(lines.tolist(), columns["split"], strict=True) if "split" in columns else ():
        if split and split != split_of(split):
            problem = f"found {quote(split)}; expected train, val, test or empty"
            defects.add("cells of split", problem, line=line, column="split")
