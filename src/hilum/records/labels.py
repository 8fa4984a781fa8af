"""Labels from text: 1, 0 or unknown, and what becomes of the uncertain -1."""

import logging
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hilum.records.defects import SHOWN, Defects, quote

Uncertain = Literal["refuse", "ignore", "zero", "one"]

UNKNOWN, UNCERTAIN, BAD = 2, 3, 4
_CODES = {"0": 0, "0.0": 0, "1": 1, "1.0": 1, "": UNKNOWN, "-1": UNCERTAIN, "-1.0": UNCERTAIN}


_BECOMES = {"ignore": "unknown", "zero": "0", "one": "1"}
_VALUES = {
    policy: np.array([0, 1, np.nan, uncertain, np.nan], np.float32)
    for policy, uncertain in {"refuse": np.nan, "ignore": np.nan, "zero": 0, "one": 1}.items()
}
"""What each code becomes."""


class _Codes(dict[str, int]):
    """Codes of cells; those with blanks around them are looked up without."""

    def __missing__(self, cell: str) -> int:
        return _CODES.get(cell.strip(), BAD)


_CODE = _Codes(_CODES)


@dataclass
class Labels:
    """One column of labels, gathered chunk by chunk as one byte per row."""

    finding: str
    _codes: list[NDArray[np.uint8]] = field(default_factory=list)
    _bad: list[tuple[int, str]] = field(default_factory=list)
    _uncertain: list[tuple[int, str]] = field(default_factory=list)

    def add(self, cells: tuple[str, ...], lines: NDArray[np.int64]) -> None:
        """Takes the next rows."""
        codes = np.frombuffer(bytes(map(_CODE.__getitem__, cells)), np.uint8)
        self._codes.append(codes)
        for code, kept in ((BAD, self._bad), (UNCERTAIN, self._uncertain)):
            if len(kept) < SHOWN and (codes == code).any():
                places = np.flatnonzero(codes == code)[: SHOWN - len(kept)].tolist()
                kept.extend((int(lines[place]), cells[place]) for place in places)

    def counts(self) -> NDArray[np.int64]:
        """How many rows are 0, 1, unknown, uncertain, and none of these."""
        return np.bincount(self._joined(), minlength=5)

    def looks_like_finding(self) -> bool:
        """Whether some label is 1 or 0, and most cells that are not empty are labels.

        One wrong value among a thousand labels is a defect to name, and no reason to pass over the finding.
        """
        zeros, ones, _, uncertain, bad = self.counts().tolist()
        return bool(zeros + ones > 0 and zeros + ones + uncertain > bad)

    def values(self, uncertain: Uncertain, defects: Defects, *, guessed: bool) -> NDArray[np.float32]:
        """1, 0 or NaN per row, with the policy for -1; what is no label becomes a defect.

        `guessed` says that nobody named this column as a finding.
        """
        *_, unsure, bad = self.counts().tolist()
        way_out = "; or name the findings with --findings, without this column" if guessed else ""
        defects.add_many(
            f"labels in column {self.finding!r} that are not 1, 0 or empty",
            (
                (line, f"found {quote(cell)}; a label is 1, 0 or empty (unknown){way_out}")
                for line, cell in self._bad
            ),
            bad,
            column=self.finding,
        )
        if unsure and uncertain == "refuse":
            self._refuse(unsure, defects)
        elif unsure:
            _log().info(
                "%s: %d labels of -1 (uncertain) are now %s", self.finding, unsure, _BECOMES[uncertain]
            )
        return _VALUES[uncertain][self._joined()]

    def _refuse(self, count: int, defects: Defects) -> None:
        lines = [line for line, _ in self._uncertain[:5]]
        rest = f" and {count - len(lines):,} more" if count > len(lines) else ""
        where = f"line{'s' * (count > 1)} {', '.join(map(str, lines))}{rest}"
        defects.add(
            "uncertain labels",
            f"found '-1' (uncertain) in {where}; choose what it becomes with --uncertain ignore, zero or one",
            line=lines[0],
            column=self.finding,
        )

    def _joined(self) -> NDArray[np.uint8]:
        if len(self._codes) != 1:
            self._codes = [np.concatenate(self._codes)] if self._codes else [np.empty(0, np.uint8)]
        return self._codes[0]


def _log() -> logging.Logger:
    return logging.getLogger(__name__)
