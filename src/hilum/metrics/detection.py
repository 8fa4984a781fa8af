"""How well boxes were found: the RSNA challenge's score, average precision, and sensitivity at false alarms.

What was found is worked out per film, once; a metric of resampled patients is then sums over films, each
counted as often as its patient was drawn (`Weights`). Metrics of all films and of films with boxes, at other
IoUs or of other rules are other numbers: none can be compared with another.
"""

import numpy as np
from jaxtyping import Float, Shaped

from hilum.metrics.boxes import Boxes, Order, centred, finders

RSNA_IOUS = np.linspace(0.4, 0.75, 8)
"""Of the RSNA Pneumonia Detection Challenge of 2018, and of average precision in its literature."""
COCO_IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
"""Where COCO reads precision off."""
FALSE_ALARMS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Per film: the usual points of a FROC curve."""

Weights = Float[np.ndarray, "N R"]
"""How often each film counts, in each of R resamples."""


def rsna_scores(
    boxes: Boxes,
    thresholds: Shaped[np.ndarray, " S"],
    *,
    ious: Shaped[np.ndarray, " T"] = RSNA_IOUS,
    order: Order = "score",
) -> Float[np.ndarray, "N S"]:
    """The RSNA challenge's score of every film, 0 to 1, with the detections of each threshold or more.

    The mean over IoUs of TP / (TP + FP + FN). A film without true boxes has 0 with a detection and NaN, which
    is left out of the mean over films, without. https://www.kaggle.com/c/rsna-pneumonia-detection-challenge
    """
    thresholds = np.asarray(thresholds, np.float64)
    called = _per_film(boxes.score[:, None] >= thresholds, boxes.film, boxes.films)
    either = called + boxes.true[:, None]
    total = np.zeros(either.shape)
    for finder in finders(boxes, ious, order=order):
        score = np.where(finder >= 0, boxes.score[finder] if len(boxes.score) else 0, -np.inf)
        true = _per_film(score[:, None] >= thresholds, boxes.true_film, boxes.films)
        total += true / np.maximum(either - true, 1)
    return np.where(either > 0, total / len(ious), np.nan)


def mean_score(scores: Float[np.ndarray, "N S"], weights: Weights) -> Float[np.ndarray, "S R"]:
    """The mean over the films whose score is defined; NaN where none is."""
    defined = ~np.isnan(scores)
    return _divide(np.nan_to_num(scores).T @ weights, defined.T.astype(np.float64) @ weights)


def average_precision(
    boxes: Boxes, weights: Weights, *, ious: Shaped[np.ndarray, " T"] = COCO_IOUS
) -> Float[np.ndarray, "T R"]:
    """COCO's average precision at each IoU: of all detections of all films in one order.

    The mean over `RECALLS` of the highest precision at that recall or a higher one; NaN without true boxes.
    COCO takes the 100 surest detections of a film: `Boxes.of(most=100)`. https://cocodataset.org
    """
    order = np.argsort(-boxes.score, kind="stable")
    film = boxes.film[order]
    called = np.cumsum(weights[film], axis=0)
    true = boxes.true @ weights
    found = np.full((len(ious), weights.shape[1]), np.nan)
    for place, finder in enumerate(finders(boxes, ious)):
        hit = np.zeros(len(order), bool)
        hit[finder[finder >= 0]] = True
        rows = np.flatnonzero(hit[order])
        right = np.cumsum(weights[film[rows]], axis=0)
        precision = _divide(right, called[rows], empty=0.0)
        best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        for column in np.flatnonzero(true > 0):
            reached = np.searchsorted(right[:, column] / true[column], RECALLS)
            there = best[reached[reached < len(rows)], column]
            found[place, column] = there.sum() / len(RECALLS)
    return found


def sensitivity_at_false_alarms(
    boxes: Boxes,
    weights: Weights,
    *,
    false_alarms: Shaped[np.ndarray, " A"] | tuple[float, ...] = FALSE_ALARMS,
    iou: float | None = None,
) -> Float[np.ndarray, "A R"]:
    """The share of true boxes that are found at so many false detections per film: points of a FROC curve.

    A detection is right whose middle is in a true box, or, with `iou`, that found one by that overlap. NaN
    without true boxes. Bunch et al., J. Appl. Photogr. Eng. 4, 166 (1978).
    """
    if iou is None:
        right, score = centred(boxes)
    else:
        (finder,) = finders(boxes, np.array([iou]))
        right = np.zeros(len(boxes.score), bool)
        right[finder[finder >= 0]] = True
        score = np.where(finder >= 0, boxes.score[finder] if len(boxes.score) else 0, -np.inf)
    order = np.argsort(-boxes.score[~right], kind="stable")
    wrong, film = boxes.score[~right][order], boxes.film[~right][order]
    alarms = np.cumsum(weights[film], axis=0)
    allowed = np.asarray(false_alarms, np.float64)[:, None] * weights.sum(axis=0)
    of_film = weights[boxes.true_film]
    num = of_film.sum(axis=0)
    # Above the first false detection that is one too many; below all of them if none is.
    edges = np.append(wrong, -np.inf)
    found = np.empty((len(allowed), weights.shape[1]))
    for place, limit in enumerate(allowed):
        cut = edges[(alarms <= limit).sum(axis=0)]
        found[place] = _divide((of_film * (score[:, None] > cut)).sum(axis=0), num)
    return found


def surest(boxes: Boxes) -> Float[np.ndarray, " N"]:
    """The highest score of every film, 0 where nothing was detected."""
    best = np.zeros(boxes.films)
    np.maximum.at(best, boxes.film, boxes.score)
    return best


def _per_film(
    flags: Shaped[np.ndarray, "M S"], film: Shaped[np.ndarray, " M"], films: int
) -> Float[np.ndarray, "N S"]:
    """How many of the flags of each film are set; films are in order."""
    summed = np.concatenate([np.zeros((1, flags.shape[1])), np.cumsum(flags, axis=0, dtype=np.float64)])
    edges = np.searchsorted(film, np.arange(films + 1))
    counts: Float[np.ndarray, "N S"] = summed[edges[1:]] - summed[edges[:-1]]
    return counts


def _divide(part: np.ndarray, whole: np.ndarray, *, empty: float = np.nan) -> np.ndarray:
    out: np.ndarray = np.full(np.broadcast_shapes(part.shape, whole.shape), empty)
    np.divide(part, whole, out=out, where=whole > 0)
    return out
