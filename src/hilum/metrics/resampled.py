"""Metrics under many resamples of the patients at once, for the bootstrap.

A resample says how often each patient was drawn. What does not depend on it is prepared once per
finding: the ranking, its ties, and which patient owns which image. A metric is then sums over patients (a
sparse matrix times the counts of a chunk of resamples) and a few operations on the sums.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Shaped
from scipy.sparse import csr_array

Metric = Callable[[Float32[np.ndarray, "P R"]], Float[np.ndarray, "R M"]]
"""From how often each patient was drawn in each resample to metrics in each; NaN is undefined."""

CHUNK = 64
"""Resamples that are computed together, and drawn from one stream: another number draws other patients."""

EXACT = 2**20
"""So many images are counted without error in float32, with room for an uneven draw."""


def draw(num_patients: int, chunk: int, *, seed: int) -> Float32[np.ndarray, "P R"]:
    """How often each patient was drawn in each of the resamples of a chunk."""
    rng = np.random.default_rng([seed, chunk])
    drawn = np.empty((CHUNK, num_patients), np.float32)
    for row in drawn:
        row[:] = np.bincount(rng.integers(num_patients, size=num_patients), minlength=num_patients)
    return np.ascontiguousarray(drawn.T)


def resample(
    metrics: Sequence[Metric], num_patients: int, *, replicates: int, seed: int, threads: int | None = None
) -> Float[np.ndarray, "R C"]:
    """Every metric in every resample, side by side; the same for any number of threads."""

    def values(chunk: int) -> Float[np.ndarray, "r C"]:
        num = min(CHUNK, replicates - chunk * CHUNK)
        drawn = np.ascontiguousarray(draw(num_patients, chunk, seed=seed)[:, :num])
        return np.concatenate([metric(drawn) for metric in metrics], axis=1)

    chunks = range(-(-replicates // CHUNK))
    with ThreadPoolExecutor(threads or min(4, os.cpu_count() or 1)) as pool:
        return np.concatenate(list(pool.map(values, chunks)))


DECISIONS = ("accuracy", "sensitivity", "specificity", "ppv", "npv", "f1")
"""Metrics of decisions at a threshold."""


def prepare(
    metrics: Sequence[str],
    truth: Shaped[np.ndarray, " N"],
    score: Shaped[np.ndarray, " N"],
    *,
    patient: Int[np.ndarray, " N"],
    num_patients: int,
    threshold: float,
) -> Metric:
    """The metrics of one finding, a column each; unknown labels (NaN) are left out.

    Patients are numbered from 0. Besides the metrics there is "positives", their number.
    """
    known = ~np.isnan(truth)
    positive, value, owner = truth[known] == 1, score[known].astype(np.float64), patient[known]

    def sums(parts: Sequence[np.ndarray], number: type[np.floating]) -> Float[np.ndarray, "S P"]:
        rows = [np.bincount(owner, weights=part, minlength=num_patients) for part in parts]
        return np.stack(rows).astype(number)

    made: dict[str, Callable[[Float32[np.ndarray, "P R"]], Float[np.ndarray, " R"]]] = {}
    if "auroc" in metrics:
        made["auroc"] = _Ranking.of(positive, value, owner, num_patients, either=True).auroc
    if "average_precision" in metrics:
        made["average_precision"] = _Ranking.of(positive, value, owner, num_patients).average_precision
    if "brier" in metrics:
        loss = sums([(value - positive) ** 2, np.ones(len(value))], np.float64)
        made["brier"] = lambda drawn: _divide(*(loss @ drawn))
    if "positives" in metrics:
        count = sums([positive], np.float32)
        made["positives"] = lambda drawn: (count @ drawn)[0].astype(np.float64)
    called = value >= threshold
    cells = [positive & called, positive & ~called, ~positive & called, ~positive & ~called]
    # Counts of so many images are exact in float32, and a product of float32 needs no copy of the draws.
    table = sums(cells, np.float32 if len(value) <= EXACT else np.float64)

    def values(drawn: Float32[np.ndarray, "P R"]) -> Float[np.ndarray, "R M"]:
        wanted = set(metrics) & set(DECISIONS)
        nothing = np.full(drawn.shape[1], np.nan)
        found = {name: metric(drawn) for name, metric in made.items()}
        if wanted and not np.isnan(threshold):
            found |= _decisions((table @ drawn).astype(np.float64))
        return np.stack([found.get(metric, nothing) for metric in metrics], axis=1)

    return values


def _decisions(counts: Float[np.ndarray, "4 R"]) -> dict[str, Float[np.ndarray, " R"]]:
    """Metrics of true positives, false negatives, false positives and true negatives."""
    tp, fn, fp, tn = counts
    return {
        "accuracy": _divide(tp + tn, tp + fn + fp + tn),
        "sensitivity": _divide(tp, tp + fn),
        "specificity": _divide(tn, fp + tn),
        "ppv": _divide(tp, tp + fp),
        "npv": _divide(tn, fn + tn),
        # Without positives it would be 0 for any decisions.
        "f1": np.where(tp + fn > 0, _divide(2 * tp, 2 * tp + fn + fp), np.nan),
    }


@dataclass(frozen=True)
class _Ranking:
    """Images by score, cut at the K distinct scores that positives have.

    Between two cuts lie only negatives, and only their sum matters. Each matrix maps patients to
    counts: positives and negatives at cut k (`positive`, `tied`), and negatives below cut k but above k - 1
    (`between`; the last row, above all cuts).
    """

    positive: csr_array
    tied: csr_array
    between: csr_array

    @classmethod
    def of(
        cls,
        positive: Bool[np.ndarray, " M"],
        value: Float[np.ndarray, " M"],
        owner: Int[np.ndarray, " M"],
        num_patients: int,
        *,
        either: bool = False,
    ) -> "_Ranking":
        """The ranking, of the fewer cuts that positives and negatives make if `either` may be cut at.

        Turned upside down, with the classes exchanged, a ranking has the same AUROC.
        """
        levels, group = np.unique(value, return_inverse=True)
        if either and len(np.unique(group[~positive])) < len(np.unique(group[positive])):
            positive, group = ~positive, len(levels) - 1 - group
        is_cut = np.zeros(len(levels), bool)
        is_cut[group[positive]] = True
        place, num = (np.cumsum(is_cut) - is_cut)[group], int(is_cut.sum())
        number = np.float32 if len(value) <= EXACT else np.float64

        def counts(chosen: Bool[np.ndarray, " M"], num_rows: int) -> csr_array:
            entries = np.ones(int(chosen.sum()), number)
            return csr_array((entries, (place[chosen], owner[chosen])), shape=(num_rows, num_patients))

        at = is_cut[group]
        return cls(counts(positive, num), counts(~positive & at, num), counts(~positive & ~at, num + 1))

    def auroc(self, drawn: Float32[np.ndarray, "P R"]) -> Float[np.ndarray, " R"]:
        """Pairs of a negative below a positive, ties counting half, among all pairs."""
        positive, tied, below = self._counts(drawn)
        num_positive, num_negative = _sum(positive), _sum(tied) + _sum(below)
        below = below[:-1]
        if self.tied.nnz:
            below += tied
        below = _running_sum(below)
        if self.tied.nnz:
            below -= tied / 2
        won = np.einsum("kr,kr->r", positive, below, dtype=np.float64)
        return _divide(won, num_positive * num_negative)

    def average_precision(self, drawn: Float32[np.ndarray, "P R"]) -> Float[np.ndarray, " R"]:
        """The mean over the positives of the precision at their score."""
        positive, tied, between = (counts[::-1] for counts in self._counts(drawn))
        num_positive, num_negative = _sum(positive), _sum(tied) + _sum(between)
        true = _running_sum(positive)
        called = true + _running_sum(between[:-1] + tied)
        # Where nothing is called, nothing is true either: the quotient is 0.
        precision = np.divide(true, np.maximum(called, 1), dtype=np.float64)
        gained = np.einsum("kr,kr->r", positive, precision, dtype=np.float64)
        return np.where(num_negative > 0, _divide(gained, num_positive), np.nan)

    def _counts(self, drawn: Float32[np.ndarray, "P R"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Counts of images at (and between) the cuts: whole numbers, exact in their type."""
        return self.positive @ drawn, self.tied @ drawn, self.between @ drawn


def _sum(counts: Float[np.ndarray, "K R"]) -> Float[np.ndarray, " R"]:
    total: np.ndarray = counts.sum(axis=0, dtype=np.float64)
    return total


def _running_sum(counts: Float[np.ndarray, "K R"]) -> Float[np.ndarray, "K R"]:
    """The cumulative sum over the first axis, in blocks of whole rows: numpy's own jumps from row to row."""
    num, width = counts.shape
    length = max(1, int(num**0.5))
    blocks = np.zeros((-(-num // length), length, width), counts.dtype)
    blocks.reshape(-1, width)[:num] = counts
    for row in range(1, length):
        blocks[:, row] += blocks[:, row - 1]
    blocks[1:] += np.cumsum(blocks[:-1, -1], axis=0)[:, None]
    summed: np.ndarray = blocks.reshape(-1, width)[:num]
    return summed


def _divide(part: Float[np.ndarray, " R"], whole: Float[np.ndarray, " R"]) -> Float[np.ndarray, " R"]:
    out: np.ndarray = np.full(len(part), np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out
