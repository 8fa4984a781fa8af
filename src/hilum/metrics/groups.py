"""What is found of groups of radiographs: their metrics, and how the groups differ."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["undefined", "no evidence of a difference", "higher", "lower", "differ"]


@dataclass(frozen=True)
class GroupScore:
    """A metric of one finding within a group; None where it has too few patients or no threshold (`note`)."""

    metric: str
    finding: str
    group: str
    value: float | None
    low: float | None
    high: float | None
    images: int
    patients: int
    positives: int
    negatives: int
    note: str = ""


@dataclass(frozen=True)
class GroupDifference:
    """A metric in one group minus that in `against`: the other group, or all others together ("the rest")."""

    metric: str
    finding: str
    group: str
    against: str
    value: float
    low: float
    high: float
    p: float
    p_holm: float | None = None
    verdict: Verdict = "undefined"


@dataclass(frozen=True)
class Gap:
    """The metric of the group that has the highest minus that of the one that has the lowest.

    The gap of the sensitivity is that of the true-positive rate, of the specificity that of the
    false-positive rate. It is above 0 by its making; `p` and the interval allow for the choice of the two.
    """

    metric: str
    finding: str
    highest: str
    lowest: str
    value: float
    low: float
    high: float
    p: float
    p_holm: float | None = None
    verdict: Verdict = "undefined"


@dataclass(frozen=True)
class Subgroups:
    """What one column divides the radiographs into, and how each finding is told there.

    `groups` are name, radiographs and patients; `unknown` radiographs are in none of them.
    """

    column: str
    groups: tuple[tuple[str, int, int], ...]
    unknown: int
    scores: tuple[GroupScore, ...]
    differences: tuple[GroupDifference, ...]
    gaps: tuple[Gap, ...]
    note: str = ""
