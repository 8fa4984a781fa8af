"""What a comparison of runs found, as a file and as a page."""

from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import JsonValue, TypeAdapter

from hilum.report.report import LEVEL, Floor
from hilum.run import write_atomically

SCHEMA = "hilum.comparison/1"
"""The layout of comparison.json."""

Verdict: TypeAlias = Literal["higher", "lower", "no evidence of a difference", "undefined"]


@dataclass(frozen=True)
class Mean:
    """A metric averaged over seeds; `seeds` holds the value of each of `seed_numbers`.

    None where it is undefined (`note` says why).
    """

    init: str
    fraction: float
    metric: str
    finding: str
    value: float | None
    low: float | None
    high: float | None
    seeds: tuple[float | None, ...]
    seed_numbers: tuple[int, ...]
    images: int
    patients: int
    positives: int
    note: str = ""


@dataclass(frozen=True)
class Paired:
    """The mean of `init` minus the mean of the baseline, on the same patients.

    `p_holm` corrects for all pairs of the mean over findings, or for all pairs of single findings.
    """

    init: str
    baseline: str
    fraction: float
    metric: str
    finding: str
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    images: int
    patients: int
    positives: int
    verdict: Verdict
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """What a sweep found: means over seeds, and differences from the baseline.

    `primary` is the finding that conclusions are drawn from: "macro", or the only one.
    """

    metric: str
    findings: tuple[str, ...]
    primary: str
    baseline: str
    images: int
    patients: int
    replicates: int
    seed: int
    means: tuple[Mean, ...]
    differences: tuple[Paired, ...]
    floors: tuple[Floor, ...]
    notes: tuple[str, ...]
    runs: tuple[tuple[str, float, int, str], ...]
    provenance: dict[str, JsonValue]

    def to_json(self) -> str:
        """The comparison as JSON; undefined numbers are null, with the reason beside them."""
        body = TypeAdapter(Comparison).dump_python(self, mode="json")
        return dumps({"schema": SCHEMA, "level": LEVEL, **body}, indent=1, allow_nan=False) + "\n"

    def write(self, path: Path) -> None:
        """Writes comparison.json."""
        write_atomically(path, self.to_json().encode())

    def write_page(self, path: Path, *, title: str = "hilum comparison") -> None:
        """Writes compare.html, complete in itself."""
        from hilum.report.compare_page import page  # it draws, which takes half a second to import

        write_atomically(path, page(self, title).encode())
