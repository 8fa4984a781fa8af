"""Maps against the boxes of the records: what a method scores, beside what needs no learning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from hilum.images.store import Store
from hilum.images.warp import Fit
from hilum.metrics.bootstrap import Estimate
from hilum.metrics.localisation import (
    METRICS,
    best_threshold,
    box_mask,
    centre_map,
    localisation,
    mean_estimates,
    uniform_map,
)
from hilum.records.boxes import boxes_of, scaling
from hilum.records.table import Records
from hilum.saliency.maps import FilmMap
from hilum.saliency.placement import heat_map

RANDOM_WEIGHTS = "random weights"
"""The floor of a model of the same architecture that has learnt nothing."""


@dataclass(frozen=True)
class Judged:
    """Maps of films and the truth about them, at the size of the stored film."""

    heats: list[Float[np.ndarray, "_ _"]]
    masks: list[Bool[np.ndarray, "_ _"]]

    @classmethod
    def of(
        cls, maps: Sequence[FilmMap], records: Records, store: Store, *, finding: str, fit: Fit
    ) -> "Judged":
        """The maps of films that have boxes of the finding, in the order of the table."""
        rows = store.rows(records.table["image"].tolist()).tolist()
        sizes = [(int(store[row].shape[0]), int(store[row].shape[1])) for row in rows]
        boxes = [
            found * scaling(store.source_size(row), size)
            for found, row, size in zip(boxes_of(records, finding), rows, sizes, strict=True)
        ]
        return cls(
            [heat_map(one.scores, size, fit=fit) for one, size in zip(maps, sizes, strict=True)],
            [box_mask(found, size) for found, size in zip(boxes, sizes, strict=True)],
        )


@dataclass(frozen=True)
class Scores:
    """What some maps score, by metric and name; of the first of them also how far it is above each other."""

    estimates: dict[str, dict[str, Estimate]]
    differences: dict[str, dict[str, Estimate]]
    thresholds: dict[str, float | None]
    """Chosen on validation films."""
    flat: dict[str, int]
    """Films whose map is flat, and scores as chance does."""
    validation: int
    """Validation films that thresholds were chosen on."""


def score(
    judged: Mapping[str, tuple[Judged, Judged]],
    *,
    finding: str,
    patients: NDArray[np.object_],
    tolerance: float,
    replicates: int,
) -> Scores:
    """Every metric with its interval, of each kind of map and of two floors that see no film.

    Args:
        judged: by name, the maps of validation films (empty: no thresholds) and those that are scored; the
            first name is the method, and all are of the same films.
        finding: for the table.
        patients: of the scored films.
        tolerance: of pointing, pixels of the stored film.
        replicates: bootstrap replicates.
    """
    method, (val, test) = next(iter(judged.items()))
    everything = dict(judged)
    for name, floor in (("centre", centre_map), ("uniform", uniform_map)):
        everything[name] = (
            Judged([floor(heat) for heat in val.heats], val.masks),
            Judged([floor(heat) for heat in test.heats], test.masks),
        )
    thresholds = {name: best_threshold(of.heats, of.masks) for name, (of, _) in everything.items()}
    found = {
        name: localisation(of.heats, of.masks, threshold=thresholds[name], tolerance=tolerance)
        for name, (_, of) in everything.items()
    }
    estimates: dict[str, dict[str, Estimate]] = {metric: {} for metric in METRICS}
    differences: dict[str, dict[str, Estimate]] = {metric: {} for metric in METRICS}

    def means(values: Mapping[str, NDArray[np.float64]]) -> dict[str, Estimate]:
        made = mean_estimates(values, finding=finding, patients=patients, replicates=replicates)
        missing = "undefined: no validation film has a box, so there is no threshold"
        num = (len(patients), len(set(patients)), len(patients))
        lost = [m for m in METRICS if m not in values]
        return {one.metric: one for one in made} | {
            metric: Estimate(metric, finding, None, None, None, *num, missing) for metric in lost
        }

    for name, values in found.items():
        for metric, one in means(values).items():
            estimates[metric][name] = one
        if name != method:
            above = {metric: found[method][metric] - values[metric] for metric in values}
            for metric, one in means(above).items():
                differences[metric][name] = one
    flat = {name: sum(np.nanmin(h) == np.nanmax(h) for h in of.heats) for name, (_, of) in judged.items()}
    return Scores(
        estimates, differences, thresholds, {n: int(count) for n, count in flat.items()}, len(val.heats)
    )
