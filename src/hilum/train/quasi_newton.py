"""Many convex problems on one design matrix, solved side by side: limited-memory BFGS, one product for all.

In the basis of the design's principal components the curvature of a logistic loss is nearly diagonal: the
component's variance times the mean of p (1 - p), plus the penalty. That diagonal starts every step, so a
handful of iterations do what takes hundreds without it; problems leave the products as they converge.
Liu & Nocedal, Mathematical Programming 45, 503 (1989). https://doi.org/10.1007/BF01589116
Boehning & Lindsay, Ann. Inst. Statist. Math. 40, 641 (1988). https://doi.org/10.1007/BF00049423
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MEMORY = 24
"""Pairs of steps and changes of gradient that are kept."""

SEARCHES = 12
"""Trials along one direction; Newton's method in one dimension needs two or three."""

ROWS = 4096
"""Rows per product on a processor, so that what is between two products stays in its cache."""

SLOPE = 0.5
"""A step is taken if its slope is at most this share of the slope it began with."""


@dataclass
class Problems:
    """What is solved: columns in groups of `width` that share one loss.

    With width 1 every column is a logistic regression; otherwise a group is a softmax over its columns.
    `penalty` is that of the mean loss; `num` is the number of rows each column's mean is over; `known` is
    None where every label is.
    """

    labels: Float[Tensor, "N K"]
    known: Float[Tensor, "N K"] | None
    num: Float[Tensor, " K"]
    penalty: Float[Tensor, " K"]
    width: int

    def keep(self, columns: Int[Tensor, " L"]) -> None:
        """Drops all other columns."""
        self.labels = self.labels[:, columns]
        self.known = None if self.known is None else self.known[:, columns]
        self.num, self.penalty = self.num[columns], self.penalty[columns]

    def some(self, columns: Int[Tensor, " L"]) -> "Problems":
        """These columns only."""
        part = Problems(self.labels, self.known, self.num, self.penalty, self.width)
        part.keep(columns)
        return part

    def total(self, values: Float[Tensor, " K"]) -> Float[Tensor, " K"]:
        """Sums over each group, written at each of its columns."""
        if self.width == 1:
            return values
        return values.view(-1, self.width).sum(1).repeat_interleave(self.width)

    def probabilities(self, logits: Float[Tensor, "n K"]) -> Float[Tensor, "n K"]:
        """Of each column; those of a group sum to 1."""
        if self.width == 1:
            return torch.sigmoid(logits)
        return torch.softmax(logits.view(len(logits), -1, self.width), 2).view(logits.shape)

    def residual(
        self, logits: Float[Tensor, "n K"], rows: slice
    ) -> tuple[Float[Tensor, "n K"], Float[Tensor, " K"]]:
        """The loss's derivative by each logit, and the sum over rows of p (1 - p)."""
        probability = self.probabilities(logits)
        spread = torch.addcmul(probability, probability, probability, value=-1)
        rest = probability.sub_(self.labels[rows])
        if self.known is not None:
            spread *= self.known[rows]
            rest *= self.known[rows]
        return rest, spread.sum(0)

    def bend(self, logits: Float[Tensor, "N K"], change: Float[Tensor, "N K"]) -> Float[Tensor, " K"]:
        """The second derivative of the mean loss along a change of the logits."""
        probability = self.probabilities(logits)
        mean = probability * change
        if self.width > 1:
            grouped = mean.view(len(mean), -1, self.width).sum(2)
            change = change - grouped.repeat_interleave(self.width, 1)
        else:
            change = change - mean
        bent = mean * change
        if self.known is not None:
            bent *= self.known
        return self.total(bent.sum(0)) / self.num


@dataclass
class Solution:
    """Coefficients, the last row being the intercepts; and how each column got there."""

    coefficients: Float[Tensor, "D K"]
    iterations: Int[Tensor, " K"]
    converged: Bool[Tensor, " K"]


