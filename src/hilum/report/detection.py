"""Found boxes and records in, a report out: no model, no pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from json import dumps, loads
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Float
from pydantic import JsonValue, TypeAdapter, ValidationError

from hilum.errors import MissingError, RecordsError
from hilum.metrics.bootstrap import Estimate, bootstrap
from hilum.metrics.boxes import Boxes, Order, area, finders
from hilum.metrics.detection import FALSE_ALARMS, mean_score, rsna_scores, sensitivity_at_false_alarms
from hilum.metrics.detection_intervals import estimates, resampled
from hilum.metrics.summary import interval
from hilum.records.boxes import boxes_of
from hilum.records.detections import CORNERS, Detections
from hilum.records.table import Records
from hilum.report.report import LEVEL, as_json
from hilum.run import write_atomically

DETECTION = "detection.json"
"""What a run of detect holds, and no other."""

SCHEMA = "hilum.detection/1"
"""The layout of detection.json; the number grows when a reader of the old one would be misled."""

FOUND_AT = 0.4
"""Overlap from which a true box counts as found in the tables of sizes and of films."""


class FilmClasses(NamedTuple):
    """What a detector makes of whole films."""

    names: tuple[str, ...]
    own: Sequence[str]
    """The class of each film; empty where it is unknown."""
    probabilities: Float[np.ndarray, "N C"]


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
    """Test films that were left out, since nobody looked at them for the finding."""
    replicates: int
    order: Order
    notes: tuple[str, ...]
    provenance: dict[str, JsonValue]
    look: dict[str, JsonValue] = field(default_factory=dict)
    """How films were looked at (`hilum.detecting.Look`)."""
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
        try:
            content = loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise MissingError(f"{path}: no such file; `hilum detect` writes it") from None
        except (ValueError, UnicodeDecodeError) as error:
            raise RecordsError(f"{path}: is no JSON ({error})") from None
        found = content.pop("schema", None) if isinstance(content, dict) else None
        if found != SCHEMA:
            raise RecordsError(f"{path}: its schema is {found!r}, this version of hilum reads {SCHEMA!r}")
        try:
            return cls(**vars(_ADAPTER.validate_python(content)))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise RecordsError(f"{path}: {place}: {first['msg']}; run the command again") from None


_ADAPTER = TypeAdapter(DetectionReport)


def boxes_among(detections: Detections, records: Records, finding: str, *, most: int = 100) -> Boxes:
    """The found and the true boxes of a finding on the films of some records.

    Raises:
        RecordsError: a box was found on a film that the records lack.
    """
    place = {image: number for number, image in enumerate(records.table["image"])}
    table = detections.of(finding).table
    unknown = [image for image in table["image"] if image not in place]
    if unknown:
        raise RecordsError(
            f"{len(unknown):,} detections are on films that the records lack, the first on {unknown[0]!r}"
        )
    true = boxes_of(records, finding)
    return Boxes.of(
        len(records),
        np.array([place[image] for image in table["image"]], np.int64),
        table[list(CORNERS)].to_numpy(np.float64),
        table["score"].to_numpy(np.float64),
        np.repeat(np.arange(len(true)), [len(found) for found in true]),
        np.concatenate([np.empty((0, 4)), *true]),
        most=most,
    )


def evaluate_detections(
    found: Mapping[float, Detections],
    records: Records,
    *,
    findings: Sequence[str],
    thresholds: Sequence[float],
    train: Records,
    replicates: int = 2000,
    seed: int = 0,
    order: Order = "score",
    never_asked: int = 0,
    told: FilmClasses | None = None,
    look: Mapping[str, object] | None = None,
    notes: Sequence[str] = (),
    provenance: Mapping[str, object] | None = None,
) -> DetectionReport:
    """Scores what was found on the test split; thresholds and overlaps come from validation alone.

    Args:
        found: by the overlap of non-maximum suppression, boxes on validation and test films.
        records: those films, all of which were looked at for the findings.
        findings: what boxes are of.
        thresholds: scores that are tried.
        train: the films that were trained on, for the mean box, a floor.
        replicates: of the bootstrap.
        seed: of it.
        order: who chooses, detections or true boxes.
        never_asked: test films that are not among `records`.
        told: what was made of those films as wholes, in their order.
        look: for the report.
        notes: for the report.
        provenance: for the report.

    Raises:
        RecordsError: there is no test film.
    """
    val, test = records.where("val"), records.where("test")
    if not len(test):
        raise RecordsError("no film of the test split was looked at for boxes: there is nothing to score")
    return DetectionReport(
        findings=tuple(
            _finding(found, val, test, finding, thresholds, train, replicates, seed, order)
            for finding in findings
        ),
        films=len(test),
        patients=int(test.table["patient"].nunique()),
        never_asked=never_asked,
        replicates=replicates,
        order=order,
        notes=tuple(notes),
        provenance=as_json(provenance or {}),
        look=as_json(look or {}),
        classes=() if told is None else _classes(told, records, replicates, seed),
    )


def _classes(told: FilmClasses, records: Records, replicates: int, seed: int) -> tuple[Estimate, ...]:
    test = (records.table["split"] == "test").to_numpy()
    own = np.array(told.own, object)[test]
    truth = np.stack([np.where(own == "", np.nan, own == name).astype(np.float64) for name in told.names], 1)
    return tuple(
        bootstrap(
            "auroc",
            truth,
            told.probabilities[test],
            patients=records.where("test").patients,
            findings=list(told.names),
            replicates=replicates,
            seed=seed,
        )
    )


def scan(
    found: Mapping[float, Detections],
    val: Records,
    finding: str,
    thresholds: Sequence[float],
    *,
    order: Order,
) -> Scan:
    """The RSNA score of every overlap and threshold on validation films."""
    rows = []
    boxed = 0
    for detections in found.values():
        boxes = boxes_among(detections.where("val"), val, finding)
        boxed = int((boxes.true > 0).sum())
        scores = rsna_scores(boxes, np.array(thresholds), order=order)
        means = mean_score(scores, np.ones((boxes.films, 1)))[:, 0]
        rows.append(tuple(None if np.isnan(mean) else float(mean) for mean in means))
    return Scan(tuple(found), tuple(thresholds), tuple(rows), len(val), boxed)


def _finding(
    found: Mapping[float, Detections],
    val: Records,
    test: Records,
    finding: str,
    thresholds: Sequence[float],
    train: Records,
    replicates: int,
    seed: int,
    order: Order,
) -> FindingReport:
    scanned = scan(found, val, finding, thresholds, order=order) if len(val) else None
    overlap, threshold, note = _best(scanned)
    used = found[next(iter(found)) if overlap is None else overlap].where("test")
    boxes = boxes_among(used, test, finding)

    def count(one: Boxes, cut: float | None) -> tuple[Estimate, ...]:
        return tuple(
            estimates(
                one,
                patients=test.patients,
                finding=finding,
                threshold=cut,
                replicates=replicates,
                seed=seed,
                order=order,
            )
        )

    return FindingReport(
        finding=finding,
        threshold=threshold,
        overlap=overlap,
        note=note,
        scan=scanned,
        estimates=count(boxes, threshold),
        sensitivities=_sensitivities(boxes, test, replicates=replicates, seed=seed),
        sizes=_sizes(boxes, threshold),
        films=_outcomes(boxes, test, threshold, order),
        floors={name: count(floor, 0.5) for name, floor in _floors(boxes, train, finding).items()},
    )


def _best(scanned: Scan | None) -> tuple[float | None, float | None, str]:
    """The overlap and threshold of the highest validation score; of equals the stricter threshold."""
    if scanned is None:
        return None, None, "there is no validation film to choose a threshold on"
    if not scanned.boxed:
        return None, None, "no validation film has a box, so no threshold can be chosen"
    cells = [
        (score, threshold, overlap)
        for overlap, row in zip(scanned.overlaps, scanned.scores, strict=True)
        for threshold, score in zip(scanned.thresholds, row, strict=True)
        if score is not None
    ]
    _, threshold, overlap = max(cells)
    return overlap, threshold, ""


def _sensitivities(
    boxes: Boxes, test: Records, *, replicates: int, seed: int
) -> tuple[tuple[float, float, float | None, float | None], ...]:
    values = sensitivity_at_false_alarms(boxes, np.ones((boxes.films, 1)))[:, 0]
    if np.isnan(values).any():
        return ()
    drawn = resampled(
        lambda weights: sensitivity_at_false_alarms(boxes, weights).T, test.patients, replicates, seed
    )
    patients = len(set(test.patients))
    edges = [interval(column, patients=patients, level=LEVEL)[:2] for column in drawn.T]
    return tuple(
        (rate, float(value), *edge) for rate, value, edge in zip(FALSE_ALARMS, values, edges, strict=True)
    )


def _sizes(boxes: Boxes, threshold: float | None) -> tuple[SizeStratum, ...]:
    """True boxes by thirds of their area."""
    if threshold is None or len(boxes.true_box) < 3:
        return ()
    (finder,) = finders(boxes, np.array([FOUND_AT]))
    hit = (finder >= 0) & (boxes.score[finder] >= threshold if len(boxes.score) else False)
    areas = area(boxes.true_box)
    low, high = np.quantile(areas, [1 / 3, 2 / 3])
    third = np.digitize(areas, [low, high])
    words = (f"below {low:,.0f} square pixels", f"{low:,.0f} to {high:,.0f}", f"{high:,.0f} and more")
    return tuple(
        SizeStratum(name, int((third == k).sum()), int(hit[third == k].sum())) for k, name in enumerate(words)
    )


def _outcomes(boxes: Boxes, test: Records, threshold: float | None, order: Order) -> tuple[FilmOutcome, ...]:
    if threshold is None:
        return ()
    shown = above(boxes, threshold)
    (finder,) = finders(shown, np.array([FOUND_AT]), order=order)
    hits = np.bincount(shown.true_film[finder >= 0], minlength=boxes.films)
    scores = rsna_scores(boxes, np.array([threshold]), order=order)[:, 0]
    table = test.table
    return tuple(
        FilmOutcome(
            str(image),
            str(patient),
            int(hit),
            int(true - hit),
            int(given - hit),
            None if np.isnan(score) else float(score),
        )
        for image, patient, hit, true, given, score in zip(
            table["image"], table["patient"], hits, boxes.true, shown.detected, scores, strict=True
        )
    )


def above(boxes: Boxes, threshold: float) -> Boxes:
    """The same without the detections below a threshold."""
    kept = boxes.score >= threshold
    return replace(boxes, film=boxes.film[kept], box=boxes.box[kept], score=boxes.score[kept])


def _floors(boxes: Boxes, train: Records, finding: str) -> dict[str, Boxes]:
    """No box on any film, and the mean box of the training films on every film."""
    nothing: Float[np.ndarray, "0 4"] = np.empty((0, 4))
    made = {"no box": replace(boxes, film=np.empty(0, np.int64), box=nothing, score=np.empty(0))}
    true = np.concatenate([nothing, *boxes_of(train, finding)])
    if len(true):
        everywhere = np.tile(true.mean(axis=0), (boxes.films, 1))
        made["the mean box everywhere"] = replace(
            boxes, film=np.arange(boxes.films), box=everywhere, score=np.ones(boxes.films)
        )
    return made
