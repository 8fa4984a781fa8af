"""A report as one HTML file that needs nothing else: no network, no script, no second file."""

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np

from hilum.durable import write_atomically
from hilum.errors import HilumError
from hilum.metrics.bootstrap import Estimate
from hilum.metrics.subgroups import MINIMUM
from hilum.report import reliability
from hilum.report.checklist import checklists
from hilum.report.confusion_figure import confusion_matrix
from hilum.report.drawing import Drawing
from hilum.report.figures import curve_panels, forest
from hilum.report.history import training
from hilum.report.provenance import tables
from hilum.report.render import render
from hilum.report.report import SCHEMA, Report, WrongFilm
from hilum.report.subgroups import section
from hilum.report.tables import tables_of
from hilum.report.words import base_name, interval

Pictures: TypeAlias = Callable[[str], np.ndarray]
"""Path of a radiograph to its grey levels, (h, w) of uint8."""

SIDE = 208
"""Longer side of a thumbnail, pixels."""

BUDGET = 5_500_000
"""Characters of thumbnails in a page; with figures and tables it stays below 8 MB."""

LISTED = 50
"""Excluded radiographs listed in a page; all of them are in report.json."""


def write_page(
    report: Report,
    path: Path,
    *,
    images: Pictures | None = None,
    metrics: Sequence[Mapping[str, object]] = (),
    title: str = "hilum evaluation",
) -> None:
    """Writes report.html.

    `images` gives the pictures of the mistakes (none are shown without it); `metrics` are the rows of
    metrics.jsonl. Of file names only the last part is shown.
    """
    thumbnails, dropped = _thumbnails(report.worst, images)
    trained = training("fig-training", metrics)
    page = render(
        "report.html",
        report=report,
        title=title,
        schema=SCHEMA,
        thumbnails=thumbnails,
        dropped=dropped,
        training=trained,
        provenance=tables(report.provenance),
        checklists=checklists(report, training=trained is not None),
        subgroups=section(report),
        group_minimum=MINIMUM,
        **_headline(report),
        **tables_of(report),
        calibration=reliability.section(report),
        **_figures(report),
        **_radiographs(report),
    )
    write_atomically(path, page.encode())


def _headline(report: Report) -> dict[str, object]:
    macro = report.estimate("auroc", "macro")
    name = f"AUROC of {report.findings[0]}"
    if macro is not None:
        defined = [f for f in report.findings if (e := report.estimate("auroc", f)) and e.value is not None]
        name = f"Mean AUROC over {len(defined)} findings"
        if len(defined) < len(report.findings):
            name = f"Mean AUROC over {len(defined)} of {len(report.findings)} findings"
    criterion = next((t.criterion for t in report.thresholds), "")
    undecided = ""
    if report.thresholds and all(t.value is None for t in report.thresholds):
        undecided = report.thresholds[0].note
    return {
        "headline": report.headline,
        "headline_name": name,
        "criterion": criterion,
        "undecided": undecided,
        "unscored": len(report.excluded),
    }


def _figures(report: Report) -> dict[str, object]:
    found = [e for f in (*report.findings, "macro") if (e := report.estimate("auroc", f))]
    rows = [("Mean" if e.finding == "macro" else e.finding, e.value, e.low, e.high) for e in found]
    overview = forest(
        "fig-overview",
        rows,
        label="AUROC",
        caption="AUROC with its 95 % interval. The line at 0.5 is a guess"
        + ("; broken lines are floors." if report.floors else "."),
        floors=report.floors,
        centre=0.5,
    )
    points: dict[str, dict[str, tuple[float, float]]] = {"roc": {}, "precision_recall": {}}
    for table in report.confusion if not report.exclusive else ():
        (tn, fp), (fn, tp) = table.counts
        if tp + fn and tn + fp and tp + fp:
            points["roc"][table.finding] = (fp / (tn + fp), tp / (tp + fn))
            points["precision_recall"][table.finding] = (tp / (tp + fn), tp / (tp + fp))
    drawings: list[Drawing] = []
    for kind, metric in (("roc", "auroc"), ("precision_recall", "average_precision")):
        drawn = [c for c in report.curves if c.kind == kind]
        if drawn:
            areas = {c.finding: _short(report.estimate(metric, c.finding)) for c in drawn}
            drawings.append(curve_panels(f"fig-{metric}", drawn, points=points[kind], areas=areas))
    matrices = [confusion_matrix("fig-confusion", c) for c in report.confusion if report.exclusive]
    grades = {c.finding: confusion_matrix(f"fig-grades-{i}", c) for i, c in enumerate(report.grades)}
    return {"overview": overview, "curves": drawings, "confusion": matrices, "grades": grades}


def _short(estimate: Estimate | None) -> str:
    return "n/a" if estimate is None else interval(estimate.value, estimate.low, estimate.high, places=2)


def _radiographs(report: Report) -> dict[str, object]:
    """Mistakes by finding, labels by split, and what was excluded."""
    splits = list(dict.fromkeys(c.split for c in report.counts))
    cells = {(c.split, c.finding): c for c in report.counts}
    sizes = {s: cells[s, report.findings[0]] for s in splits}
    header = ("Finding", *(f"{s or 'no split'}" for s in splits))
    rows = [
        ("radiographs", *(f"{sizes[s].images:,}" for s in splits)),
        ("patients", *(f"{sizes[s].patients:,}" for s in splits)),
    ]
    for finding in report.findings:
        here = (cells[s, finding] for s in splits)
        rows.append((finding, *(f"{c.positives:,} / {c.negatives:,} / {c.unknown:,}" for c in here)))
    listed = [
        (base_name(image), why.replace(image, base_name(image))) for image, why in report.excluded.items()
    ]
    more = len(listed) - LISTED
    return {
        "mistakes": [
            (f, films) for f in report.findings if (films := [w for w in report.worst if w.finding == f])
        ],
        "count_header": header,
        "count_rows": rows,
        "exclusions": listed[:LISTED],
        "exclusions_more": f" {more:,} more are in report.json." if more > 0 else "",
    }


def _thumbnails(films: Sequence[WrongFilm], images: Pictures | None) -> tuple[dict[str, str], int]:
    """Base64 of a PNG per radiograph, and how many did not fit into the page."""
    made: dict[str, str] = {}
    dropped, left = 0, BUDGET
    for path in dict.fromkeys(film.image for film in films) if images else ():
        assert images is not None
        try:
            pixels = images(path)
        except HilumError:
            continue  # the page says "no picture"; that it was scored shows it could be read before
        height, width = pixels.shape
        scale = min(1.0, SIDE / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        text = base64.b64encode(cv2.imencode(".png", small)[1].tobytes()).decode("ascii")
        times = sum(film.image == path for film in films)
        if len(text) * times > left:
            dropped += 1
            continue
        left -= len(text) * times
        made[path] = text
    return made, dropped
