"""What an evaluation found: every number with its interval and its counts, as a file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from json import dumps, loads
from pathlib import Path
from typing import Literal, Self

from pydantic import JsonValue, TypeAdapter

from hilum.durable import write_atomically
from hilum.metrics.bootstrap import Estimate
from hilum.metrics.calibration_intervals import Bin
from hilum.metrics.groups import Subgroups
from hilum.report.stored import read_stored

SCHEMA = "hilum.report/1"
"""The layout of report.json; the number grows when a reader of the old one would be misled."""

LEVEL = 0.95
"""The level of every interval."""


@dataclass(frozen=True)
class Threshold:
    """The probability from which a finding is called present; None where none could be chosen (`note`)."""

    finding: str
    value: float | None
    criterion: str
    note: str = ""


@dataclass(frozen=True)
class Confusion:
    """Counts of radiographs: a row per true label, a column per decision, both in the order of `labels`."""

    finding: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Curve:
    """A curve with its pointwise band; `chance` is the height of a guess (None: the diagonal)."""

    kind: Literal["roc", "precision_recall"]
    finding: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    chance: float | None = None


@dataclass(frozen=True)
class WrongFilm:
    """A radiograph that the model is confidently wrong about.

    `probability` is that of `finding`, or of the decision where findings exclude each other.
    """

    image: str
    patient: str
    finding: str
    truth: str
    decision: str
    probability: float


@dataclass(frozen=True)
class Count:
    """What one split holds of one finding."""

    split: str
    finding: str
    images: int
    patients: int
    positives: int
    negatives: int
    unknown: int


@dataclass(frozen=True)
class Floor:
    """A number to beat: the AUROC of the same recipe without what is claimed (random weights, chance)."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Calibration:
    """Whether the probabilities of a finding can be taken at their word.

    `version` is "as predicted", or the recalibration that they went through. `error` is the expected
    calibration error in bins of equal mass (`error_width`: of equal width), and `null_mean` and `null_high`
    are the mean and the 95th percentile of that of a perfectly calibrated model with these probabilities.
    `estimates` are the Brier score, the slope, and the intercept with the slope held at 1. The finding "all"
    is the choice among exclusive findings. None is undefined (`note` says why).
    """

    finding: str
    version: str
    error: float | None
    error_width: float | None
    null_mean: float | None
    null_high: float | None
    estimates: tuple[Estimate, ...]
    bins: tuple[Bin, ...]
    note: str = ""

    @property
    def evident(self) -> bool:
        """The error is larger than that of 95 % of perfectly calibrated models."""
        return self.error is not None and self.null_high is not None and self.error > self.null_high


@dataclass(frozen=True)
class Recalibration:
    """A correction fitted on the validation split, with its parameters; none where it could not be (`note`).

    The finding "all" is that of a softmax: one correction for all findings.
    """

    finding: str
    method: str
    parameters: dict[str, tuple[float, ...]]
    note: str = ""


@dataclass(frozen=True)
class Report:
    """Metrics with intervals, decisions, curves, failures, counts and provenance of one set of predictions.

    `evaluated` is "test", or "unsplit" when the records name no test split and all of them were scored.
    `excluded` maps a radiograph that could not be scored to the reason. `prevalence` is that of the estimates
    "ppv_at_prevalence" and "npv_at_prevalence". `grades` has a table of grades for every severity, whose
    estimate is "quadratic_kappa".
    """

    findings: tuple[str, ...]
    exclusive: bool
    evaluated: Literal["test", "unsplit"]
    images: int
    patients: int
    replicates: int
    seed: int
    estimates: tuple[Estimate, ...]
    thresholds: tuple[Threshold, ...]
    confusion: tuple[Confusion, ...]
    curves: tuple[Curve, ...]
    worst: tuple[WrongFilm, ...]
    counts: tuple[Count, ...]
    excluded: dict[str, str]
    floors: tuple[Floor, ...]
    notes: tuple[str, ...]
    provenance: dict[str, JsonValue]
    subgroups: tuple[Subgroups, ...] = ()
    prevalence: dict[str, float] = field(default_factory=dict)
    calibration: tuple[Calibration, ...] = ()
    recalibration: tuple[Recalibration, ...] = ()
    grades: tuple[Confusion, ...] = ()

    def estimate(self, metric: str, finding: str) -> Estimate | None:
        """The estimate of one metric for one finding or average ("macro"); None if it was not asked for."""
        return next((e for e in self.estimates if (e.metric, e.finding) == (metric, finding)), None)

    @property
    def headline(self) -> Estimate | None:
        """The one number to quote: the macro AUROC, or the AUROC where there is a single finding."""
        return self.estimate("auroc", "macro") or self.estimate("auroc", self.findings[0])

    def to_json(self) -> str:
        """The report as JSON; undefined numbers are null, with the reason beside them."""
        body = _ADAPTER.dump_python(self, mode="json")
        return dumps({"schema": SCHEMA, "level": LEVEL, **body}, indent=1, allow_nan=False) + "\n"

    def write(self, path: Path) -> None:
        """Writes report.json so that it is never seen half written."""
        write_atomically(path, self.to_json().encode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """The report that `write` wrote.

        Raises:
            MissingError: there is no such file.
            RecordsError: it is no report, or one of another schema.
        """
        return cls(**read_stored(path, _ADAPTER, schema=SCHEMA, writer="evaluate"))


_ADAPTER = TypeAdapter(Report)


def as_json(mapping: Mapping[str, object]) -> dict[str, JsonValue]:
    """The mapping as what JSON can hold; anything else (a path, a date) becomes its text."""
    plain: dict[str, JsonValue] = loads(dumps(mapping, default=str))
    return plain
