"""DeLong's variance of AUROCs on the same films, clustered where a patient has several of them.

A placement is the share of the other class that a film ranks on its right side of, ties counting half;
their means are the AUROC, and its variance is theirs (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 837,
1988, https://doi.org/10.2307/2531595; sorted, not pair by pair, as Sun and Xu, IEEE Signal Processing
Letters 21, 1389, 2014, https://doi.org/10.1109/LSP.2014.2337313). Films of one patient are not independent:
their placements are summed first (Obuchowski, Biometrics 53, 567, 1997, https://doi.org/10.2307/2533958).
With one film per patient the two are the same number.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Int, Shaped

from hilum.errors import RecordsError

LEVEL = 0.95


@dataclass(frozen=True)
class Placements:
    """What K scores make of the same films: those of the M positives and of the N negatives.

    `positive_patients` and `negative_patients` say whose film each is, patients counted from 0. A weighted
    sum of AUROCs, such as their mean over seeds or a difference, has that sum of placements.
    """

    positive: Float[np.ndarray, "K M"]
    negative: Float[np.ndarray, "K N"]
    positive_patients: Int[np.ndarray, " M"]
    negative_patients: Int[np.ndarray, " N"]

    @property
    def auroc(self) -> Float[np.ndarray, " K"]:
        """The AUROC of every score; NaN without both classes."""
        if not self.positive.shape[1] or not self.negative.shape[1]:
            return np.full(len(self.positive), np.nan)
        mean: np.ndarray = self.positive.mean(axis=1)
        return mean

    def combined(self, weights: Float[np.ndarray, "L K"]) -> "Placements":
        """The placements of weighted sums of the scores' AUROCs, for example (1, -1) for a difference."""
        return Placements(
            weights @ self.positive, weights @ self.negative, self.positive_patients, self.negative_patients
        )

    def covariance(self) -> Float[np.ndarray, "K K"]:
        """The covariance of the AUROCs (Obuchowski 1997, section 2); NaN below two patients of a class."""
        num = 1 + max(self.positive_patients.max(initial=-1), self.negative_patients.max(initial=-1))
        of_positives, with_positives = _by_patient(self.positive, self.positive_patients, int(num))
        of_negatives, with_negatives = _by_patient(self.negative, self.negative_patients, int(num))
        if min(with_positives, with_negatives) < 2:
            return np.full((len(self.positive),) * 2, np.nan)
        m, n = self.positive.shape[1], self.negative.shape[1]
        patients = len(np.union1d(self.positive_patients, self.negative_patients))
        cross = of_positives @ of_negatives.T
        found: np.ndarray = (
            with_positives / (with_positives - 1) * (of_positives @ of_positives.T) / m**2
            + with_negatives / (with_negatives - 1) * (of_negatives @ of_negatives.T) / n**2
            + patients / (patients - 1) * (cross + cross.T) / (m * n)
        )
        return found


@dataclass(frozen=True)
class DeLong:
    """The difference of two AUROCs with its standard error, its 95 % interval and the two-sided p.

    NaN where fewer than two patients have a positive, or a negative; where the placements of the two differ
    by the same amount everywhere, which leaves no spread to judge by, p is 1 for no difference and else NaN.
    """

    difference: float
    error: float
    low: float
    high: float
    p: float


def placements(
    truth: Shaped[np.ndarray, " N"],
    scores: Shaped[np.ndarray, "K N"],
    *,
    patients: Shaped[np.ndarray, " N"],
) -> Placements:
    """The placements of each score (a row each) of films with labels 1, 0 or NaN (unknown, left out).

    Raises:
        RecordsError: a film with a known label has a score that is not finite.
    """
    positive, negative = truth == 1, truth == 0
    if not np.isfinite(scores[:, positive | negative]).all():
        raise RecordsError("scores: a film with a known label has a score that is not finite")
    owner = np.unique(patients, return_inverse=True)[1]
    high, low = scores[:, positive].astype(np.float64), scores[:, negative].astype(np.float64)
    return Placements(
        np.stack([_share_below(ours, others) for ours, others in zip(high, low, strict=True)]),
        np.stack([1 - _share_below(ours, others) for ours, others in zip(low, high, strict=True)]),
        owner[positive],
        owner[negative],
    )


def delong(
    truth: Shaped[np.ndarray, " N"],
    score_a: Shaped[np.ndarray, " N"],
    score_b: Shaped[np.ndarray, " N"],
    *,
    patients: Shaped[np.ndarray, " N"],
) -> DeLong:
    """The AUROC of `score_a` minus that of `score_b` on the same films."""
    both = placements(truth, np.stack([score_a, score_b]), patients=patients)
    return contrast(both.combined(np.array([[1.0, -1.0]])))


def contrast(difference: Placements) -> DeLong:
    """The test of one difference of AUROCs, or of their means, from its placements (K is 1)."""
    assert len(difference.positive) == 1, len(difference.positive)
    value, error = float(difference.auroc[0]), _error(difference)
    if math.isnan(error):
        return DeLong(value, error, error, error, error)
    reach = NormalDist().inv_cdf((1 + LEVEL) / 2) * error
    none = 1.0 if value == 0 else math.nan
    p = math.erfc(abs(value) / error / math.sqrt(2)) if error else none
    return DeLong(value, error, value - reach, value + reach, p)


def auroc_interval(
    truth: Shaped[np.ndarray, " N"],
    score: Shaped[np.ndarray, " N"],
    *,
    patients: Shaped[np.ndarray, " N"],
) -> tuple[float, float]:
    """The 95 % interval of one AUROC, symmetric in its logit, so that it stays within 0 and 1.

    NaN where the AUROC is 0 or 1, which leaves no spread to judge by, or has no variance.
    """
    one = placements(truth, score[None], patients=patients)
    area, error = float(one.auroc[0]), _error(one)
    if not 0 < area < 1 or math.isnan(error):
        return math.nan, math.nan
    centre = math.log(area / (1 - area))
    reach = NormalDist().inv_cdf((1 + LEVEL) / 2) * error / (area * (1 - area))
    low, high = (1 / (1 + math.exp(-edge)) for edge in (centre - reach, centre + reach))
    return low, high


def _error(one: Placements) -> float:
    variance = float(one.covariance()[0, 0])
    # Of clustered films the estimate may fall below 0 by a little; there is no less spread than none.
    return variance if math.isnan(variance) else math.sqrt(max(0.0, variance))


def _share_below(ours: Float[np.ndarray, " A"], others: Float[np.ndarray, " B"]) -> Float[np.ndarray, " A"]:
    """The share of the others that is below each of ours, equal ones counting half."""
    ordered = np.sort(others)
    twice = np.searchsorted(ordered, ours, "left") + np.searchsorted(ordered, ours, "right")
    share: np.ndarray = twice / (2 * max(len(ordered), 1))
    return share


def _by_patient(
    placed: Float[np.ndarray, "K M"], patients: Int[np.ndarray, " M"], num: int
) -> tuple[Float[np.ndarray, "K P"], int]:
    """The sum over each patient's films of placement minus AUROC, and how many patients have any film."""
    if not placed.shape[1]:
        return np.zeros((len(placed), num)), 0
    centred = placed - placed.mean(axis=1, keepdims=True)
    sums = np.stack([np.bincount(patients, weights=row, minlength=num) for row in centred])
    return sums, len(np.unique(patients))
