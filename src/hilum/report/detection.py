"""What a report of found boxes holds, and its file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from json import dumps
from pathlib import Path
from typing import Self

from pydantic import JsonValue, TypeAdapter

from hilum.durable import write_atomically
from hilum.metrics.bootstrap import Estimate
from hilum.metrics.boxes import Order
from hilum.report.stored import read_stored

DETECTION = "detection.json"
"""What a run of detect holds, and no other."""

SCHEMA = "hilum.detection/1"
"""The layout of detection.json; the number grows when a reader of the old one would be misled."""

FOUND_AT = 0.4
"""Overlap from which a true box counts as found in the tables of sizes and of films."""


@dataclass(frozen=True)
class Scan:
    """The mean RSNA score of validation films by overlap (rows) and threshold (columns)."""

    overlaps: tuple[float, ...]
    thresholds: tuple[float, ...]
    scores: tuple[tuple[float | None, ...], ...]
    films: int
    boxed: int
    """Validation films, and those of them with boxes."""


@dataclass(frozen=True)
class SizeStratum:
    """How many true boxes of some area were found at the threshold, by an overlap of `FOUND_AT`."""

    words: str
    boxes: int
    found: int


@dataclass(frozen=True)
class FilmOutcome:
    """What was found on a film at the threshold: true boxes found and missed, and false ones."""

    image: str
    patient: str
    found: int
    missed: int
    false: int
    score: float | None
    """The film's RSNA score; None: neither a box nor a detection."""


@dataclass(frozen=True)
class FindingReport:
    """The boxes of one finding."""

    finding: str
    threshold: float | None
    overlap: float | None
    note: str
    scan: Scan | None
    estimates: tuple[Estimate, ...]
    sensitivities: tuple[tuple[float, float, float | None, float | None], ...]
    """False detections per film, sensitivity there, and its interval."""
    sizes: tuple[SizeStratum, ...]
    films: tuple[FilmOutcome, ...]
    floors: Mapping[str, tuple[Estimate, ...]]
    """The same metrics of what needs no learning."""

    def estimate(self, metric: str) -> Estimate | None:
        """The estimate of a metric."""
        return next((one for one in self.estimates if one.metric == metric), None)


@dataclass(frozen=True)
class DetectionReport:
    """What an evaluation of found boxes found."""

    findings: tuple[FindingReport, ...]
    films: int
    patients: int
    never_asked: int
    """Test films that were left out, since it is not known of them where the findings are."""
    replicates: int
    order: Order
    notes: tuple[str, ...]
    provenance: dict[str, JsonValue]
    look: dict[str, JsonValue] = field(default_factory=dict)
    """How films were looked at (`hilum.detecting.Look`)."""
    unplaced: int = 0
    """Those of them that are known to show a finding; no box says where."""
    classes: tuple[Estimate, ...] = ()
    """AUROC of each class of whole films, where the detector tells them apart."""

    def to_json(self) -> str:
        """The report as JSON; undefined numbers are null, with the reason beside them."""
        body = _ADAPTER.dump_python(self, mode="json")
        return dumps({"schema": SCHEMA, **body}, indent=1, allow_nan=False) + "\n"

    def write(self, path: Path) -> None:
        """Writes detection.json so that it is never seen half written."""
        write_atomically(path, self.to_json().encode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """The report that `write` wrote.

        Raises:
            MissingError: there is no such file.
            RecordsError: it is no such report, or one of another schema.
        """
        return cls(**read_stored(path, _ADAPTER, schema=SCHEMA, writer="detect"))


_ADAPTER = TypeAdapter(DetectionReport)
