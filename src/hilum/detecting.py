"""Detectors and radiographs in, boxes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from hilum.data.loader import in_order
from hilum.data.views import PLAIN, PLAIN_VIEW, ViewRecipe, matrices
from hilum.errors import ConfigError
from hilum.images.spec import InputSpec
from hilum.images.store import Store
from hilum.models.detector import Detector, Found, suppressed
from hilum.progress import Progress
from hilum.records.boxes import scaling
from hilum.records.detections import Detections
from hilum.records.table import Records
from hilum.train.device import autocast, choose_device

BATCH = 8
GRID = 32
"""Views of other sizes are a multiple of it, pixels."""


@dataclass(frozen=True)
class Look:
    """How radiographs are looked at. Thresholds hold for the look that they were chosen with."""

    flip: bool = False
    """Also mirrored."""
    scales: tuple[float, ...] = (1.0,)
    """Sizes of the view, as multiples of what the detectors were trained at."""
    gate: Mapping[str, float] = field(default_factory=dict)
    """Scores are multiplied by the sum of these classes' probabilities for the whole film, so weighted; none:
    they are not."""
    of_surest: float = 0.0
    """Boxes with a score below this share of their film's highest go, finding by finding."""

    @property
    def flips(self) -> tuple[bool, ...]:
        """Whether each view is mirrored."""
        return (False, True) if self.flip else (False,)

    def recipe(self, spec: InputSpec) -> ViewRecipe:
        """A plain view of each size."""
        sides = [max(1, round(spec.side * scale / GRID)) * GRID for scale in self.scales]
        views = (
            replace(PLAIN_VIEW, side=spec.side if scale == 1 else side)
            for scale, side in zip(self.scales, sides, strict=True)
        )
        return ViewRecipe(tuple(views)).at(spec)


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
    look: Look = Look(),
) -> Detected:
    """The boxes of every radiograph, by one detector or by several of a kind that speak together.

    Several detectors are joined before any box is dropped (`Detector.combined`). So are several views of a
    radiograph: the boxes of all of them, taken back to the first size, go through one suppression.

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
        look: at which views.

    Raises:
        ConfigError: the look has classes that the detectors do not tell apart, or sizes that they cannot see.
    """
    check_look(look, models[0])
    first, place = models[0], choose_device(device)
    for model in models:
        model.place(place)
        model.eval()
    spec = first.encoder.input
    recipe = look.recipe(spec)
    found: dict[float, list[Found]] = {overlap: [] for overlap in overlaps}
    classes = []
    with Progress("Detecting", len(records), unit="images") as line:
        for batch in in_order(store, records, recipe, batch_size=batch_size):
            views = batch.to(place, spec).views
            with autocast(precision, place):
                seen = [_seen(models, view, spec.side, flip) for view in views for flip in look.flips]
            boxes, scores = (torch.cat(parts, 1) for parts in list(zip(*seen, strict=True))[:2])
            told = [one for *_, one in seen if one is not None]
            if told:
                classes.append(torch.stack(told).mean(0).cpu())
            for overlap in overlaps:
                kept = [
                    suppressed(*pair, floor=floor, overlap=overlap, most=most)
                    for pair in zip(boxes, scores, strict=True)
                ]
                found[overlap] += [Found(*(part.cpu() for part in one)) for one in kept]
            line.update(len(found[overlaps[0]]))
    to_file = _to_files(records, store, first)
    tables = {overlap: _table(first, records, parts, to_file) for overlap, parts in found.items()}
    told_apart = torch.cat(classes).numpy().astype(np.float64) if classes else None
    if look.gate:
        assert told_apart is not None
        gate = told_apart @ [look.gate.get(name, 0.0) for name in first.classes]
        factors = dict(zip(records.table["image"], gate.tolist(), strict=True))
        tables = {overlap: table.scaled(factors) for overlap, table in tables.items()}
    if look.of_surest:
        tables = {overlap: table.near_surest(look.of_surest) for overlap, table in tables.items()}
    return Detected(tables, told_apart)


def check_look(look: Look, model: Detector) -> None:
    """Refuses a look that a detector cannot take.

    Raises:
        ConfigError: it does not tell the classes of the gate apart, or sees one size only.
    """
    strangers = [name for name in look.gate if name not in model.classes]
    if strangers:
        raise ConfigError(
            f"the gate names {', '.join(map(repr, strangers))}; the detector tells "
            + (f"films apart into {', '.join(model.classes)}" if model.classes else "no films apart")
        )
    if look.scales != (1.0,) and model.encoder.has_patches:
        raise ConfigError(f"arch {model.encoder.arch} sees films of one size only; give --scales 1")


def _seen(
    models: Sequence[Detector], images: Float[Tensor, "B 1 S S"], side: int, flip: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Boxes of every place, in pixels of a view of `side`, their scores, and the classes of films."""
    first, own = models[0], images.shape[-1]
    shown = images.flip(-1) if flip else images
    raws = [model(shown) for model in models]
    raw = first.combined(raws) if len(models) > 1 else raws[0]
    boxes, scores = (part.float() for part in first.candidates(raw, own))
    if flip:
        boxes = torch.stack([own - boxes[..., 2], boxes[..., 1], own - boxes[..., 0], boxes[..., 3]], -1)
    return boxes * (side / own), scores, first.film_probabilities(raw)


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
