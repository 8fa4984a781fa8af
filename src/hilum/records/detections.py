"""Boxes that were found on radiographs: one row per box."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from hilum.errors import MissingError, RecordsError
from hilum.records.defects import Defects, quote
from hilum.records.reading import read_text
from hilum.records.table import Records
from hilum.records.writing import write_csv

CORNERS = ("x1", "y1", "x2", "y2")
_TEXTS = ("image", "patient", "split", "finding")


@dataclass(frozen=True, eq=False)
class Detections:
    """Found boxes, those of a radiograph together and its surest first.

    The table has the columns `image`, `patient`, `split`, `finding`, `score` (0 to 1) and `x1`, `y1`, `x2`,
    `y2` in pixels of the image's own file. A radiograph without boxes has no row: which were looked at is in
    the Predictions beside it.
    """

    table: pd.DataFrame

    @classmethod
    def make(
        cls,
        records: Records,
        findings: Sequence[str],
        rows: Int[np.ndarray, " D"],
        labels: Int[np.ndarray, " D"],
        scores: Float[np.ndarray, " D"],
        boxes: Float[np.ndarray, "D 4"],
    ) -> Self:
        """Boxes of rows of the records, each of the finding with that number."""
        order = np.lexsort((-scores, rows))
        table = records.table[["image", "patient", "split"]].iloc[rows[order]].reset_index(drop=True)
        table["finding"] = pd.Series(np.array(findings, object)[labels[order]], dtype="str")
        table["score"] = scores[order].astype(np.float64)
        table[list(CORNERS)] = boxes[order].astype(np.float64)
        return cls(table)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads what `write` wrote; the numbers are the same to the bit.

        Raises:
            MissingError: there is no such file.
            RecordsError: the file has defects; all of them are in the message.
        """
        path = Path(path).expanduser().absolute()
        if not path.is_file():
            raise MissingError(f"{path}: no such file of detections")
        defects = Defects(path)
        lines, columns = read_text(path, defects)
        wanted = (*_TEXTS, "score", *CORNERS)
        for name in wanted:
            if name not in columns:
                defects.add("columns", f"there is no column {name!r}; expected {', '.join(wanted)}")
        defects.check()
        numbers = {
            name: pd.to_numeric(pd.Series(columns[name]), errors="coerce").astype(np.float64)
            for name in wanted[4:]
        }
        for name, values in numbers.items():
            for place in np.flatnonzero(~np.isfinite(values.to_numpy(np.float64))).tolist():
                problem = f"found {quote(columns[name][place])}; expected a number"
                defects.add("numbers", problem, line=int(lines[place]), column=name)
        defects.check()
        _check(pd.DataFrame(numbers), lines.tolist(), defects)
        defects.check()
        texts = {name: pd.Series(columns[name], dtype="str") for name in _TEXTS}
        return cls(pd.DataFrame({**texts, **numbers}))

    def write(self, path: Path) -> None:
        """Writes the table as CSV, every number with all its digits.

        Raises:
            OutputError: the place cannot be written to.
            StorageError: the disk is full or fails.
        """
        write_csv(self.table, Path(path).expanduser().absolute())

    def where(self, split: str) -> Self:
        """The boxes of one split."""
        return type(self)(self.table[self.table["split"] == split].reset_index(drop=True))

    def scaled(self, factors: Mapping[str, float]) -> Self:
        """With every score multiplied by the factor of its image."""
        score = self.table["score"] * self.table["image"].map(factors)
        table = self.table.assign(score=score.astype(np.float64))
        return type(self)(table)

    def near_surest(self, share: float) -> Self:
        """The boxes with at least this share of the highest score of their finding on their film."""
        best = self.table.groupby(["image", "finding"])["score"].transform("max")
        return type(self)(self.table[self.table["score"] >= share * best].reset_index(drop=True))

    def above(self, threshold: float) -> Self:
        """The boxes with at least this score."""
        return type(self)(self.table[self.table["score"] >= threshold].reset_index(drop=True))

    def of(self, finding: str) -> Self:
        """The boxes of one finding."""
        return type(self)(self.table[self.table["finding"] == finding].reset_index(drop=True))

    def __len__(self) -> int:
        return len(self.table)


def joined(parts: Sequence[Detections]) -> Detections:
    """The boxes of several sets of radiographs in one table."""
    return Detections(pd.concat([part.table for part in parts], ignore_index=True))


def side_by_side(parts: Sequence[Detections], images: Sequence[str]) -> Detections:
    """The boxes of several findings on the same radiographs, in the order of these, the surest first."""
    both = joined(parts).table
    place = pd.Index(images).get_indexer(pd.Index(both["image"]))
    order = np.lexsort((-both["score"].to_numpy(), place))
    return Detections(both.iloc[order].reset_index(drop=True))


def rsna_submission(detections: Detections, sizes: Mapping[str, tuple[int, int]]) -> pd.DataFrame:
    """The RSNA challenge's table: for every image its boxes as `score x y width height`, one after another.

    Args:
        detections: the boxes to hand in.
        sizes: height and width of every image that was looked at; boxes are taken to 1024 pixels.

    Raises:
        RecordsError: two images would be one patientId, their file's name.
    """
    stems = pd.Series([Path(image).stem for image in sizes], dtype="str")
    if (twice := stems.duplicated()).any():
        raise RecordsError(
            f"{twice.sum()} images have the name of another, as {stems[twice].iloc[0]!r}; the challenge's "
            "table knows an image by its file's name: give those of one folder at a time"
        )
    told: dict[str, list[str]] = {image: [] for image in sizes}
    numbers = detections.table[["score", *CORNERS]].to_numpy(np.float64)
    for image, (score, x1, y1, x2, y2) in zip(detections.table["image"], numbers.tolist(), strict=True):
        height, width = sizes[image]
        across, down = 1024 / width, 1024 / height
        sides = (x1 * across, y1 * down, (x2 - x1) * across, (y2 - y1) * down)
        told[image].append(" ".join([f"{score:.3f}", *(f"{side:.1f}" for side in sides)]))
    names = [Path(image).stem for image in told]
    return pd.DataFrame(
        {"patientId": names, "PredictionString": [" ".join(parts) for parts in told.values()]}
    )


def _check(numbers: pd.DataFrame, lines: list[int], defects: Defects) -> None:
    wrong = {
        "scores": (~numbers["score"].between(0, 1), "a score is from 0 to 1"),
        "boxes": (
            (numbers["x2"] <= numbers["x1"]) | (numbers["y2"] <= numbers["y1"]),
            "x2 is to the right of x1, and y2 below y1: are these widths and heights?",
        ),
    }
    for kind, (bad, expected) in wrong.items():
        for place in np.flatnonzero(bad.to_numpy()).tolist():
            found = ", ".join(f"{name} {numbers[name].iloc[place]:g}" for name in numbers)
            defects.add(kind, f"found {found}; {expected}", line=lines[place])
