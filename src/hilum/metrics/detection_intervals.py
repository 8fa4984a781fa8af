"""Metrics of found boxes with intervals from a bootstrap over patients."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Shaped

from hilum.metrics.bootstrap import Estimate, bootstrap
from hilum.metrics.boxes import Boxes, Order
from hilum.metrics.detection import (
    COCO_IOUS,
    RSNA_IOUS,
    Weights,
    average_precision,
    mean_score,
    rsna_scores,
    sensitivity_at_false_alarms,
    surest,
)
from hilum.metrics.resampled import resample
from hilum.metrics.summary import interval

METRICS = {
    "rsna_score": "RSNA challenge score at the threshold",
    "box_precision": "average precision, IoU 0.40 to 0.75, all films",
    "box_precision_50": "average precision, IoU 0.50, all films",
    "box_precision_coco": "average precision, IoU 0.50 to 0.95, all films",
    "box_precision_boxed": "average precision, IoU 0.40 to 0.75, films with boxes only",
    "froc": "mean sensitivity at 1/8 to 8 false detections per film",
    "film_auroc": "AUROC of the surest box of a film",
}
"""What each is, in words."""

Values = Callable[[Weights], Float[np.ndarray, " R"]]


def values_of(boxes: Boxes, *, threshold: float | None, order: Order = "score") -> dict[str, Values]:
    """Each metric, but for film_auroc, as a function of how often each film counts.

    Without a threshold the RSNA score is undefined.
    """
    boxed = (boxes.true > 0)[:, None]
    scores = np.full((boxes.films, 1), np.nan)
    if threshold is not None:
        scores = rsna_scores(boxes, np.array([threshold]), order=order)
    half = np.array([0.5])
    return {
        "rsna_score": lambda weights: mean_score(scores, weights)[0],
        "box_precision": lambda weights: average_precision(boxes, weights, ious=RSNA_IOUS).mean(0),
        "box_precision_50": lambda weights: average_precision(boxes, weights, ious=half)[0],
        "box_precision_coco": lambda weights: average_precision(boxes, weights, ious=COCO_IOUS).mean(0),
        "box_precision_boxed": lambda weights: average_precision(boxes, weights * boxed, ious=RSNA_IOUS).mean(
            0
        ),
        "froc": lambda weights: sensitivity_at_false_alarms(boxes, weights).mean(0),
    }


def estimates(
    boxes: Boxes,
    *,
    patients: Shaped[np.ndarray, " N"],
    finding: str,
    threshold: float | None,
    replicates: int,
    seed: int = 0,
    order: Order = "score",
    level: float = 0.95,
) -> list[Estimate]:
    """Every metric of `METRICS`. Positives are films with boxes."""
    made = values_of(boxes, threshold=threshold, order=order)
    drawn = _drawn(made, patients, replicates, seed)
    once = np.ones((boxes.films, 1))
    counts = (boxes.films, len(np.unique(patients)), int((boxes.true > 0).sum()))
    found = []
    for metric, values in made.items():
        point = float(values(once)[0])
        if np.isnan(point):
            why = "no threshold" if metric == "rsna_score" and threshold is None else "no film has a box"
            if metric == "rsna_score" and threshold is not None:
                why = "no film has a box, and nothing was found"
            found.append(Estimate(metric, finding, None, None, None, *counts, f"undefined: {why}"))
            continue
        low, high, remarks = interval(drawn[metric], patients=counts[1], level=level)
        found.append(Estimate(metric, finding, point, low, high, *counts, "; ".join(remarks)))
    return [*found, _film_auroc(boxes, patients, finding, replicates, seed)]


def resampled(
    values: Callable[[Weights], Float[np.ndarray, "r M"]],
    patients: Shaped[np.ndarray, " N"],
    replicates: int,
    seed: int,
) -> Float[np.ndarray, "R M"]:
    """Functions of how often each film counts, a column each, in every resample of the patients."""
    _, patient = np.unique(patients, return_inverse=True)
    num = int(patient.max()) + 1
    return resample(
        [lambda drawn: values(drawn[patient].astype(np.float64))], num, replicates=replicates, seed=seed
    )


def _drawn(
    made: Mapping[str, Values], patients: Shaped[np.ndarray, " N"], replicates: int, seed: int
) -> dict[str, Float[np.ndarray, " R"]]:
    sampled = resampled(
        lambda weights: np.stack([values(weights) for values in made.values()], axis=1),
        patients,
        replicates,
        seed,
    )
    return dict(zip(made, sampled.T, strict=True))


def _film_auroc(
    boxes: Boxes, patients: Shaped[np.ndarray, " N"], finding: str, replicates: int, seed: int
) -> Estimate:
    (found,) = bootstrap(
        "auroc",
        (boxes.true > 0).astype(np.float64)[:, None],
        surest(boxes)[:, None],
        patients=patients,
        findings=[finding],
        replicates=replicates,
        seed=seed,
    )
    return Estimate("film_auroc", *list(vars(found).values())[1:])
