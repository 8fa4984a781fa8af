"""Several detectors on the same films, by the means, intervals and corrections of any other comparison."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from hilum.errors import ConfigError, RecordsError
from hilum.metrics.boxes import Boxes
from hilum.metrics.detection import Weights
from hilum.metrics.detection_intervals import METRICS, Values, resampled, values_of
from hilum.records.boxes import asked
from hilum.records.detections import CORNERS, Detections
from hilum.records.table import Records
from hilum.report.cells import Cell, Groups, grouped
from hilum.report.compare import concluded
from hilum.report.comparison import Comparison
from hilum.report.detection import DetectionReport, FindingReport
from hilum.report.detection_evaluate import boxes_among
from hilum.report.measure import distinct
from hilum.report.pairs import Against
from hilum.report.replicates import Group, Measured, Place, Replicates

COMPARED = tuple(metric for metric in METRICS if metric != "film_auroc")
"""What detectors are compared by."""


class Detected(NamedTuple):
    """What a run of detect left."""

    detections: Detections
    report: DetectionReport


def compare_detectors(
    cells: Sequence[Cell],
    detected: Mapping[int, Detected],
    records: Records,
    *,
    baseline: str,
    against: Against = "baseline",
    metrics: Sequence[str] = ("rsna_score", "box_precision"),
    replicates: int = 2000,
    seed: int = 0,
) -> Comparison:
    """As `hilum.report.compare.compare`, of found boxes; `detected` holds those of each cell by its id.

    Raises:
        ConfigError: a metric is not known, or `compare`'s own.
        RecordsError: the runs were not scored on the same films, or look for different findings.
    """
    unknown = [metric for metric in metrics if metric not in COMPARED]
    if unknown or not metrics:
        raise ConfigError(
            f"no metric of detectors is called {(*unknown, '')[0]!r}; there are {', '.join(COMPARED)}"
        )
    groups = grouped(cells, baseline)
    films, findings = _common(cells, detected, records)
    boxes = {
        (id(cell), finding): boxes_among(detected[id(cell)].detections.where("test"), films, finding)
        for cell in cells
        for finding in findings
    }
    found = {
        metric: _measured(metric, groups, detected, boxes, films, findings, replicates, seed)
        for metric in dict.fromkeys(metrics)
    }
    return concluded(
        found,
        cells,
        groups,
        None,
        findings=findings,
        images=len(films),
        patients=len(set(films.patients)),
        baseline=baseline,
        against=against,
        replicates=replicates,
        seed=seed,
    )


def _common(
    cells: Sequence[Cell], detected: Mapping[int, Detected], records: Records
) -> tuple[Records, tuple[str, ...]]:
    """The films that all were scored on, with their true boxes, and the findings."""
    tested = [set(c.predictions.where("test").table["image"]) for c in cells]
    named = [tuple(one.finding for one in detected[id(cell)].report.findings) for cell in cells]
    for cell, images, findings in zip(cells, tested, named, strict=True):
        if images != tested[0]:
            raise RecordsError(
                f"{cell.run} was tested on {len(images):,} films, {cells[0].run} on {len(tested[0]):,}, and "
                f"{len(images & tested[0]):,} are the same; compare runs of one split"
            )
        if findings != named[0]:
            raise RecordsError(
                f"{cell.run} looks for {', '.join(findings)}, {cells[0].run} for {', '.join(named[0])}"
            )
    films = records.take(records.table["image"].isin(tested[0]).to_numpy())
    if len(films) != len(tested[0]) or not asked(films, named[0]).all():
        raise RecordsError(
            "the table has other films or boxes than when the runs were scored; give the table that they had"
        )
    return films, named[0]


def _measured(
    metric: str,
    groups: Groups,
    detected: Mapping[int, Detected],
    boxes: Mapping[tuple[int, str], Boxes],
    films: Records,
    findings: Sequence[str],
    replicates: int,
    seed: int,
) -> Measured:
    """The metric of every cell and finding, then their mean where there are several."""
    once = np.ones((len(films), 1))
    made: dict[Group, Replicates] = {}
    for group, members in groups.items():
        points, drawn = [], []
        for cell in members:
            of_cell = []
            for finding in findings:
                threshold = _report_of(detected[id(cell)], finding).threshold
                values = values_of(
                    boxes[id(cell), finding], threshold=threshold, order=detected[id(cell)].report.order
                )
                of_cell.append(values[metric])
            points.append([float(values(once)[0]) for values in of_cell])
            drawn.append(resampled(_side_by_side(of_cell), films.patients, replicates, seed))
        made[group] = _with_mean(np.array(points), np.stack(drawn))
    patients = len(set(films.patients))
    places = []
    for column, finding in enumerate(findings):
        one = next(b for (_, name), b in boxes.items() if name == finding)
        positives = int((one.true > 0).sum())
        places.append(
            Place(finding, column, len(films), patients, positives, "no threshold, or no film has a box")
        )
    if len(places) > 1:
        total = sum(place.positives for place in places)
        places.insert(0, Place("macro", len(findings), len(films), patients, total, "a finding is undefined"))
    seeds = {group: tuple(cell.seed for cell in members) for group, members in groups.items()}
    fits = {
        group: distinct(_found(detected[id(cell)].detections) for cell in members)
        for group, members in groups.items()
    }
    return Measured(metric, tuple(places), made, seeds, seed, fits)


def _found(detections: Detections) -> np.ndarray:
    """The boxes of all films with their scores, as numbers."""
    table = detections.table.sort_values(["image", "finding", "score"], kind="stable")
    return table[[*CORNERS, "score"]].to_numpy(np.float64)


def _side_by_side(parts: Sequence[Values]) -> Callable[[Weights], Float[np.ndarray, "R F"]]:
    return lambda weights: np.stack([values(weights) for values in parts], axis=1)


def _with_mean(points: np.ndarray, drawn: np.ndarray) -> Replicates:
    return Replicates(
        np.concatenate([points, points.mean(axis=-1, keepdims=True)], axis=-1),
        np.concatenate([drawn, drawn.mean(axis=-1, keepdims=True)], axis=-1),
    )


def _report_of(one: Detected, finding: str) -> FindingReport:
    return next(part for part in one.report.findings if part.finding == finding)
