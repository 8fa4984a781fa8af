"""Boxes that need no learning, which a detector has to beat."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from hilum.metrics.boxes import Boxes
from hilum.records.boxes import boxes_of
from hilum.records.table import Records


def floors(
    boxes: Boxes,
    test: Records,
    train: Records,
    finding: str,
    sizes: Mapping[str, tuple[int, int]] | None = None,
) -> dict[str, Boxes]:
    """No box on any film, and the mean box of the training films on every film.

    The mean is of boxes as shares of their films' width and height. Without `sizes` (height and width, by
    image) films are of one size.
    """
    nothing: Float[np.ndarray, "0 4"] = np.empty((0, 4))
    made = {"no box": replace(boxes, film=np.empty(0, np.int64), box=nothing, score=np.empty(0))}
    shares = zip(boxes_of(train, finding), _frames(train, sizes), strict=True)
    true = np.concatenate([nothing, *(found / frame for found, frame in shares)])
    if len(true):
        made["the mean box everywhere"] = replace(
            boxes,
            film=np.arange(boxes.films),
            box=true.mean(axis=0) * _frames(test, sizes),
            score=np.ones(boxes.films),
        )
    return made


def _frames(records: Records, sizes: Mapping[str, tuple[int, int]] | None) -> Float[np.ndarray, "N 4"]:
    """Width, height, width, height of every film."""
    if sizes is None:
        return np.ones((len(records), 4))
    own = np.array([sizes[image] for image in records.table["image"]], np.float64).reshape(-1, 2)
    return np.tile(own[:, ::-1], 2)
