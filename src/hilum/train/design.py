"""Features as a design matrix: centred, turned to their principal components, with a column of ones."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ROWS = 4096
"""Rows that are turned at a time, to spare the memory of a second copy."""


@dataclass(frozen=True)
class Design:
    """Rows of principal components and a last column of ones; a rotation changes no squared norm of weights.

    `turn` holds the components as columns and `mean` what was subtracted. With fewer rows than features there
    are as many components as rows: weights outside their span would only cost penalty.
    """

    rows: Float[Tensor, "N R1"]
    turn: Float[Tensor, "D R"]
    mean: Float[Tensor, " D"]

    @classmethod
    def of(cls, features: Float[Tensor, "N D"]) -> "Design":
        """Centres and turns the features."""
        num, width = features.shape
        mean = features.mean(0, dtype=torch.float64).to(features)
        if num < width:
            basis, triangle = torch.linalg.qr((features - mean).T)
            _, components = torch.linalg.eigh(triangle @ triangle.T)
            rows = torch.cat([triangle.T @ components, features.new_ones(num, 1)], 1)
            return cls(rows, basis @ components, mean)
        scatter = features.new_zeros(width, width)
        for first, last in _spans(num):
            part = features[first:last] - mean
            scatter.addmm_(part.T, part)
        _, components = torch.linalg.eigh(scatter / num)
        rows = features.new_ones(num, width + 1)
        for first, last in _spans(num):
            rows[first:last, :-1] = (features[first:last] - mean) @ components
        return cls(rows, components, mean)

    def part(self, keep: Bool[Tensor, " N"]) -> "Design":
        """Some rows, centred anew; the components stay those of all rows, of which they need not be many."""
        if keep.all():
            return self
        rows = self.rows[keep]
        shift = rows[:, :-1].mean(0, dtype=torch.float64).to(rows)
        rows[:, :-1] -= shift
        return Design(rows, self.turn, self.mean + self.turn @ shift)

    def unturn(self, coefficients: Float[Tensor, "R1 K"]) -> tuple[Float[Tensor, "K D"], Float[Tensor, " K"]]:
        """Weights and intercepts for the features as they were given."""
        weights = (self.turn @ coefficients[:-1]).T
        return weights, coefficients[-1] - weights @ self.mean


def _spans(num: int) -> list[tuple[int, int]]:
    return list(pairwise([*range(0, num, ROWS), num]))
