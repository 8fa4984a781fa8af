"""What `hilum explain` leaves: a picture per film, the table of maps, and the words of its page."""

import logging
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np

from hilum.durable import write_atomically
from hilum.images.read import read_image
from hilum.images.shrink import shrink
from hilum.images.store import Store
from hilum.images.warp import Fit
from hilum.progress import Progress
from hilum.records.boxes import boxes_of, scaling
from hilum.records.table import Records
from hilum.records.writing import write_csv
from hilum.report.explanation import ScoreTable, ShownFilm
from hilum.report.words import counted, number
from hilum.saliency.maps import FilmMap
from hilum.saliency.overlay import overlay, with_boxes, with_legend
from hilum.saliency.placement import peak
from hilum.saliency.scoring import Scores

PICTURE = 768
"""Shorter side, pixels, above which a film is made smaller before it is drawn on."""

COARSE = 5
"""Cells a side below which a map hardly says where."""

log = logging.getLogger(__name__)


def draw(
    out: Path,
    maps: Sequence[FilmMap],
    films: Records,
    store: Store,
    finding: str,
    method: str,
    *,
    fit: Fit,
    alpha: float,
) -> list[ShownFilm]:
    """Writes a picture of each film, at the film's own size, and returns what the page shows of it."""
    shown = []
    boxes = boxes_of(films, finding)
    rows = store.rows(films.table["image"].tolist()).tolist()
    labels = films.table[finding] if finding in films.findings else [np.nan] * len(films)
    with Progress("Drawing", len(films), unit="images") as line:
        for place, (image, label) in enumerate(zip(films.table["image"], labels, strict=True)):
            one = maps[place]
            film = shrink(read_image(image), PICTURE)
            drawn = overlay(film, one.scores, fit=fit, alpha=alpha)
            scaled = boxes[place] * scaling(store.source_size(rows[place]), film.shape)
            with_boxes(drawn, scaled)
            found = method if np.ptp(one.scores) else f"{method}: flat"
            words = [f"{finding} {one.probability:.2f}, {found}", Path(image).name]
            sheet = with_legend(drawn, one.scores, words=words, box="box" if len(scaled) else "")
            name = overlay_name(place, image)
            write_atomically(out / name, cv2.imencode(".png", sheet[:, :, ::-1])[1].tobytes())
            known = "unknown" if np.isnan(label) else "present" if label else "absent"
            shown.append(ShownFilm(Path(image).name, drawn, one.probability, known, name))
            line.update(place + 1)
    return shown


def write_maps(
    out: Path, maps: Sequence[FilmMap], films: Records, store: Store, *, finding: str, fit: Fit
) -> None:
    """Writes maps.csv, a row per film, and maps.npy, the cells of the maps in the same order.

    The map's highest point is in pixels of the file; a flat map has none.
    """
    table = films.table
    rows = store.rows(table["image"].tolist()).tolist()
    points: list[tuple[float | str, float | str]] = []
    for one, row in zip(maps, rows, strict=True):
        x, y = peak(one.scores, store.source_size(row), fit=fit)
        points.append((round(x, 1), round(y, 1)) if np.ptp(one.scores) else ("", ""))
    written = table[["image", "patient", "split"]].assign(finding=finding)
    if finding in films.findings:
        written["label"] = table[finding].map({0.0: "0", 1.0: "1"}).fillna("")
    written = written.assign(
        probability=[one.probability for one in maps],
        x=[x for x, _ in points],
        y=[y for _, y in points],
        low=[float(one.scores.min()) for one in maps],
        high=[float(one.scores.max()) for one in maps],
        cells=["x".join(map(str, one.scores.shape)) for one in maps],
        overlay=[overlay_name(place, image) for place, image in enumerate(table["image"])],
    )
    write_csv(written, out / "maps.csv")
    buffer = BytesIO()
    np.save(buffer, np.stack([one.scores for one in maps]).astype(np.float32), allow_pickle=False)
    write_atomically(out / "maps.npy", buffer.getvalue())


def score_table(scores: Scores) -> ScoreTable:
    """The page's table, with what has to be said beside it."""
    chosen = ", ".join(f"{name} {number(t, places=2)}" for name, t in scores.thresholds.items())
    remarks = [f"Thresholds, chosen on {counted(scores.validation, 'validation films')}: {chosen}."]
    if not scores.validation:
        remarks = [
            "iou and hit_rate need a threshold chosen on validation films with boxes that are not scored "
            "themselves; here are none."
        ]
    remarks += [
        f"Flat, so that they score as a random point does: {counted(count, 'maps')} of {name}."
        for name, count in scores.flat.items()
        if count
    ]
    return ScoreTable(list(scores.thresholds), scores.estimates, scores.differences, remarks)


def caption(maps: Sequence[FilmMap], films: Records, *, finding: str, split: str) -> str:
    """What was drawn, in two or three sentences."""
    cells = sorted({one.scores.shape for one in maps})
    sizes = " or ".join(f"{height}×{width}" for height, width in cells)
    boxed = sum(len(found) > 0 for found in boxes_of(films, finding))
    of = f" of split {split}" if split else ""
    told = f" With boxes, and first: {boxed:,}." if boxed else ""
    all_ = f"{counted(len(films), 'films')}{of}.{told}"
    said = [f"{all_} A map has {sizes} cells and was enlarged to the film."]
    said += ["Each has a scale of its own: colours of two films do not compare."]
    if flat := sum(not np.ptp(one.scores) for one in maps):
        said += [
            f"Flat, films without colours: {flat:,}; nothing there speaks for {finding}. --against shows "
            "what speaks against it."
        ]
    if max(max(shape) for shape in cells) < COARSE:
        said += ["So few cells hardly say where; --layer names an earlier part, with more of them."]
    return " ".join(said)


def overlay_name(place: int, image: str) -> str:
    """The file of a picture, relative to the page; numbered, since films of two folders may share a name."""
    return f"overlays/{place:04d}_{Path(image).stem}.png"
