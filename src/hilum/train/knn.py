"""Nearest neighbours on cached features: what an encoder knows without any weight being trained.

Neighbours vote with exp(similarity / 0.07), as in Wu et al. 2018 (section 3.4),
https://arxiv.org/abs/1805.01978, and DINO (Caron et al. 2021, appendix F), https://arxiv.org/abs/2104.14294
"""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional

from hilum.metrics.classification import mean_auroc

log = logging.getLogger(__name__)

TEMPERATURE = 0.07
CHOICES = (5, 10, 20, 50, 100, 200)
"""Numbers of neighbours that validation chooses among; DINO's are 10, 20, 100 and 200."""
CHUNK = 512
"""Radiographs whose similarities are held at once."""


def choose_neighbours(
    features: Float32[np.ndarray, "N D"],
    labels: Float32[np.ndarray, "N F"],
    val_features: Float32[np.ndarray, "M D"],
    val_labels: Float32[np.ndarray, "M F"],
) -> int:
    """The number of neighbours with the highest mean AUROC on validation; among equals the largest."""
    counts = [count for count in CHOICES if count <= len(features)] or [len(features)]
    shares = vote(features, labels, val_features, counts)
    scores = [mean_auroc(val_labels, share) for share in shares]
    if np.isnan(scores).all():
        log.warning("no finding has both classes in validation; the number of neighbours is %d", counts[-1])
        return counts[-1]
    best = max(zip(scores, counts, strict=True))
    log.info("%d neighbours: mean AUROC %.4f on validation", best[1], best[0])
    return best[1]


def vote(
    features: Float32[np.ndarray, "N D"],
    labels: Float32[np.ndarray, "N F"],
    queries: Float32[np.ndarray, "M D"],
    counts: Sequence[int],
) -> Float[np.ndarray, "K M F"]:
    """The weighted share of positives among the nearest neighbours, for each number of them.

    The neighbours of a finding are among the radiographs whose label is known (1 or 0); where fewer are than
    asked for, all of them. Similarity is the cosine. A finding that is known nowhere is at one half.
    """
    found = np.full((len(counts), len(queries), labels.shape[1]), 0.5)
    # An untrained encoder's features are so alike that float32 would shuffle the nearest.
    train, asked = (functional.normalize(torch.from_numpy(p).double(), dim=1) for p in (features, queries))
    known = ~np.isnan(labels)
    patterns, pattern_of = np.unique(known, axis=1, return_inverse=True)
    for i, rows in enumerate(patterns.T):
        if rows.any():
            findings = np.flatnonzero(pattern_of == i)
            truth = torch.from_numpy(labels[np.ix_(rows, findings)])
            found[:, :, findings] = _vote(train[torch.from_numpy(rows)], truth, asked, counts)
    return found


def _vote(train: Tensor, truth: Tensor, asked: Tensor, counts: Sequence[int]) -> np.ndarray:
    most = min(max(counts), len(train))
    last = [min(count, most) - 1 for count in counts]
    parts = []
    for queries in torch.split(asked, CHUNK):
        similarity, place = (queries @ train.T).topk(most, dim=1)
        # Relative to the nearest one: the same shares, whatever the temperature.
        weight = ((similarity - similarity[:, :1]) / TEMPERATURE).exp()
        positive = (weight[..., None] * truth[place]).cumsum(1)
        parts.append(positive[:, last] / weight.cumsum(1)[:, last, None])
    shares: np.ndarray = torch.cat(parts).transpose(0, 1).numpy()
    return shares