@dataclass
class _History:
    """The last steps and changes of gradient, newest last."""

    steps: list[Tensor] = field(default_factory=list)
    changes: list[Tensor] = field(default_factory=list)
    scales: list[Tensor] = field(default_factory=list)

    def add(self, step: Tensor, change: Tensor, product: Tensor) -> None:
        self.steps.append(step)
        self.changes.append(change)
        self.scales.append(torch.where(product > 0, 1 / product.clamp(min=1e-37), 0))
        if len(self.steps) > MEMORY:
            self.steps, self.changes, self.scales = self.steps[1:], self.changes[1:], self.scales[1:]

    def keep(self, columns: Tensor) -> None:
        self.steps = [step[:, columns] for step in self.steps]
        self.changes = [change[:, columns] for change in self.changes]
        self.scales = [scale[columns] for scale in self.scales]

    def direction(self, gradient: Tensor, diagonal: Tensor, problems: Problems) -> Tensor:
        """Downhill, by the two-loop recursion."""
        rest = -gradient
        shares = []
        for step, change, scale in zip(*map(reversed, (self.steps, self.changes, self.scales)), strict=True):
            shares.append(scale * problems.total(inner(step, rest)))
            rest.addcmul_(change, shares[-1], value=-1)
        rest *= diagonal
        for step, change, scale in zip(self.steps, self.changes, self.scales, strict=True):
            share = shares.pop() - scale * problems.total(inner(change, rest))
            rest.addcmul_(step, share)
        return rest


def inner(a: Float[Tensor, "D K"], b: Float[Tensor, "D K"]) -> Float[Tensor, " K"]:
    """The inner product of each column."""
    return (a * b).sum(0)


def solve(
    design: Float[Tensor, "N D"],
    problems: Problems,
    start: Float[Tensor, "D K"],
    *,
    tol: float,
    max_iter: int,
) -> Solution:
    """Minimises every column's mean loss plus half its penalty times its squared coefficients.

    The design's last column is ones; the coefficient there is not penalised. Its other columns should be
    centred principal components. A column has converged when it is estimated to be less than `tol` above the
    least value of its objective.
    """
    search = _Search(design, problems, start)
    final, num = start.clone(), start.shape[1]
    iterations = torch.full((num,), max_iter, device=start.device)
    converged = torch.zeros(num, dtype=torch.bool, device=start.device)
    active = torch.arange(num, device=start.device)
    for done_steps in range(max_iter + 1):
        done = search.excess < tol
        final[:, active] = search.theta
        iterations[active[done & ~converged[active]]] = done_steps
        converged[active] = done
        if done.all() or done_steps == max_iter:
            break
        if (~done).sum() < 0.8 * len(done):
            left = (~done).nonzero()[:, 0]
            active = active[left]
            search.keep(left)
        search.step()
    return Solution(final, iterations, converged)


