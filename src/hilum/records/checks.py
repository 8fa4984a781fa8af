"""What is wrong between and within the rows of a table, by line."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.records.cells import box_problem, places_where, split_of
from hilum.records.defects import SHOWN, Defects, listed, quote
from hilum.records.files import meant, missing, probable_root

_NUMBER = {"": 0, "train": 1, "val": 2, "test": 3}


@dataclass(frozen=True)
class Checks:
    """The cells of each part as they were read, and where defects go."""

    parts: Mapping[str, list[str]]
    names: Mapping[str, str]
    """What the file calls each part."""
    lines: NDArray[np.int64]
    defects: Defects

    def cells(self) -> None:
        """Every row has an image and a patient; splits and boxes can be understood."""
        for part in ("image", "patient"):
            cells = self.parts.get(part, [])
            for place in places_where(cells, lambda cell: not cell) if "" in cells else []:
                self._add(f"rows without {part}", part, place, "the cell is empty; fill it")
        splits, boxes = self.parts.get("split", []), self.parts.get("boxes", [])
        for place in places_where(splits, lambda cell: split_of(cell) is None):
            found = f"found {quote(splits[place])}; expected train, val, test or empty"
            self._add("cells of split", "split", place, found)
        for place in places_where(boxes, lambda cell: bool(cell.strip() and box_problem(cell))):
            self._add(
                "cells of boxes", "boxes", place, f"found {quote(boxes[place])}; {box_problem(boxes[place])}"
            )

    def leaks(self) -> None:
        """No patient is in two splits: what is tested on must not have been learnt from."""
        if "split" not in self.parts or "patient" not in self.parts:
            return
        splits = self.parts["split"]
        known = {cell: split_of(cell) or "" for cell in set(splits)}
        split = np.array([_NUMBER[known[cell]] for cell in splits], np.int64)
        patient, names = pd.factorize(np.array(self.parts["patient"], object))
        used = np.flatnonzero((split > 0) & np.append(names != "", False)[patient])
        pairs, first = np.unique(patient[used] * 4 + split[used], return_index=True)
        leaking = np.flatnonzero(np.bincount(pairs // 4, minlength=len(names)) > 1)
        shown = []
        for one in leaking[:SHOWN].tolist():
            rows = used[first[pairs // 4 == one]].tolist()
            where = ", ".join(f"{known[splits[row]]} (line {self.lines[row]})" for row in rows)
            problem = f"patient {quote(names[one])} is in {where}; keep all films of a patient in one split"
            shown.append((int(self.lines[max(rows)]), problem))
        self.defects.add_many("patients in two splits", shown, len(leaking), column=self._name("split"))

    def repeated_images(self, labels: Mapping[str, NDArray[np.float32]]) -> None:
        """No file comes twice; where it does, it is said which labels differ."""
        images = self.parts.get("image", [])
        column = pd.Series(images, dtype=object)
        again = np.flatnonzero((column.duplicated() & (column != "")).to_numpy())
        shown = []
        for place in again[:SHOWN].tolist():
            before = images.index(images[place])
            other = [name for name, one in labels.items() if _differ(one[before], one[place])]
            differs = f" with another label of {listed(other)}" if other else ""
            problem = f"{quote(images[place])} is already in line {self.lines[before]}{differs}; keep one"
            shown.append((int(self.lines[place]), problem))
        self.defects.add_many("repeated images", shown, len(again), column=self._name("image"))

    def missing_files(self, root: Path) -> None:
        """Every image is there; where not, what was probably meant."""
        images = self.parts.get("image", [])
        lost = [place for place in missing(images) if images[place]]
        shown = [
            (int(self.lines[place]), f"{quote(images[place])} is not there{meant(images[place])}")
            for place in lost[:SHOWN]
        ]
        self.defects.add_many("missing files", shown, len(lost), column=self._name("image"))
        if lost and (other := probable_root(images[lost[0]].removeprefix(f"{root}/"), root)):
            self.defects.add("settings", f"image paths seem to start elsewhere; try --root {other}")

    def _add(self, kind: str, part: str, place: int, problem: str) -> None:
        self.defects.add(kind, problem, line=int(self.lines[place]), column=self._name(part))

    def _name(self, part: str) -> str:
        return self.names.get(part, part)


def _differ(one: np.float32, other: np.float32) -> bool:
    return bool(one != other and not (np.isnan(one) and np.isnan(other)))
