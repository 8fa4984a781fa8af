"""Logistic regression of many findings, penalties and training subsets at once, on features encoded once."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hilum.errors import ConfigError, NumericalError, RecordsError
from hilum.train.design import Design
from hilum.train.quasi_newton import Problems, Solution, solve

log = logging.getLogger(__name__)

LOGITS = 2**28
"""Logits held at once; more are solved in turn."""


@dataclass(frozen=True)
class LogisticFit:
    """Heads of every training subset, penalty and finding, in the precision of the features.

    `undefined` marks findings of one class only in a subset: their weights are 0 and their bias is the log
    odds with half a radiograph added to each class. `converged` is false where `max_iter` came first.
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

    A penalty is scikit-learn's C: the objective is half the squared weights plus C times the sum of
    log-losses, with a free intercept. Rows of `row_weights` say which rows a subset has (default: all).
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

    Every row has one label 1 and otherwise 0; a row with a NaN is left out. Intercepts of
    the findings shown sum to 0. A finding that a subset never shows is undefined there: its bias is that of
    half a radiograph.

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
            f"{len(wrong)} rows do not have exactly one finding (first: row {int(wrong[0])}); leave them "
            "out, or fit the findings one by one"
        )
    return _fit(given, _exclusive, tol=tol, max_iter=max_iter)


def predict_logits(
    features: Tensor | np.ndarray, weights: Float[Tensor, "... D"], bias: Float[Tensor, "..."]
) -> Float[Tensor, "N ..."]:
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


_Solver = Callable[[Design, Tensor, Tensor, float, int], tuple[Solution, Tensor]]
"""From a design, labels, penalties, tol and max_iter to columns (penalty, finding) and what is undefined."""


def _fit(given: _Given, solver: _Solver, *, tol: float, max_iter: int) -> LogisticFit:
    num_subsets, (num_features, num_findings) = (
        len(given.subsets),
        (given.features.shape[1], given.labels.shape[1]),
    )
    shape = (num_subsets, len(given.penalties), num_findings)
    new = given.features.new_zeros
    fitted = LogisticFit(
        weights=new(*shape, num_features),
        bias=new(shape),
        iterations=new(shape, dtype=torch.int64),
        converged=new(shape, dtype=torch.bool),
        undefined=new((num_subsets, num_findings), dtype=torch.bool),
    )
    wide = [int(rows.sum()) >= num_features for rows in given.subsets]
    shared = Design.of(given.features) if any(wide) else None
    for s, rows in enumerate(given.subsets):
        design = shared.part(rows) if shared is not None and wide[s] else Design.of(given.features[rows])
        solution, undefined = solver(design, given.labels[rows], given.penalties, tol, max_iter)
        weights, bias = design.unturn(solution.coefficients)
        fitted.weights[s], fitted.bias[s] = weights.view(*shape[1:], -1), bias.view(shape[1:])
        fitted.iterations[s] = solution.iterations.view(shape[1:])
        fitted.converged[s] = solution.converged.view(shape[1:])
        fitted.undefined[s] = undefined
    late = int((~fitted.converged).sum())
    if late:
        log.warning("%d of %d heads did not converge in %d iterations", late, bias.numel(), max_iter)
    return fitted


