"""Found boxes and records in, a report out: no model, no pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from hilum.errors import RecordsError
from hilum.metrics.bootstrap import Estimate, bootstrap
from hilum.metrics.boxes import Boxes, Order, area, finders
from hilum.metrics.detection import FALSE_ALARMS, mean_score, rsna_scores, sensitivity_at_false_alarms
from hilum.metrics.detection_intervals import estimates, resampled
from hilum.metrics.summary import interval
from hilum.records.boxes import boxes_of
from hilum.records.detections import CORNERS, Detections
from hilum.records.table import Records
from hilum.report.detection import FOUND_AT, DetectionReport, FilmOutcome, FindingReport, Scan, SizeStratum
from hilum.report.detection_floors import floors
from hilum.report.report import LEVEL, as_json


class FilmClasses(NamedTuple):
    """What a detector makes of whole films."""

    names: tuple[str, ...]
    own: Sequence[str]
    """The class of each film; empty where it is unknown."""
    probabilities: Float[np.ndarray, "N C"]


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
    sizes: Mapping[str, tuple[int, int]] | None = None,
    replicates: int = 2000,
    seed: int = 0,
    order: Order = "score",
    never_asked: int = 0,
    unplaced: int = 0,
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
        sizes: height and width of all films by image, for the mean box; None: they are of one size.
        replicates: of the bootstrap.
        seed: of it.
        order: who chooses, detections or true boxes.
        never_asked: test films that are not among `records`.
        unplaced: those of them that show a finding, and no box says where.
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
            _finding(found, val, test, finding, thresholds, train, sizes, replicates, seed, order)
            for finding in findings
        ),
        films=len(test),
        patients=int(test.table["patient"].nunique()),
        never_asked=never_asked,
        unplaced=unplaced,
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
    sizes: Mapping[str, tuple[int, int]] | None,
    replicates: int,
    seed: int,
    order: Order,
) -> FindingReport:
    scanned = scan(found, val, finding, thresholds, order=order) if len(val) else None
    overlap, threshold, note = _best(scanned)
    used = found[next(iter(found)) if overlap is None else overlap].where("test")
    boxes = boxes_among(used, test, finding)
    lowest = floors(boxes, test, train, finding, sizes)

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
        sizes=_sizes(boxes, threshold, order),
        films=_outcomes(boxes, test, threshold, order),
        floors={name: count(floor, 0.5) for name, floor in lowest.items()},
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


def _sizes(boxes: Boxes, threshold: float | None, order: Order) -> tuple[SizeStratum, ...]:
    """True boxes by thirds of their area."""
    if threshold is None or len(boxes.true_box) < 3:
        return ()
    (finder,) = finders(boxes, np.array([FOUND_AT]), order=order)
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
