"""Whether an encoder still tells radiographs apart: collapse, whole or dimensional, seen while training."""

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from hilum.data.batch import Batch
from hilum.metrics.classification import auroc
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.run import Run
from hilum.train.device import autocast

log = logging.getLogger(__name__)

EVERY = 100
"""Steps between two looks."""
FEWEST, MOST = 32, 128
"""Radiographs that are looked at."""
FALL = 4
"""Collapse is a rank so many times below the best seen. Healthy runs stayed above half of it."""
YOUNG = 50
"""Steps after which BatchNorm's moving statistics have forgotten what they began with."""
NEIGHBOURS = 20
TEMPERATURE = 0.07
"""Of the neighbours' votes; both are those of Wu et al. 2018, https://arxiv.org/abs/1805.01978, for fewer."""


def feature_std(features: Float[Tensor, "N D"]) -> float:
    """Spread of the directions of embeddings: 1 when they are spread evenly, 0 when all are the same.

    The mean over features of the deviation of unit-length embeddings, times the root of D (Chen and He 2021,
    https://arxiv.org/abs/2011.10566, section 4.1).
    """
    unit = functional.normalize(features.float(), dim=1)
    return float(unit.std(0).mean() * features.shape[1] ** 0.5)


def rankme(features: Float[Tensor, "N D"]) -> float:
    """How many dimensions embeddings use: the exponential of the entropy of their singular values.

    Between 1 and min(N, D); not centred, since a constant embedding plus noise would then look full
    (Garrido et al. 2023, https://arxiv.org/abs/2210.02885, equation 2).
    """
    values = torch.linalg.svdvals(features.float())
    share = values / values.sum().clamp(min=1e-12) + 1e-12
    return float(torch.exp(-(share * share.log()).sum()))


def alignment(one: Float[Tensor, "N D"], other: Float[Tensor, "N D"]) -> float:
    """How far apart two views of a radiograph are: 0 at best, 2 when they have nothing to do with each other.

    The mean squared distance of unit-length embeddings (Wang and Isola 2020,
    https://arxiv.org/abs/2005.10242, section 4.1 with α = 2).
    """
    one, other = (functional.normalize(part.float(), dim=1) for part in (one, other))
    return float((one - other).square().sum(1).mean())


def uniformity(features: Float[Tensor, "N D"]) -> float:
    """How evenly radiographs fill the sphere: 0 when all are the same, lower is more even, down to about -4.

    The logarithm of the mean over pairs of `exp(-2 d²)`, d their distance (the same paper, t = 2).
    """
    unit = functional.normalize(features.float(), dim=1)
    return float(torch.pdist(unit).square().mul(-2).exp().mean().log())


def neighbour_auroc(features: Float[Tensor, "N D"], labels: Float[Tensor, " N"]) -> float:
    """How well the nearest others tell a finding: leave-one-out AUROC; NaN labels are left out.

    The score of a radiograph is the share of its `NEIGHBOURS` nearest others that show the finding, each
    weighted by the exponential of its cosine similarity over `TEMPERATURE`.
    """
    known = ~labels.isnan()
    unit, truth = functional.normalize(features[known].float(), dim=1), labels[known].float()
    similarity = (unit @ unit.T).fill_diagonal_(-torch.inf)
    nearest, places = similarity.topk(max(0, min(NEIGHBOURS, len(truth) - 1)), dim=1)
    score = ((nearest / TEMPERATURE).softmax(1) * truth[places]).sum(1)
    return auroc(truth.cpu().numpy(), score.cpu().numpy())


