"""Logistic regression of many findings, penalties and training subsets at once, on features encoded once."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hilum.errors import ConfigError, NumericalError, RecordsError
from hilum.train.quasi_newton import Problems, Solution, solve

log = logging.getLogger(__name__)

LOGITS = 2**28
"""Logits held at once; more are solved in turn."""


@dataclass(frozen=True)
class LogisticFit:
    """Heads of every training subset, penalty and finding, in the precision of the features.

    `undefined` marks findings of one class only in a subset: their weights are 0 and their bias is the log odds
    with half a radiograph added to each class. `converged` is false where `max_iter` came first.
    """

    weights: Float[Tensor, "S P F D"]
    bias: Float[Tensor, "S P F"]
    iterations: Int[Tensor, "S P F"]
    converged: Bool[Tensor, "S P F"]
    undefined: Bool[Tensor, "S F"]


def fit_logistic(
    features: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    penalties: Sequence[float] | np.ndarray,
    *,
    row_weights: Tensor | np.ndarray | None = None,
    tol: float = 1e-8,
    max_iter: int = 300,
) -> LogisticFit:
    """One head per subset, penalty and finding, each by itself; a NaN label is unknown and left out.

    A penalty is scikit-learn's C: the objective is half the squared weights plus C times the sum of log-losses,
    with a free intercept. Rows of `row_weights` say which rows a subset has (default: one subset of all).
    `tol` is in nats: how far the objective, per known label and divided by C, may be above its least value.
    Standardise the features first, or the penalty weighs them unequally.

    Raises:
        NumericalError: features are not finite; the message names the rows.
        RecordsError: shapes differ, a label is not 1, 0 or NaN, or a subset is empty.
        ConfigError: a penalty is not positive.
    """
    given = _check(features, labels, penalties, row_weights)
    return _fit(given, _independent, tol=tol, max_iter=max_iter)


def fit_softmax(
    features: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    penalties: Sequence[float] | np.ndarray,
    *,
    row_weights: Tensor | np.ndarray | None = None,
    tol: float = 1e-8,
    max_iter: int = 300,
) -> LogisticFit:
    """As `fit_logistic` for findings that exclude each other: one multinomial regression per penalty.

    Every row has one label 1 and otherwise 0; a row with a NaN is left out. Intercepts sum to 0. A finding that
    a subset never shows is undefined there: its probability is small and the same everywhere.

    Raises:
        NumericalError: features are not finite; the message names the rows.
        RecordsError: as `fit_logistic`, or a row does not have exactly one finding.
        ConfigError: a penalty is not positive.
    """
    given = _check(features, labels, penalties, row_weights)
    unknown = given.labels.isnan().any(1)
    wrong = (~unknown & (given.labels.nan_to_num().sum(1) != 1)).nonzero()[:, 0]
    if len(wrong):
        raise RecordsError(
            f"{len(wrong)} rows do not have exactly one finding (first: row {int(wrong[0])}); leave them out, "
            "or fit the findings one by one"
        )
    return _fit(given, _exclusive, tol=tol, max_iter=max_iter)


def predict_logits(
    features: Tensor | np.ndarray, weights: Float[Tensor, "*H D"], bias: Float[Tensor, "*H"]
) -> Float[Tensor, "N *H"]:
    """Logits of every head, the radiographs first."""
    rows = torch.as_tensor(features).to(weights)
    flat = torch.addmm(bias.reshape(-1), rows, weights.reshape(-1, weights.shape[-1]).T)
    return flat.view(len(rows), *bias.shape)


@dataclass(frozen=True)
class _Given:
    features: Float[Tensor, "N D"]
    labels: Float[Tensor, "N F"]
    penalties: Float[Tensor, " P"]
    subsets: Bool[Tensor, "S N"]


Solver = Callable[[Tensor, Tensor, Tensor, float, int], tuple[Solution, Tensor]]


def _fit(given: _Given, solver: Solver, *, tol: float, max_iter: int) -> LogisticFit:
    num_penalties, num_findings = len(given.penalties), given.labels.shape[1]
    shape = (len(given.subsets), num_penalties, num_findings)
    device = given.features.device
    weights = given.features.new_zeros(*shape, given.features.shape[1])
    fitted = LogisticFit(
        weights,
        bias=given.features.new_zeros(shape),
        iterations=torch.zeros(shape, dtype=torch.int64, device=device),
        converged=torch.ones(shape, dtype=torch.bool, device=device),
        undefined=torch.zeros(shape[::2], dtype=torch.bool, device=device),
    )
    shared = _principal(given.features) if _wide(given) else None
    for s, rows in enumerate(given.subsets):
        design, mean, turn = _design(given.features, rows, shared)
        labels = given.labels[rows]
        solution, undefined = solver(design, labels, given.penalties, tol, max_iter)
        turned = (turn @ solution.coefficients[:-1]).T
        weights[s] = turned.view(num_penalties, num_findings, -1)
        fitted.bias[s] = (solution.coefficients[-1] - turned @ mean).view(shape[1:])
        fitted.iterations[s] = solution.iterations.view(shape[1:])
        fitted.converged[s] = solution.converged.view(shape[1:])
        fitted.undefined[s] = undefined
    late = int((~fitted.converged).sum())
    if late:
        log.warning("%d of %d heads had not converged after %d iterations", late, len(fitted.converged.view(-1)), max_iter)
    return fitted
