"""Detectors and radiographs in, boxes out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from hilum.data.loader import in_order
from hilum.data.views import PLAIN, matrices
from hilum.images.store import Store
from hilum.models.detector import Detector, Found
from hilum.progress import Progress
from hilum.records.boxes import scaling
from hilum.records.detections import Detections
from hilum.records.table import Records
from hilum.train.device import autocast, choose_device

BATCH = 8


class Detected(NamedTuple):
    """What was found on some radiographs."""

    boxes: dict[float, Detections]
    """By the overlap from which the less sure of two boxes went."""
    classes: Float[np.ndarray, "N C"] | None
    """The probability of each class of films, row by row of the records; None: they are not told apart."""


@torch.inference_mode()
def detect(
    models: Sequence[Detector],
    records: Records,
    store: Store,
    *,
    overlaps: Sequence[float],
    floor: float,
    most: int = 100,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int = BATCH,
) -> Detected:
    """The boxes of every radiograph, by one detector or by several of a kind that speak together.

    Args:
        models: detectors of one kind, size and findings.
        records: the radiographs.
        store: their films.
        overlaps: non-maximum suppression is done with each.
        floor: lower scores are no boxes.
        most: boxes of a radiograph that are kept.
        device: where to compute.
        precision: of the arithmetic.
        batch_size: radiographs at a time.
    """
    first, place = models[0], choose_device(device)
    for model in models:
        model.to(place, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    spec = first.encoder.input
    recipe = PLAIN.at(spec)
    found: dict[float, list[Found]] = {overlap: [] for overlap in overlaps}
    classes = []
    with Progress("Detecting", len(records), unit="images") as line:
        for batch in in_order(store, records, recipe, batch_size=batch_size):
            (images,) = batch.to(place, spec).views
            with autocast(precision, place):
                raws = [model(images) for model in models]
            raw = first.combined(raws) if len(models) > 1 else raws[0]
            for overlap in overlaps:
                kept = first.find(raw, spec.side, floor=floor, overlap=overlap, most=most)
                found[overlap] += [Found(*(part.cpu() for part in one)) for one in kept]
            told = first.film_probabilities(raw)
            classes += [] if told is None else [told.cpu()]
            line.update(len(found[overlaps[0]]))
    to_file = _to_files(records, store, first)
    return Detected(
        {overlap: _table(first, records, parts, to_file) for overlap, parts in found.items()},
        torch.cat(classes).numpy().astype(np.float64) if classes else None,
    )


def _to_files(records: Records, store: Store, model: Detector) -> tuple[NDArray[np.float64], ...]:
    """Factors and shifts from the view to the file, and the file's width and height, a row per radiograph."""
    spec = model.encoder.input
    rows = store.rows(records.table["image"].tolist()).tolist()
    sizes = np.array([store[row].shape for row in rows], np.int64).reshape(-1, 2)
    warps = matrices(PLAIN.at(spec), sizes, rows=np.arange(len(rows)), epochs=0, seed=0)[0]
    sources = np.array([store.source_size(row) for row in rows], np.float64).reshape(-1, 2)
    scale = np.array([scaling(store.source_size(row), store[row].shape) for row in rows])
    diagonal = np.tile(np.stack([warps[:, 0, 0], warps[:, 1, 1]], 1), 2)
    shift = np.tile(warps[:, :2, 2], 2)
    return diagonal / scale, shift / scale, np.tile(sources[:, ::-1], 2)


def _table(
    model: Detector, records: Records, found: Sequence[Found], to_file: tuple[NDArray[np.float64], ...]
) -> Detections:
    """Boxes in pixels of the files, cut at their edges; one that lies beside its film is none."""
    rows = np.repeat(np.arange(len(found)), [len(one.scores) for one in found])
    boxes = np.concatenate([np.empty((0, 4)), *(one.boxes.double().numpy() for one in found)])
    labels = np.concatenate([np.empty(0, np.int64), *(one.labels.numpy() for one in found)])
    scores = np.concatenate([np.empty(0), *(one.scores.double().numpy() for one in found)])
    factor, shift, edge = (part[rows] for part in to_file)
    boxes = (boxes * factor + shift).clip(0, edge)
    real = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) > 0
    return Detections.make(
        records, model.findings, rows[real], labels[real].astype(np.int64), scores[real], boxes[real]
    )