def _independent(
    design: Design, labels: Tensor, penalties: Tensor, tol: float, max_iter: int
) -> tuple[Solution, Tensor]:
    known = (~labels.isnan()).to(labels)
    num, positives = known.sum(0), labels.nan_to_num().sum(0)
    undefined = (positives == 0) | (positives == num)
    half = 0.5 * undefined  # without an empty class the log odds need no such caution
    bias = torch.log((positives + half) / (num - positives + half))
    whole = _nothing(design, bias, len(penalties))
    defined = (~undefined).nonzero()[:, 0]
    for part in torch.split(defined, max(1, LOGITS // (len(labels) * len(penalties)))):
        columns = _columns(torch.arange(len(penalties), device=part.device), part, len(num))
        finding = part.repeat(len(penalties))
        problems = Problems(
            labels=labels.nan_to_num()[:, finding],
            known=None if known.all() else known[:, finding],
            num=num[finding],
            penalty=1 / (penalties.repeat_interleave(len(part)) * num[finding]),
            width=1,
        )
        start = whole.coefficients[:, columns]
        _put(whole, columns, solve(design.rows, problems, start, tol=tol, max_iter=max_iter))
    return whole, undefined


def _exclusive(
    design: Design, labels: Tensor, penalties: Tensor, tol: float, max_iter: int
) -> tuple[Solution, Tensor]:
    known = ~labels.isnan().any(1)
    rows = design.rows
    if not known.all():
        rows, labels = rows[known], labels[known]
    count = labels.sum(0)
    undefined = count == 0
    bias = torch.log(count.clamp(min=0.5))
    shown = (~undefined).nonzero()[:, 0]
    bias = bias - bias[shown].mean() if len(shown) else torch.zeros_like(bias)
    whole = _nothing(design, bias, len(penalties))
    if len(shown) < 2:
        return whole, torch.ones_like(undefined)
    every = torch.arange(len(penalties), device=shown.device)
    for part in torch.split(every, max(1, LOGITS // (len(labels) * len(shown)))):
        columns = _columns(part, shown, len(count))
        problems = Problems(
            labels=labels[:, shown].repeat(1, len(part)),
            known=None,
            num=count.sum().expand(len(columns)),
            penalty=1 / (penalties[part].repeat_interleave(len(shown)) * count.sum()),
            width=len(shown),
        )
        solution = solve(rows, problems, whole.coefficients[:, columns], tol=tol, max_iter=max_iter)
        intercepts = solution.coefficients[-1].view(len(part), -1)
        intercepts -= intercepts.mean(1, keepdim=True)
        _put(whole, columns, solution)
    return whole, undefined


def _columns(penalties: Tensor, findings: Tensor, num_findings: int) -> Tensor:
    return (penalties[:, None] * num_findings + findings).view(-1)


def _nothing(design: Design, bias: Tensor, num_penalties: int) -> Solution:
    """Coefficients of 0, and intercepts."""
    coefficients = bias.new_zeros(design.rows.shape[1], num_penalties * len(bias))
    coefficients[-1] = bias.repeat(num_penalties)
    iterations = torch.zeros_like(coefficients[-1], dtype=torch.int64)
    return Solution(coefficients, iterations, torch.ones_like(iterations, dtype=torch.bool))


def _put(whole: Solution, columns: Tensor, part: Solution) -> None:
    whole.coefficients[:, columns] = part.coefficients
    whole.iterations[columns], whole.converged[columns] = part.iterations, part.converged


def _check(
    features: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    penalties: Sequence[float] | np.ndarray,
    row_weights: Tensor | np.ndarray | None,
) -> _Given:
    """The arguments as tensors of one precision on the device of the features."""
    rows = torch.as_tensor(features)
    rows = rows if rows.dtype == torch.float64 else rows.float()
    known = torch.as_tensor(labels).to(rows)
    strengths = torch.as_tensor(np.asarray(penalties, dtype=float)).to(rows)
    subsets = torch.ones(1, len(rows)) if row_weights is None else torch.as_tensor(row_weights)
    subsets = subsets.to(rows.device, torch.bool)
    if known.ndim != 2 or len(known) != len(rows) or subsets.shape[1:] != known.shape[:1]:
        raise RecordsError(
            f"features are {tuple(rows.shape)}, labels {tuple(known.shape)}, subsets {tuple(subsets.shape)}; "
            "expected (N, D), (N, F) and (S, N)"
        )
    broken = (~rows.isfinite().all(1)).nonzero()[:, 0].tolist()
    if broken:
        named = ", ".join(map(str, broken[:5])) + (" ..." if len(broken) > 5 else "")
        raise NumericalError(
            f"features: {len(broken)} of {len(rows)} rows are not finite (rows {named}); look at those "
            "radiographs, or encode in float32"
        )
    strange = ~(known.isnan() | (known == 0) | (known == 1))
    if strange.any():
        row, column = strange.nonzero()[0].tolist()
        raise RecordsError(
            f"labels: row {row}, column {column} is {float(known[row, column]):g}; a label is 1, 0 or NaN"
        )
    if not (strengths > 0).all():
        raise ConfigError(f"penalties: {strengths.tolist()}; each must be above 0 (small is strong)")
    empty = (subsets.sum(1) == 0).nonzero()[:, 0].tolist()
    if empty:
        raise RecordsError(f"subsets {empty} have no row to learn from")
    return _Given(rows, known, strengths, subsets)
