"""What a comparison of runs found, as files and as pages."""

from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import JsonValue, TypeAdapter

from hilum.durable import write_atomically
from hilum.report.budget import Budget
from hilum.report.report import LEVEL, Floor

SCHEMA = "hilum.comparison/1"
"""The layout of comparison.json."""

Verdict: TypeAlias = Literal["higher", "lower", "no evidence of a difference", "undefined"]


@dataclass(frozen=True)
class Mean:
    """A metric averaged over seeds; `seeds` holds the value of each of `seed_numbers`.

    `fits` is how many of the seeds gave different predictions: where a seed changes nothing, several are one.
    None where it is undefined (`note` says why). `fraction` says how many labels the runs saw, unless `shots`
    is not 0.
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
    fits: int
    note: str = ""
    shots: int = 0

    @property
    def budget(self) -> Budget:
        """How many labels the runs saw."""
        return Budget(self.fraction, self.shots)


@dataclass(frozen=True)
class Paired:
    """The mean of `init` minus the mean of `baseline`, on the same patients; `baseline` is any other init.

    `p_holm` corrects for all pairs of one metric's mean over findings, or for all pairs of its single
    findings. `p_delong` is of DeLong's test (AUROC of one finding), `p_delong_holm` corrected alike: these
    very models on other patients, where `p` is of other seeds too.
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
    shots: int = 0
    p_delong: float | None = None
    p_delong_holm: float | None = None

    @property
    def budget(self) -> Budget:
        """How many labels the runs saw."""
        return Budget(self.fraction, self.shots)


@dataclass(frozen=True)
class Standing:
    """The place of a run among those with equal labels, by the primary metric and finding.

    Rank 1 is the highest; its interval is that of its rank over the replicates. `apart` says that the best
    is higher beyond doubt: p against it, times the number of others, is below 0.05. With 95 % confidence the
    truly best is one that is not `apart`. `floor` marks pixels and random weights. `parameters` is None
    where the runs do not say them. `fits` is as in `Mean`.
    """

    init: str
    fraction: float
    shots: int
    value: float | None
    low: float | None
    high: float | None
    rank: int | None
    rank_low: int | None
    rank_high: int | None
    among: int
    apart: bool
    floor: bool
    seeds: int
    images: int
    patients: int
    positives: int
    parameters: int | None
    fits: int
    note: str = ""

    @property
    def budget(self) -> Budget:
        """How many labels the runs saw."""
        return Budget(self.fraction, self.shots)


@dataclass(frozen=True)
class Comparison:
    """What a sweep found: means over seeds, differences, and places.

    `primary` is the finding that conclusions are drawn from: "macro", or the only one; `metric` is the
    metric, the first of `metrics`. `primaries` holds that finding for every metric ("all" is the choice among
    exclusive findings). `settings` maps a setting that is not the same in all runs, and always init and fit,
    to its value in each. `shots` belongs to `runs`, one by one.
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
    metrics: tuple[str, ...]
    primaries: dict[str, str]
    against: Literal["baseline", "all"]
    standings: tuple[Standing, ...]
    settings: dict[str, dict[str, JsonValue]]
    shots: tuple[int, ...]

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

    def write_leaderboard(self, path: Path, *, title: str = "hilum leaderboard") -> None:
        """Writes leaderboard.html, complete in itself."""
        from hilum.report.leaderboard import page

        write_atomically(path, page(self, title).encode())