class _Search:
    """Where every unconverged column stands."""

    diagonal: Tensor
    excess: Tensor

    def __init__(self, design: Tensor, problems: Problems, start: Tensor) -> None:
        self.design, self.problems, self.theta = design, problems, start.clone()
        self.history = _History()
        self.variance = torch.stack([part.square().sum(0) for part in torch.split(design, ROWS)]).sum(
            0
        ) / len(design)
        self.penalised = torch.ones_like(self.variance)
        self.penalised[-1] = 0
        self.logits = design @ start
        self.trial = torch.empty_like(self.logits)
        self.gradient, self.spread = self._gradient(problems, self.logits, self.theta)
        self._measure()

    def keep(self, columns: Tensor) -> None:
        """Goes on with these columns only."""
        self.problems.keep(columns)
        self.history.keep(columns)
        self.logits = self.logits[:, columns]
        self.trial = torch.empty_like(self.logits)
        self.theta, self.gradient = self.theta[:, columns], self.gradient[:, columns]
        self.diagonal, self.excess = self.diagonal[:, columns], self.excess[columns]

    def step(self) -> None:
        """One iteration of every column."""
        direction = self.history.direction(self.gradient, self.diagonal, self.problems)
        theta = self.theta + direction
        gradient, spread = self._forward(direction, theta)
        begun = self.problems.total(inner(self.gradient, direction)).abs()
        ended = self.problems.total(inner(gradient, direction)).abs()
        poor = (ended > SLOPE * begun).nonzero()[:, 0]
        if len(poor):
            share = self._share(poor, direction, begun)
            direction[:, poor] *= share
            theta[:, poor] = self.theta[:, poor] + direction[:, poor]
            some = self.trial[:, poor]
            gradient[:, poor], spread[poor] = self._gradient(self.problems.some(poor), some, theta[:, poor])
        change = gradient - self.gradient
        self.history.add(direction, change, self.problems.total(inner(direction, change)))
        self.theta, self.gradient, self.spread = theta, gradient, spread
        self.logits, self.trial = self.trial, self.logits
        self._measure()

    def _measure(self) -> None:
        penalty = self.problems.penalty * self.penalised[:, None]
        curved = self.variance[:, None] * self.spread.clamp(min=1e-6)
        self.diagonal = 1 / (curved + penalty)
        self.excess = self.problems.total((self.gradient.square() * self.diagonal).sum(0)) / 2

    def _forward(self, direction: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient and mean p (1 - p) after a full step, whose logits go to `trial`."""
        turned, spread = theta.new_zeros(theta.shape[::-1]), torch.zeros_like(theta[0])
        for rows in self._slices():
            torch.addmm(self.logits[rows], self.design[rows], direction, out=self.trial[rows])
            residual, spreads = self.problems.residual(self.trial[rows], rows)
            turned.addmm_(residual.T, self.design[rows])
            spread += spreads
        return self._scaled(self.problems, turned, spread, theta)

    def _gradient(self, problems: Problems, logits: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        turned, spread = theta.new_zeros(theta.shape[::-1]), torch.zeros_like(theta[0])
        for rows in self._slices():
            residual, spreads = problems.residual(logits[rows], rows)
            turned.addmm_(residual.T, self.design[rows])
            spread += spreads
        return self._scaled(problems, turned, spread, theta)

    def _scaled(
        self, problems: Problems, turned: Tensor, spread: Tensor, theta: Tensor
    ) -> tuple[Tensor, Tensor]:
        gradient = turned.T.contiguous() / problems.num
        gradient.addcmul_(theta, problems.penalty * self.penalised[:, None])
        return gradient, spread / problems.num

    def _slices(self) -> list[slice]:
        num = len(self.design)
        size = num if self.design.is_cuda else ROWS
        return [slice(first, min(first + size, num)) for first in range(0, num, size)]

    def _share(self, poor: Tensor, direction: Tensor, begun: Tensor) -> Tensor:
        """How far along its direction each of the poor columns should go; writes their logits to `trial`."""
        problems = self.problems.some(poor)
        before, change = self.logits[:, poor], self.trial[:, poor] - self.logits[:, poor]
        penalty = problems.penalty * self.penalised[:, None]
        theta, along = self.theta[:, poor], direction[:, poor]
        constant = problems.total(inner(theta * penalty, along))
        linear = problems.total(inner(along * penalty, along))
        share = torch.ones_like(constant)
        low, high = torch.zeros_like(share), torch.full_like(share, torch.inf)
        for _ in range(SEARCHES):
            logits = torch.addcmul(before, change, share)
            residual, _ = problems.residual(logits, slice(None))
            slope = problems.total(inner(residual, change)) / problems.num + constant + linear * share
            if (slope.abs() <= SLOPE * begun[poor]).all():
                break
            low, high = torch.where(slope < 0, share, low), torch.where(slope > 0, share, high)
            newton = share - slope / (problems.bend(logits, change) + linear)
            middle = torch.where(high.isinf(), 2 * share, (low + high) / 2)
            share = torch.where((newton > low) & (newton < high) & (newton < 4 * share), newton, middle)
        self.trial[:, poor] = torch.addcmul(before, change, share)
        return share
