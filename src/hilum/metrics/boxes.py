"""Boxes against boxes, for all films at once: how they overlap, and which detection found which true box.

A box is x1, y1, x2, y2 in pixels; its area is (x2 - x1)(y2 - y1), without the one that some codes add.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

Order = Literal["score", "truth"]
"""Who chooses: each detection in order of its score the true box that it overlaps most (the RSNA challenge,
COCO), or each true box in order of the table the highest detection that overlaps it enough (the kaggle-rsna
system)."""


@dataclass(frozen=True)
class Boxes:
    """Detections of N films, those of a film together and the surest first, and their true boxes."""

    films: int
    """N."""
    film: Int[np.ndarray, " D"]
    """The film of each detection."""
    box: Float[np.ndarray, "D 4"]
    score: Float[np.ndarray, " D"]
    true_film: Int[np.ndarray, " G"]
    true_box: Float[np.ndarray, "G 4"]

    @classmethod
    def of(
        cls,
        films: int,
        film: Shaped[np.ndarray, " D"],
        box: Shaped[np.ndarray, "D 4"],
        score: Shaped[np.ndarray, " D"],
        true_film: Shaped[np.ndarray, " G"],
        true_box: Shaped[np.ndarray, "G 4"],
        *,
        most: int | None = None,
    ) -> "Boxes":
        """Detections in any order; with `most`, the surest so many of each film. Among equals the first."""
        score = np.asarray(score, np.float64)
        film, true_film = np.asarray(film, np.int64), np.asarray(true_film, np.int64)
        order = np.lexsort((-score, film))
        rank = np.arange(len(order)) - np.searchsorted(film[order], film[order])
        if most is not None:
            order = order[rank < most]
        home = np.argsort(true_film, kind="stable")
        return cls(
            films,
            film[order],
            np.asarray(box, np.float64).reshape(-1, 4)[order],
            score[order],
            true_film[home],
            np.asarray(true_box, np.float64).reshape(-1, 4)[home],
        )

    @property
    def detected(self) -> Int[np.ndarray, " N"]:
        """Detections per film."""
        return np.bincount(self.film, minlength=self.films)

    @property
    def true(self) -> Int[np.ndarray, " N"]:
        """True boxes per film."""
        return np.bincount(self.true_film, minlength=self.films)


def area(box: Float[np.ndarray, "... 4"]) -> Float[np.ndarray, "..."]:
    """Square pixels; 0 for a box that is turned inside out."""
    sides: Float[np.ndarray, "... 2"] = (box[..., 2:] - box[..., :2]).clip(0)
    product: Float[np.ndarray, ...] = sides.prod(axis=-1)
    return product


def overlap(a: Float[np.ndarray, "... 4"], b: Float[np.ndarray, "... 4"]) -> Float[np.ndarray, "..."]:
    """Intersection over union, 0 to 1, of boxes that are broadcast against each other.

    >>> overlap(np.array([[0, 0, 2, 2.0]]), np.array([[1, 0, 3, 2], [5, 5, 5, 9.0]])).round(3).tolist()
    [0.333, 0.0]
    """
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    both = (high - low).clip(0).prod(axis=-1)
    union = area(a) + area(b) - both
    shares: Float[np.ndarray, ...] = np.divide(both, union, out=np.zeros(np.shape(union)), where=union > 0)
    return shares


def finders(
    boxes: Boxes, ious: Shaped[np.ndarray, " T"], *, order: Order = "score"
) -> Int[np.ndarray, "T G"]:
    """The detection that found each true box at each IoU, by its place in `boxes`; -1 where none did.

    Every detection finds one true box at most. What is found by detections above some score is the same with
    and without those below it.
    """
    found: Int[np.ndarray, "T G"] = np.full((len(ious), len(boxes.true_film)), -1)
    both = np.flatnonzero((boxes.detected > 0) & (boxes.true > 0))
    if not len(both):
        return found
    starts, true_starts = (
        np.searchsorted(film, np.arange(boxes.films)) for film in (boxes.film, boxes.true_film)
    )
    table = _table(boxes, both, starts, true_starts)
    rank = (_by_score if order == "score" else _by_truth)(table, np.asarray(ious, np.float64))
    place: Int[np.ndarray, " N"] = np.full(boxes.films, -1)
    place[both] = np.arange(len(both))
    here = np.flatnonzero(place[boxes.true_film] >= 0)
    film = boxes.true_film[here]
    taken = rank[:, place[film], here - true_starts[film]]
    found[:, here] = np.where(taken >= 0, taken + starts[film], -1)
    return found


def centred(boxes: Boxes) -> tuple[Bool[np.ndarray, " D"], Float[np.ndarray, " G"]]:
    """Whether the middle of each detection is in a true box; the surest detection in each (-inf: none)."""
    middle = (boxes.box[:, :2] + boxes.box[:, 2:]) / 2
    inside, best = np.zeros(len(boxes.film), bool), np.full(len(boxes.true_film), -np.inf)
    starts = np.searchsorted(boxes.film, np.arange(boxes.films + 1))
    for number, (film, (x1, y1, x2, y2)) in enumerate(zip(boxes.true_film, boxes.true_box, strict=True)):
        part = slice(starts[film], starts[film + 1])
        x, y = middle[part].T
        hit = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
        inside[part] |= hit
        best[number] = boxes.score[part][hit].max(initial=-np.inf)
    return inside, best


def _table(
    boxes: Boxes,
    both: Int[np.ndarray, " B"],
    starts: Int[np.ndarray, " N"],
    true_starts: Int[np.ndarray, " N"],
) -> Float[np.ndarray, "B P Q"]:
    """IoU of every detection with every true box of its film, -1 where there is no such pair."""
    given = _padded(boxes.box, both, starts, boxes.detected)
    true = _padded(boxes.true_box, both, true_starts, boxes.true)
    pairs = ~np.isnan(given[:, :, None, 0]) & ~np.isnan(true[:, None, :, 0])
    return np.where(pairs, overlap(given[:, :, None], true[:, None]), -1.0)


def _padded(
    box: Float[np.ndarray, "M 4"],
    films: Int[np.ndarray, " B"],
    starts: Int[np.ndarray, " N"],
    counts: Int[np.ndarray, " N"],
) -> Float[np.ndarray, "B K 4"]:
    """The boxes of each film in a row of its own, NaN after the last."""
    place = np.arange(counts[films].max())
    there = place < counts[films][:, None]
    index = np.where(there, starts[films][:, None] + place, 0)
    return np.where(there[..., None], box[index], np.nan)


def _by_score(table: Float[np.ndarray, "B P Q"], ious: Float[np.ndarray, " T"]) -> Int[np.ndarray, "T B Q"]:
    num, most, true = table.shape
    finder: Int[np.ndarray, "T B Q"] = np.full((len(ious), num, true), -1)
    for rank in range(most):
        left = np.where(finder < 0, table[:, rank], -1.0)
        # The last of equal overlaps, as COCO's own code takes it.
        best = true - 1 - left[..., ::-1].argmax(axis=-1)
        hit = np.take_along_axis(left, best[..., None], axis=-1)[..., 0] >= ious[:, None]
        which, film = np.nonzero(hit)
        finder[which, film, best[which, film]] = rank
    return finder


def _by_truth(table: Float[np.ndarray, "B P Q"], ious: Float[np.ndarray, " T"]) -> Int[np.ndarray, "T B Q"]:
    num, most, true = table.shape
    finder: Int[np.ndarray, "T B Q"] = np.full((len(ious), num, true), -1)
    free = np.ones((len(ious), num, most), bool)
    for number in range(true):
        able = (table[:, :, number] >= ious[:, None, None]) & free
        first = able.argmax(axis=-1)
        which, film = np.nonzero(able.any(axis=-1))
        finder[which, film, number] = first[which, film]
        free[which, film, first[which, film]] = False
    return finder