def probe_rows(num_images: int, *, images_per_step: int, labels: np.ndarray | None = None) -> np.ndarray:
    """Which radiographs are looked at: spread evenly over all, half of them with the finding if there is one.

    Two views of no more than `images_per_step` cost, every `EVERY` steps, below 1 % of training: a backward
    pass is worth two forward passes. Fewer than `FEWEST` would say nothing; a tiny batch pays for them.
    """
    count = min(num_images, MOST, max(FEWEST, images_per_step))
    if labels is None:
        return _evenly(np.arange(num_images), count)
    shown, not_shown = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    positives = _evenly(shown, max(count // 2, count - len(not_shown)))
    return np.sort(np.concatenate([positives, _evenly(not_shown, count - len(positives))]))


class Watch:
    """Looks at the same radiographs again and again, and warns when they become alike.

    An untrained encoder's embeddings are alike too, so what counts is the fall from the best rank seen,
    in this process or before the run was resumed.
    """

    def __init__(self, probe: Sequence[Batch], run: Run, *, precision: str) -> None:
        """Looks at two views of each radiograph, those of `probe`.

        A first column of labels there is the finding whose neighbours are asked.
        """
        self.probe, self.run, self.precision = probe, run, precision
        self.best = -1.0
        self.collapsed = False

    def look(self, model: Encoder | Classifier) -> dict[str, float]:
        """The numbers to log; a warning when they begin to say collapse. Leaves evaluation mode behind."""
        if self.best < 0:
            before = [row for row in self.run.metrics() if "rankme" in row]
            self.best = max((row["rankme"] for row in before), default=0.0)
            self.collapsed = bool(before and before[-1].get("collapsed"))
        one, other = self._embed(model if isinstance(model, Encoder) else model.encoder)
        numbers = {
            "feature_std": feature_std(one),
            "rankme": rankme(one),
            "alignment": alignment(one, other),
            "uniformity": (uniformity(one) + uniformity(other)) / 2,
        }
        labels = torch.cat([batch.labels for batch in self.probe])
        if labels.shape[1]:
            both = functional.normalize(one, dim=1) + functional.normalize(other, dim=1)
            numbers["knn_auroc"] = neighbour_auroc(both.cpu(), labels[:, 0])
        return numbers | {"collapsed": self._judge(numbers)}

    @torch.no_grad()
    def _embed(self, encoder: Encoder) -> tuple[Tensor, Tensor]:
        device = next(encoder.parameters()).device
        views = [batch.to(device, encoder.input).views for batch in self.probe]
        encoder.eval()
        with autocast(self.precision, device):
            if _is_young(encoder):
                both = _by_own_statistics(
                    encoder, torch.cat([view for side in zip(*views, strict=True) for view in side])
                )
                one, other = both.float().chunk(2)
            else:
                parts = [[encoder(view).float() for view in pair] for pair in views]
                one, other = (torch.cat(part) for part in zip(*parts, strict=True))
        return one, other

    def _judge(self, numbers: Mapping[str, float]) -> bool:
        rank = numbers["rankme"]
        before, self.collapsed = self.collapsed, rank - 1 < (self.best - 1) / FALL
        self.best = max(self.best, rank)
        if self.collapsed and not before:
            log.warning(
                "collapse: embeddings of %d radiographs use %.1f dimensions (RankMe), %.1f at best before; "
                "spread %.3f. Consider a lower --lr, a larger --batch-size, or another method",
                sum(map(len, self.probe)),
                rank,
                self.best,
                numbers["feature_std"],
            )
        return self.collapsed


def _evenly(places: np.ndarray, count: int) -> np.ndarray:
    count = min(count, len(places))
    return places[np.linspace(0, len(places) - 1, count).astype(np.int64)] if count else places[:0]


def _norms(encoder: nn.Module) -> list[_BatchNorm]:
    return [module for module in encoder.modules() if isinstance(module, _BatchNorm)]


def _is_young(encoder: nn.Module) -> bool:
    counters = [n.num_batches_tracked for n in _norms(encoder) if n.num_batches_tracked is not None]
    return bool(counters) and int(counters[0]) < YOUNG


def _by_own_statistics(encoder: Encoder, images: Tensor) -> Tensor:
    """Embeddings with the BatchNorm statistics of these images: a young encoder has none of its own yet."""
    settled = copy.deepcopy(encoder)

    def take(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        over = [0, 2, 3][: inputs[0].ndim - 1]
        norm.running_var, norm.running_mean = torch.var_mean(inputs[0].float(), over)

    for norm in _norms(settled):
        norm.register_forward_pre_hook(take)
    embedded: Tensor = settled(images)
    return embedded
