"""Grades of severity, 0 to K, as K findings of which each says "this grade or more".

The coding of Frank and Hall 2001 (A simple approach to ordinal classification, ECML): whatever learns or
scores findings can then learn and score grades. An unknown grade makes all of its findings unknown.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hilum.records.defects import Defects
from hilum.records.labels import UNCERTAIN, UNKNOWN, Codes, Column
from hilum.records.uncertain import Policy

HIGHEST = 10
"""The highest grade there may be; a column with more is a measurement."""
SIGN = "≥"


def cumulative(finding: str, grade: int) -> str:
    """The name of the finding that says "this grade or more".

    >>> cumulative("edema", 2)
    'edema≥2'
    """
    return f"{finding}{SIGN}{grade}"


def severity_groups(findings: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The findings that are grades of one severity, by its name, from 1 up to K.

    >>> severity_groups(["Nodule", "edema≥1", "edema≥2", "mass≥2"])
    {'edema': ('edema≥1', 'edema≥2')}
    """
    groups: dict[str, tuple[str, ...]] = {}
    for finding in findings:
        name, sign, grade = finding.rpartition(SIGN)
        if sign and grade == "1" and name:
            num = next(k for k in range(2, HIGHEST + 2) if cumulative(name, k) not in findings) - 1
            groups[name] = tuple(cumulative(name, k) for k in range(1, num + 1))
    return groups


@dataclass
class Grades(Column):
    """One column of grades, gathered chunk by chunk as one byte per row."""

    code: ClassVar[Codes] = Codes(
        {f"{grade}{zero}": grade for grade in range(HIGHEST + 1) for zero in ("", ".0")}
        | {"": UNKNOWN, "-1": UNCERTAIN, "-1.0": UNCERTAIN}
    )

    def values(self, policy: Policy, defects: Defects) -> dict[str, NDArray[np.float32]]:
        """1, 0 or NaN per row of "grade k or more", for k from 1 to the highest grade of the column.

        An uncertain -1 can become unknown or grade 0; for the other policies it is a defect, as is what is no
        grade.
        """
        self.add_bad(defects, "grades", f"a grade is an integer from 0 to {HIGHEST} or empty (unknown)")
        codes = self.joined()
        if self.uncertain:
            self._judge(policy, defects)
        if policy == "zero":
            codes = np.where(codes == UNCERTAIN, 0, codes)
        known = codes <= HIGHEST
        found = np.unique(codes[known])
        highest = int(found[-1]) if len(found) else 0
        if not highest:
            what = "no grade above 0" if len(found) else "no grade"
            problem = f"--ordinal {self.finding}: the column has {what}; expected grades from 0 to some K"
            defects.add("settings", problem)
        elif len(found) <= highest:
            rare = sorted(set(range(highest + 1)) - set(found.tolist()))
            _log().warning("%s: no radiograph has grade %s", self.finding, ", ".join(map(str, rare)))
        return {
            cumulative(self.finding, k): np.where(known, codes >= k, np.nan).astype(np.float32)
            for k in range(1, highest + 1)
        }

    def _judge(self, policy: Policy, defects: Defects) -> None:
        if policy in ("ignore", "zero"):
            self.log_uncertain({"ignore": "unknown", "zero": "grade 0"}[policy])
        else:
            ways = [f"--uncertain {self.finding}={way}" for way in ("ignore", "zero")]
            self.refuse_uncertain(defects, " or ".join(ways) + f", and not {policy}")


def _log() -> logging.Logger:
    return logging.getLogger(__name__)
