"""Grades of severity from labels of "this grade or more", and how well those decided agree with the truth."""

import numpy as np
from jaxtyping import Float, Float32, Int, Shaped

from hilum.errors import ConfigError, RecordsError
from hilum.metrics.bootstrap import Estimate
from hilum.metrics.resampled import resample
from hilum.metrics.summary import interval


def grades(labels: Shaped[np.ndarray, "N K"]) -> Float[np.ndarray, " N"]:
    """The grade of every radiograph by its labels or decisions of "grade k or more"; NaN if one is.

    >>> grades(np.array([[1.0, 1.0, 0.0], [1.0, np.nan, 0.0]])).tolist()
    [2.0, nan]
    """
    summed: Float[np.ndarray, " N"] = labels.astype(np.float64).sum(axis=1)
    return summed


def quadratic_kappa(truth: Shaped[np.ndarray, " N"], decided: Shaped[np.ndarray, " N"]) -> float:
    """Cohen's kappa with disagreement weighted by the square of the difference in grades.

    1 is agreement, 0 is what chance would give. Unknown true grades (NaN) are left out. NaN is undefined: no
    grade is known, a known one is not decided, or all are one and the same grade.

    Cohen, Psychological Bulletin 70, 213 (1968).

    >>> quadratic_kappa(np.array([0, 1, 2, 3]), np.array([0, 1, 2, 2])).__round__(6)
    0.875
    """
    known = ~np.isnan(truth.astype(np.float64))
    if not known.any() or np.isnan(decided[known]).any():
        return float("nan")
    table = _tables(truth[known], decided[known], np.zeros(int(known.sum()), np.int64), num_patients=1)
    return float(_kappas(table, np.ones((1, 1), np.float32))[0])


def bootstrap_kappa(
    truth: Shaped[np.ndarray, " N"],
    decided: Shaped[np.ndarray, " N"],
    *,
    patients: Shaped[np.ndarray, " N"],
    finding: str,
    replicates: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    threads: int | None = None,
) -> Estimate:
    """`quadratic_kappa` with an interval from a bootstrap over patients, as `bootstrap` draws them.

    Its positives are the radiographs of grade 1 or more.

    Raises:
        ConfigError: there are no replicates.
        RecordsError: a grade is no integer of 0 or more.
    """
    if replicates < 1:
        raise ConfigError(f"{replicates} replicates give no interval; ask for 1,000 or more")
    known = ~np.isnan(truth.astype(np.float64))
    true, names = truth[known], patients[known]
    counts = (int(known.sum()), len(np.unique(names)), int((true > 0).sum()))
    why = _undefined(true, decided[known], finding)
    if why:
        return Estimate("quadratic_kappa", finding, None, None, None, *counts, f"undefined: {why}")
    patient = np.unique(names, return_inverse=True)[1]
    tables = _tables(true, decided[known], patient, num_patients=counts[1])
    value = quadratic_kappa(true, decided[known])
    drawn = resample(
        [lambda times: _kappas(tables, times)[:, None]],
        counts[1],
        replicates=replicates,
        seed=seed,
        threads=threads,
    )[:, 0]
    low, high, remarks = interval(drawn, patients=counts[1], level=level)
    return Estimate("quadratic_kappa", finding, value, low, high, *counts, "; ".join(remarks))


def _undefined(true: Shaped[np.ndarray, " M"], decided: Shaped[np.ndarray, " M"], finding: str) -> str:
    if not len(true):
        return "no grade is known"
    if np.isnan(decided).any():
        return "no threshold"
    for given, what in ((true, "true"), (decided, "decided")):
        if (given < 0).any() or (given != given.round()).any():
            wrong = float(given[(given < 0) | (given != given.round())][0])
            raise RecordsError(f"{finding}: a {what} grade is {wrong}; expected an integer of 0 or more")
    return "all grades, true and decided, are the same" if len({*true, *decided}) == 1 else ""


def _tables(
    truth: Shaped[np.ndarray, " M"],
    decided: Shaped[np.ndarray, " M"],
    patient: Int[np.ndarray, " M"],
    *,
    num_patients: int,
) -> Float32[np.ndarray, "P G G"]:
    """The confusion matrix of every patient: true grades by decided ones."""
    num = int(max(truth.max(), decided.max())) + 1
    cell = (patient * num + truth.astype(np.int64)) * num + decided.astype(np.int64)
    counts = np.bincount(cell, minlength=num_patients * num * num)
    return counts.reshape(num_patients, num, num).astype(np.float32)


def _kappas(
    tables: Float32[np.ndarray, "P G G"], times: Float32[np.ndarray, "P R"]
) -> Float[np.ndarray, " R"]:
    """Kappa of each resample, which has every patient's table so many times."""
    found = np.einsum("pij,pr->rij", tables, times, dtype=np.float64)
    grade = np.arange(tables.shape[1])
    weight = (grade[:, None] - grade) ** 2
    seen = (weight * found).sum(axis=(1, 2))
    rows, columns, total = found.sum(axis=2), found.sum(axis=1), found.sum(axis=(1, 2))
    chance = np.einsum("ij,ri,rj->r", weight, rows, columns) / total
    kappa: np.ndarray = np.full(len(found), np.nan)
    np.divide(seen, chance, out=kappa, where=chance > 0)
    return 1 - kappa
