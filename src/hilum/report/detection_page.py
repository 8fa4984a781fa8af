"""The page of a detector: numbers beside floors, the scan of thresholds, films with both kinds of boxes."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from hilum.durable import write_atomically
from hilum.images.store import Store
from hilum.metrics.detection_intervals import METRICS
from hilum.records.boxes import boxes_of, scaling
from hilum.records.detections import CORNERS, Detections
from hilum.records.table import Records
from hilum.report.detection import DetectionReport, FilmOutcome, FindingReport
from hilum.report.drawing import INK, MUTED, SERIES, Drawing, panels, style, to_svg
from hilum.report.history import training
from hilum.report.provenance import tables
from hilum.report.render import render
from hilum.report.words import base_name, counted, number

TRUE, FOUND = (64, 255, 160), (255, 140, 0)
"""Red, green and blue of true and of found boxes."""
SIDE = 320
"""Longer side of a picture, pixels."""
SHOWN = 8
"""Films of each kind."""
AT = "val_rsna_at_"


@dataclass(frozen=True)
class _Film:
    outcome: FilmOutcome
    name: str
    picture: str


def write_detection_page(
    report: DetectionReport,
    path: Path,
    detections: Detections,
    records: Records,
    store: Store,
    *,
    metrics: Sequence[Mapping[str, object]] = (),
    title: str = "hilum detect",
    folds: int = 0,
) -> None:
    """Writes the page. `records` hold the true boxes of all films that were scored.

    `metrics` are those of the training, or of the first of so many folds, which the page then says.
    """
    parts = []
    for place, one in enumerate(report.findings):
        films = {
            kind: _films(one, chosen, detections, records, store)
            for kind, chosen in chosen_films(one).items()
        }
        parts.append(
            {
                "one": one,
                "scan": _scan(f"scan-{place}", one),
                "froc": _froc(f"froc-{place}", one),
                "films": {kind: shown for kind, shown in films.items() if shown},
            }
        )
    plain = [{k: v for k, v in row.items() if not k.startswith(AT)} for row in metrics]
    page = render(
        "detection.html",
        report=report,
        title=title,
        parts=parts,
        metrics=METRICS,
        epochs=_epochs("fig-epochs", metrics, folds=folds),
        folds=folds,
        training=training("fig-training", plain),
        provenance=tables(report.provenance),
    )
    write_atomically(path, page.encode())


def chosen_films(one: FindingReport) -> dict[str, list[FilmOutcome]]:
    """By a rule and not by hand: the surest failures of each kind, and the best; no film twice."""
    boxed = sorted(
        (film for film in one.films if film.found + film.missed), key=lambda f: (f.score or 0, -f.false)
    )
    lowest = boxed[: min(SHOWN, -(-len(boxed) // 2))]
    highest = boxed[len(lowest) :][::-1][:SHOWN]
    normal = [film for film in one.films if not film.found + film.missed]
    return {
        "Films with boxes, the lowest scores": lowest,
        "Films with boxes, the highest scores": highest,
        "Films without boxes, those with the most false ones": sorted(
            (film for film in normal if film.false), key=lambda f: -f.false
        )[:SHOWN],
    }


def _films(
    one: FindingReport,
    chosen: Sequence[FilmOutcome],
    detections: Detections,
    records: Records,
    store: Store,
) -> list[_Film]:
    if one.threshold is None or not chosen:
        return []
    place = {image: row for row, image in enumerate(records.table["image"])}
    true = boxes_of(records, one.finding)
    table = detections.of(one.finding).table
    table = table[table["score"] >= one.threshold]
    shown = []
    for film in chosen:
        row = int(store.rows([film.image])[0])
        pixels, factor = store[row], scaling(store.source_size(row), store[row].shape)
        found = table[table["image"] == film.image]
        picture = _picture(
            pixels,
            true[place[film.image]] * factor,
            found[list(CORNERS)].to_numpy(np.float64) * factor,
            found["score"].tolist(),
        )
        shown.append(_Film(film, base_name(film.image), picture))
    return shown


def _picture(
    pixels: UInt8[np.ndarray, "H W"], true: np.ndarray, found: np.ndarray, scores: Sequence[float]
) -> str:
    scale = SIDE / max(pixels.shape)
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    drawn = np.repeat(cv2.resize(pixels, size, interpolation=way)[:, :, None], 3, axis=2)
    for boxes, colour in ((true, TRUE), (found, FOUND)):
        for x1, y1, x2, y2 in np.rint(boxes * scale).astype(int).tolist():
            cv2.rectangle(drawn, (x1, y1), (x2 - 1, y2 - 1), colour, 2)
    for (x1, y1, _, _), score in zip(np.rint(found * scale).astype(int).tolist(), scores, strict=True):
        _write(drawn, f"{score:.2f}", min(x1, size[0] - 36), max(y1, 18))
    written, content = cv2.imencode(".jpg", np.ascontiguousarray(drawn[:, :, ::-1]))
    assert written
    return base64.b64encode(content.tobytes()).decode("ascii")


def _write(drawn: UInt8[np.ndarray, "H W 3"], text: str, x: int, y: int) -> None:
    """A score in black on the colour of its box, above y."""
    cv2.rectangle(drawn, (x, y - 18), (x + 35, y), FOUND, cv2.FILLED)
    cv2.putText(drawn, text, (x + 1, y - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)


def _scan(name: str, one: FindingReport) -> Drawing | None:
    """The RSNA score of validation films by threshold, a line per overlap."""
    if one.scan is None:
        return None
    found = one.scan
    best = "" if one.threshold is None else f"Chosen: {one.threshold:g}, overlap {one.overlap:g}."
    alt = f"RSNA score on {counted(found.films, 'validation films')} by threshold. {best}"
    with style():
        figure, (axes,) = panels(1, columns=1, width=6.4, height=2.8)
        for place, (overlap, row) in enumerate(zip(found.overlaps, found.scores, strict=True)):
            values = [np.nan if value is None else value for value in row]
            colour = SERIES[place % len(SERIES)]
            axes.plot(
                found.thresholds, values, color=colour, marker="o", markersize=3, label=f"overlap {overlap:g}"
            )
        if one.threshold is not None:
            axes.axvline(one.threshold, color=MUTED, linewidth=1, linestyle=":")
        axes.set_xscale("log")
        ticks = [cut for cut in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if cut >= min(found.thresholds)]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda cut, _: f"{cut:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel="threshold of the score", ylabel="RSNA score, validation")
        axes.set_ylim(bottom=0)
        axes.legend(loc="best")
        svg = to_svg(figure, name, alt=alt)
    rows = tuple(
        (f"{cut:g}", *(number(row[place]) for row in found.scores))
        for place, cut in enumerate(found.thresholds)
    )
    caption = (
        f"RSNA challenge score of {counted(found.films, 'validation films')} ({found.boxed:,} with boxes) by "
        "the score from which a box is shown, and by the overlap from which the less sure of two boxes goes. "
        f"{best}"
    )
    header = ("threshold", *(f"overlap {overlap:g}" for overlap in found.overlaps))
    return Drawing(name, svg, alt, caption, header, rows)


def _froc(name: str, one: FindingReport) -> Drawing | None:
    if not one.sensitivities:
        return None
    rates, values, low, high = (list(part) for part in zip(*one.sensitivities, strict=True))
    alt = "Sensitivity by false detections per film: " + "; ".join(
        f"{value:.2f} at {rate:g}" for rate, value in zip(rates, values, strict=True)
    )
    with style():
        figure, (axes,) = panels(1, columns=1, width=6.4, height=2.8)
        if all(edge is not None for edge in (*low, *high)):
            axes.fill_between(rates, low, high, color=SERIES[0], alpha=0.18, linewidth=0)
        axes.plot(rates, values, color=SERIES[0], marker="o")
        axes.set_xscale("log", base=2)
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.set(xlabel="false detections per film", ylabel="sensitivity", ylim=(0, 1.02))
        svg = to_svg(figure, name, alt=alt)
    rows = tuple(
        (f"{rate:g}", number(value), number(a), number(b)) for rate, value, a, b in one.sensitivities
    )
    caption = (
        "FROC: the share of true boxes that hold the middle of a detection, at so many detections per film "
        "whose middle is in no true box. Band: 95 % of bootstrap replicates over patients."
    )
    return Drawing(name, svg, alt, caption, ("false per film", "sensitivity", "low", "high"), rows)


def _epochs(name: str, metrics: Sequence[Mapping[str, object]], *, folds: int = 0) -> Drawing | None:
    """The validation score by epoch and threshold, as colours; of the first fold, where there are folds."""
    rows = [row for row in metrics if any(key.startswith(AT) for key in row)]
    if len(rows) < 2:
        return None
    keys = [key for key in rows[0] if key.startswith(AT)]
    values = np.array([[float(str(row.get(key, "nan"))) for key in keys] for row in rows])
    epochs = [f"{float(str(row.get('epoch', 0))):.3g}" for row in rows]
    cuts = [key.removeprefix(AT) for key in keys]
    best = np.unravel_index(np.nanargmax(values), values.shape)
    alt = (
        f"Validation RSNA score by epoch and threshold; highest {values[best]:.3f} at epoch {epochs[best[0]]}"
    )
    with style():
        figure, (axes,) = panels(1, columns=1, width=8.4, height=0.9 + 0.24 * len(rows))
        top = max(float(np.nanmax(values)), 1e-9)
        for i in range(len(rows)):
            for j in range(len(cuts)):
                share = float(values[i, j]) / top
                axes.fill_between([j, j + 1], i, i + 1, color=SERIES[0], alpha=0.75 * share, linewidth=0)
                shown = f"{values[i, j]:.2f}".removeprefix("0")
                axes.text(j + 0.5, i + 0.5, shown, ha="center", va="center", fontsize=6.5, color=INK)
        axes.set(xlim=(0, len(cuts)), ylim=(len(rows), 0), xlabel="threshold of the score", ylabel="epoch")
        axes.set_xticks(np.arange(len(cuts)) + 0.5, cuts, rotation=90)
        axes.set_yticks(np.arange(len(rows)) + 0.5, epochs)
        axes.grid(visible=False)
        svg = to_svg(figure, name, alt=alt)
    table = tuple(
        (epoch, *(number(value) for value in row)) for epoch, row in zip(epochs, values, strict=True)
    )
    films = f"films held out from the first of {folds} folds" if folds else "validation films"
    caption = (
        f"RSNA score of the {films} after every epoch that was validated (a run of more than 20 epochs is "
        "validated 20 times), by threshold, at the middle overlap; of several findings the mean."
    )
    return Drawing(name, svg, alt, caption, ("epoch", *cuts), table)
