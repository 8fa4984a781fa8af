"""Whether an encoder still tells radiographs apart: collapse, whole or dimensional, seen while training."""

import logging

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

log = logging.getLogger(__name__)


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


class Watch:
    """Looks at the same radiographs again and again, and warns when they become alike.

    An untrained encoder's embeddings are alike too, so what counts is the fall from the best value seen.
    """

    def __init__(self) -> None:
        """Has seen nothing yet."""
        self.best_rank = 0.0

    def look(self, features: Float[Tensor, "N D"]) -> dict[str, float]:
        """The numbers to log; a warning if they say collapse."""
        spread, rank = feature_std(features), rankme(features)
        if rank < 2 or rank < self.best_rank / 2:
            log.warning(
                "collapse: embeddings of %d radiographs use %.1f dimensions (RankMe), %.1f at best before; "
                "spread %.3f. "
                "Consider a lower --lr, a larger --batch-size, or another method",
                len(features),
                rank,
                max(rank, self.best_rank),
                spread,
            )
        self.best_rank = max(self.best_rank, rank)
        return {"feature_std": spread, "rankme": rank}
