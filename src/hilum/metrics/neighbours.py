"""Nearest films by their embeddings, and how well they tell what else is known of a film."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.stats import rankdata

from hilum.metrics.classification import auroc
from hilum.metrics.resampled import CHUNK, draw
from hilum.metrics.summary import interval

K = 10
"""Neighbours that are asked."""
PERMUTATIONS = 200
ROWS = 512
"""Films that are compared with all others at a time."""

Score = Callable[[Shaped[np.ndarray, " M"]], float]


@dataclass(frozen=True)
class Told:
    """How well neighbours tell a column, beside what they tell of one whose values were dealt out at random.

    AUROC where there are two values, balanced accuracy (the mean over values of the share told right) where
    there are more, the correlation of ranks for a number. `low` to `high` and `chance_low` to `chance_high`
    hold 95 %. None is undefined; `note` says why.
    """

    metric: Literal["AUROC", "balanced accuracy", "rank correlation", ""]
    images: int
    patients: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    chance_low: float | None = None
    chance_high: float | None = None
    note: str = ""

    @property
    def is_told(self) -> bool:
        """Whether the value lies above the range of chance, and its interval above the mean of chance."""
        if self.value is None or self.low is None or self.chance is None or self.chance_high is None:
            return False
        return self.value > self.chance_high and self.low > self.chance


def nearest(
    features: Float[np.ndarray, "N D"],
    group: Int[np.ndarray, " N"],
    *,
    k: int,
    queries: Float[np.ndarray, "Q D"] | None = None,
    query_group: Int[np.ndarray, " Q"] | None = None,
) -> tuple[Int[np.ndarray, "Q k"], Float[np.ndarray, "Q k"]]:
    """The k films most similar to each query, best first, and their cosine similarities.

    Films of the query's own group, for example its patient's, are no neighbours. Where fewer than k are left,
    the place is -1 and the similarity NaN. Without `queries` every film is one.
    """
    unit = _unit(features)
    asked = unit if queries is None else _unit(queries)
    own = group if query_group is None else query_group
    places = np.full((len(asked), k), -1, np.int64)
    found = np.full((len(asked), k), np.nan)
    take = min(k, len(unit))
    for start in range(0, len(asked), ROWS):
        rows = slice(start, start + ROWS)
        similarity = asked[rows] @ unit.T
        similarity[own[rows, None] == group[None]] = -np.inf
        best = np.sort(np.argpartition(-similarity, take - 1, axis=1)[:, :take], axis=1)
        values = np.take_along_axis(similarity, best, 1)
        order = np.argsort(-values, axis=1, kind="stable")
        best, values = np.take_along_axis(best, order, 1), np.take_along_axis(values, order, 1)
        there = np.isfinite(values)
        places[rows, :take] = np.where(there, best, -1)
        found[rows, :take] = np.where(there, np.clip(values, -1, 1), np.nan)
    return places, found


def tell(
    features: Float[np.ndarray, "N D"],
    columns: Mapping[str, Shaped[np.ndarray, " N"]],
    *,
    patient: Int[np.ndarray, " N"],
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Told]:
    """How well the `K` nearest films of other patients tell each column of a table.

    A column of whole numbers is one of values, -1 where unknown; one of floats is a number, NaN where
    unknown. Unknown films neither ask nor are asked. The bootstrap draws patients as those who ask. For
    chance the columns of whole patients are dealt out anew, so that a patient's films stay alike.
    """
    kept: dict[bytes, Int[np.ndarray, "M k"]] = {}
    found = {}
    for name, column in columns.items():
        is_number = np.issubdtype(column.dtype, np.floating)
        known, note = (~np.isnan(column), "") if is_number else _known_classes(column, patient)
        images, patients = int(known.sum()), len(np.unique(patient[known]))
        values, own = column[known], np.unique(patient[known], return_inverse=True)[1]
        lacking = _lacking(values, patients, note)
        if lacking:
            found[name] = Told("", images, patients, note=lacking)
            continue
        key = known.tobytes()
        if key not in kept:
            kept[key] = nearest(features[known], own, k=K)[0]
        found[name] = _told(values, kept[key], own, replicates=replicates, seed=seed, note=note)
    return found


def _told(
    values: Shaped[np.ndarray, " M"],
    near: Int[np.ndarray, "M k"],
    own: Int[np.ndarray, " M"],
    *,
    replicates: int,
    seed: int,
    note: str,
) -> Told:
    if not np.issubdtype(values.dtype, np.floating):
        values = np.unique(values, return_inverse=True)[1]
    metric, score = _measure(values)
    num = int(own.max()) + 1
    everybody = np.ones((num, 1), np.float32)
    value = float(score(values, near, everybody[own])[0])
    chunks = [draw(num, chunk, seed=seed) for chunk in range(-(-replicates // CHUNK))]
    drawn = np.concatenate([score(values, near, chunk[own]) for chunk in chunks])[:replicates]
    low, high, remarks = interval(drawn, patients=num, level=0.95)
    random, dealt = np.random.default_rng(seed), []
    for _ in range(PERMUTATIONS):
        dealt.append(float(score(deal(values, own, random), near, everybody[own])[0]))
    chance_low, chance_high = np.quantile(dealt, [0.025, 0.975]).tolist()
    said = "; ".join([part for part in (note, *remarks) if part])
    chance = float(np.mean(dealt))
    return Told(metric, len(values), num, value, low, high, chance, chance_low, chance_high, said)


def deal(
    values: Shaped[np.ndarray, " M"], own: Int[np.ndarray, " M"], random: np.random.Generator
) -> Shaped[np.ndarray, " M"]:
    """The values of whole patients, laid end to end in a random order over the films sorted by patient."""
    rows = np.argsort(own, kind="stable")
    starts = np.flatnonzero(np.diff(own[rows], prepend=-1))
    blocks = np.split(values[rows], starts[1:])
    dealt = np.empty_like(values)
    dealt[rows] = np.concatenate([blocks[block] for block in random.permutation(len(blocks))])
    return dealt


def _measure(
    values: Shaped[np.ndarray, " M"],
) -> tuple[Literal["AUROC", "balanced accuracy", "rank correlation"], Callable[..., np.ndarray]]:
    if np.issubdtype(values.dtype, np.floating):
        return "rank correlation", _rank_correlation
    return ("AUROC", _auroc) if values.max() == 1 else ("balanced accuracy", _balanced_accuracy)


def _auroc(
    values: Int[np.ndarray, " M"], near: Int[np.ndarray, "M k"], weight: Float[np.ndarray, "M R"]
) -> Float[np.ndarray, " R"]:
    there = near >= 0
    share = ((values[near] == 1) & there).sum(1) / np.maximum(there.sum(1), 1)
    return np.array([auroc(values, share, weight=column) for column in weight.T])


def _balanced_accuracy(
    values: Int[np.ndarray, " M"], near: Int[np.ndarray, "M k"], weight: Float[np.ndarray, "M R"]
) -> Float[np.ndarray, " R"]:
    classes = np.arange(int(values.max()) + 1)
    # Of equally many votes those count whose films are nearer.
    votes = np.where(near >= 0, 1 + 1e-6 * np.arange(near.shape[1], 0, -1), 0)
    counts = np.stack([((values[near] == one) * votes).sum(1) for one in classes], axis=1)
    right = counts.argmax(1) == values
    recalls = []
    for one in classes:
        among = weight[values == one]
        hits, all_of_it = among[right[values == one]].sum(0), among.sum(0)
        recalls.append(np.divide(hits, all_of_it, out=np.full(len(hits), np.nan), where=all_of_it > 0))
    mean: np.ndarray = np.mean(recalls, axis=0)
    return mean


def _rank_correlation(
    values: Float[np.ndarray, " M"], near: Int[np.ndarray, "M k"], weight: Float[np.ndarray, "M R"]
) -> Float[np.ndarray, " R"]:
    there = near >= 0
    said = np.where(there, values[near], 0).sum(1) / np.maximum(there.sum(1), 1)
    ranks = np.stack([rankdata(values), rankdata(said)])
    share = weight.astype(np.float64) / weight.sum(0, dtype=np.float64)
    mean = ranks @ share
    product = (ranks[0] * ranks[1]) @ share - mean[0] * mean[1]
    variance = (ranks**2) @ share - mean**2
    root = np.sqrt(np.maximum(variance[0] * variance[1], 0))
    found: np.ndarray = np.divide(product, root, out=np.full(len(root), np.nan), where=root > 0)
    return found


def _known_classes(
    column: Int[np.ndarray, " N"], patient: Int[np.ndarray, " N"]
) -> tuple[Bool[np.ndarray, " N"], str]:
    """Where the column is known and its value is that of two patients or more."""
    known: np.ndarray = column >= 0
    alone = [one for one in np.unique(column[known]) if len(np.unique(patient[column == one])) < 2]
    note = f"{len(alone)} value{'s' * (len(alone) > 1)} of a single patient left out" if alone else ""
    known &= ~np.isin(column, alone)
    return known, note


def _lacking(values: Shaped[np.ndarray, " M"], patients: int, note: str) -> str:
    """Why nothing can be told, if so."""
    if len(np.unique(values)) < 2:
        return "; ".join(filter(None, ["the known films do not differ in it", note]))
    return "its films are of fewer than three patients" if patients < 3 else ""


def _unit(features: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    # An untrained encoder's embeddings are so alike that float32 would shuffle the nearest.
    exact: np.ndarray = features.astype(np.float64)
    exact /= np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-300)
    return exact
