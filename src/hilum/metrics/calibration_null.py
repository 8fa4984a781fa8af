"""The calibration error that a perfectly calibrated model has, since its films are finitely many.

Labels are drawn from the probabilities themselves and the error is computed again, many times; what was
measured is then compared with that, not with 0. Labels of one patient's films are not independent: a patient
has the finding in most films or in none. They are therefore drawn so that, with a chance estimated from the
labels, one random number decides all films of a patient; without that, calibrated models are found guilty
often where patients have many films.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.sparse import csr_array

from hilum.metrics.calibration import BINS, bins

SIMULATIONS = 1000
"""Drawn labels behind a mean and a 95th percentile."""

TOGETHER = 50
"""Simulations that are computed together, and drawn from one stream: another number draws other labels."""


@dataclass(frozen=True)
class Null:
    """Calibration error of a calibrated model with these probabilities: its mean and its 95th percentile.

    `shared` is the chance that one number decides a patient's films.
    """

    mean: float
    high: float
    shared: float


def null_error(
    truth: Float[np.ndarray, "N F"],
    probability: Float[np.ndarray, "N F"],
    *,
    patients: Shaped[np.ndarray, " N"],
    num: int = BINS,
    simulations: int = SIMULATIONS,
    seed: int = 0,
) -> list[Null | None]:
    """The null of every finding, in bins of equal mass; None where no label is known.

    Truth says which labels are known (not NaN), and how alike those of a patient are.
    """
    owner = np.unique(patients, return_inverse=True)[1]
    findings = [
        _Finding.of(label, value, owner, num=num) for label, value in zip(truth.T, probability.T, strict=True)
    ]
    alone = owner.max() + 1 == len(owner)
    errors = np.empty((len(findings), simulations))
    for start in range(0, simulations, TOGETHER):
        size = min(TOGETHER, simulations - start)
        rng = np.random.default_rng([seed, start])
        own = rng.random((len(owner), size), np.float32)
        if not alone:
            both = rng.random((2, owner.max() + 1, size), np.float32)
            common, coin = both[0][owner], both[1][owner]
        for row, finding in enumerate(findings):
            if finding is None:
                continue
            number = own if alone or not finding.shared else np.where(coin < finding.shared, common, own)
            errors[row, start : start + size] = finding.errors(number[finding.known])
    return [
        Null(float(row.mean()), float(np.quantile(row, 0.95)), finding.shared) if finding else None
        for row, finding in zip(errors, findings, strict=True)
    ]


@dataclass(frozen=True)
class _Finding:
    known: Bool[np.ndarray, " N"]
    value: Float[np.ndarray, "M 1"]
    binned: csr_array
    expected: Float[np.ndarray, "K 1"]
    shared: float

    @classmethod
    def of(
        cls,
        label: Float[np.ndarray, " N"],
        value: Float[np.ndarray, " N"],
        owner: Int[np.ndarray, " N"],
        *,
        num: int,
    ) -> "_Finding | None":
        known = ~np.isnan(label)
        if not known.any():
            return None
        value, place = value[known], bins(value[known], num=num)
        rows = (np.ones(len(value), np.float32), (place, np.arange(len(value))))
        binned = csr_array(rows, shape=(num, len(value)))
        expected = np.bincount(place, value, minlength=num)[:, None]
        shared = shared_chance(label[known], value, owner[known], place=place)
        return cls(known, value[:, None].astype(np.float32), binned, expected, shared)

    def errors(self, number: Float[np.ndarray, "M R"]) -> Float[np.ndarray, " R"]:
        positives = self.binned @ (number < self.value).astype(np.float32)
        found: Float[np.ndarray, " R"] = np.abs(positives - self.expected).sum(axis=0) / len(self.value)
        return found


def shared_chance(
    label: Float[np.ndarray, " N"],
    value: Float[np.ndarray, " N"],
    owner: Int[np.ndarray, " N"],
    *,
    place: Int[np.ndarray, " N"],
) -> float:
    """How alike a patient's labels are, beyond what their probabilities say: 0 not at all, 1 wholly.

    The sum over pairs of a patient's films of the product of their residuals, against that sum if one number
    decided both. Residuals are of their bin's mean, so that a miscalibrated bin does not pass for likeness.
    """
    size = np.bincount(place)
    residual = label - value
    residual = residual - (np.bincount(place, residual) / np.maximum(size, 1))[place]
    pairs = _pairs(residual, owner)
    order = np.lexsort((value, owner))
    films = np.bincount(owner)
    # In the order of its probabilities, a film is the lesser of a pair with every later film of its patient.
    start = np.cumsum(films) - films
    later = films[owner[order]] - 1 - (np.arange(len(order)) - start[owner[order]])
    most = float(value[order] @ later) - _pairs(value, owner)
    return float(np.clip(pairs / most, 0, 1)) if most > 1e-12 else 0.0


def _pairs(value: Float[np.ndarray, " N"], owner: Int[np.ndarray, " N"]) -> float:
    """The sum of products over all pairs of films of a patient."""
    return float((np.bincount(owner, value) ** 2 - np.bincount(owner, value**2)).sum() / 2)
