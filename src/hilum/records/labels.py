"""Labels from text: 1, 0 or unknown, and what becomes of the uncertain -1."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hilum.records.defects import SHOWN, Defects, quote
from hilum.records.uncertain import HIGH, LOW, Changed, Policy

UNKNOWN, UNCERTAIN, BAD = 253, 254, 255
"""What a cell's byte is, where it is no label or grade."""

_BECOMES = {
    "ignore": "unknown",
    "zero": "0",
    "one": "1",
    "soft": f"soft, {LOW} to {HIGH}, for a loss alone: unknown to logistic regression, splits, thresholds "
    "and scores, and -1 again in a table that is written",
}


class Codes(dict[str, int]):
    """Codes of cells; those with blanks around them are looked up without."""

    def __init__(self, codes: Mapping[str, int]) -> None:
        super().__init__(codes)

    def __missing__(self, cell: str) -> int:
        return self.get(cell.strip(), BAD)


@dataclass
class Column:
    """One column of cells that stand for numbers, gathered chunk by chunk as one byte per row."""

    finding: str
    code: ClassVar[Codes]
    _codes: list[NDArray[np.uint8]] = field(default_factory=list)
    _bad: list[tuple[int, str]] = field(default_factory=list)
    _uncertain: list[tuple[int, str]] = field(default_factory=list)

    def add(self, cells: tuple[str, ...], lines: NDArray[np.int64]) -> None:
        """Takes the next rows."""
        codes = np.frombuffer(bytes(map(self.code.__getitem__, cells)), np.uint8)
        self._codes.append(codes)
        for code, kept in ((BAD, self._bad), (UNCERTAIN, self._uncertain)):
            if len(kept) < SHOWN and (codes == code).any():
                places = np.flatnonzero(codes == code)[: SHOWN - len(kept)].tolist()
                kept.extend((int(lines[place]), cells[place]) for place in places)

    @property
    def uncertain(self) -> int:
        """How many rows are uncertain."""
        return int((self.joined() == UNCERTAIN).sum())

    def changed(self, policy: Policy) -> tuple[Changed, ...]:
        """What a policy changed, if anything."""
        return (Changed(self.finding, policy, self.uncertain),) if self.uncertain else ()

    def uncertain_rows(self) -> NDArray[np.int64]:
        """The places of the rows that are uncertain."""
        return np.flatnonzero(self.joined() == UNCERTAIN)

    def add_bad(self, defects: Defects, what: str, expected: str) -> None:
        """Cells that stand for nothing become defects."""
        defects.add_many(
            f"{what} in column {self.finding!r} that are none",
            ((line, f"found {quote(cell)}; {expected}") for line, cell in self._bad),
            int((self.joined() == BAD).sum()),
            column=self.finding,
        )

    def refuse_uncertain(self, defects: Defects, ways: str) -> None:
        """The uncertain rows become a defect."""
        count, lines = self.uncertain, [line for line, _ in self._uncertain[:5]]
        rest = f" and {count - len(lines):,} more" if count > len(lines) else ""
        where = f"line{'s' * (count > 1)} {', '.join(map(str, lines))}{rest}"
        defects.add(
            "uncertain labels",
            f"found '-1' (uncertain) in {where}; choose what it becomes with {ways}",
            line=lines[0],
            column=self.finding,
        )

    def log_uncertain(self, becomes: str) -> None:
        """Says how many rows were uncertain, and what they are now."""
        _log().info("%s: %d labels of -1 (uncertain) are now %s", self.finding, self.uncertain, becomes)

    def joined(self) -> NDArray[np.uint8]:
        """The code of every row."""
        if len(self._codes) != 1:
            self._codes = [np.concatenate(self._codes)] if self._codes else [np.empty(0, np.uint8)]
        return self._codes[0]


@dataclass
class Labels(Column):
    """One column of labels."""

    code: ClassVar[Codes] = Codes(
        {"0": 0, "0.0": 0, "1": 1, "1.0": 1, "": UNKNOWN, "-1": UNCERTAIN, "-1.0": UNCERTAIN}
    )

    def looks_like_finding(self) -> bool:
        """Whether some label is 1 or 0, and most cells that are not empty are labels.

        One wrong value among a thousand labels is a defect to name, and no reason to pass over the finding.
        """
        counts = np.bincount(self.joined(), minlength=256)
        labels = int(counts[0] + counts[1])
        return bool(labels > 0 and labels + counts[UNCERTAIN] > counts[BAD])

    def values(self, policy: Policy, defects: Defects, *, guessed: bool) -> NDArray[np.float32]:
        """1, 0 or NaN per row, with the policy for -1; what is no label becomes a defect.

        A soft label is NaN here. `guessed` says that nobody named this column as a finding.
        """
        way_out = "; or name the findings with --findings, without this column" if guessed else ""
        if all(cell.strip().isdecimal() and len(cell.strip()) == 1 for _, cell in self._bad):
            way_out = f", and a grade of severity needs --ordinal {self.finding}{way_out}"
        self.add_bad(defects, "labels", f"a label is 1, 0 or empty (unknown){way_out}")
        if self.uncertain and policy == "refuse":
            ways = f"--uncertain ignore, zero, one or soft; of this finding alone: {self.finding}=zero"
            self.refuse_uncertain(defects, ways)
        elif self.uncertain:
            self.log_uncertain(_BECOMES[policy])
        values = np.full(256, np.nan, np.float32)
        values[:2] = 0, 1
        values[UNCERTAIN] = {"zero": 0, "one": 1}.get(policy, np.nan)
        return values[self.joined()]


def _log() -> logging.Logger:
    return logging.getLogger(__name__)
