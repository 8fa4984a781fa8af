"""From a map of features to an embedding: the mean over places, the class token, or the best-scored patches.

The scorer learns which patches matter, as in top-k selection of patches for vision transformers
(https://arxiv.org/abs/2104.03059), with no labels of places: its gradient comes through the embedding.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from hilum.errors import ConfigError

Pool = Literal["mean", "token", "top_k"]
Combine = Literal["mean", "weighted", "concatenate"]

HIDDEN = 128
"""Width of the scorer's hidden layer."""


@dataclass(frozen=True)
class Pooling:
    """How the last map becomes an embedding; it travels with the weights.

    Raises:
        ConfigError: top-k of fewer than two patches.
    """

    pool: Pool = "mean"
    """mean: over all places. token: the class token of a ViT. top_k: the patches that a scorer prefers."""
    top_k: int = 0
    """Patches that are taken; 0 unless `pool` is top_k."""
    combine: Combine = "weighted"
    """How they are joined; see `TopK`."""
    project: int = 0
    """Length of a learnt projection of the embedding, that came with its weights; 0: there is none."""
    norm: bool = False
    """Whether the mean goes through the norm that the network has for it (timm's `fc_norm`), and that came
    with its weights."""

    def __post_init__(self) -> None:
        if self.pool != "top_k":  # so that equal poolings are equal
            object.__setattr__(self, "top_k", 0)
            object.__setattr__(self, "combine", "weighted")
        elif self.top_k < 2:
            raise ConfigError(
                f"top_k is {self.top_k}; expected 2 or more patches: the scorer learns from how the chosen "
                "ones are weighted against each other"
            )


MEAN = Pooling()
"""The mean over all places."""


class TopK(nn.Module):
    """The K places of a map that a small network scores highest, joined into one embedding.

    With w the softmax of the K scores, the embedding is

    - weighted: the sum of w times the features;
    - mean: their plain mean, while the scorer gets the gradient of the weighted sum (straight-through);
    - concatenate: the features in the order of their scores, best first, each times K·w.

    So the scorer receives a gradient in all three. With K the number of places, weighted is softmax pooling.
    Ties go to an arbitrary place.
    """

    def __init__(self, num_channels: int, *, k: int, combine: Combine) -> None:
        """A scorer with new weights.

        Args:
            num_channels: D of the map.
            k: places that are taken.
            combine: how they are joined.
        """
        super().__init__()
        # No last bias: it would raise all scores alike, and only their differences count.
        self.score = nn.Sequential(
            nn.Linear(num_channels, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1, bias=False)
        )
        self.k = k
        self.combine = combine
        self.num_features = num_channels * (k if combine == "concatenate" else 1)

    def scores(self, feature_map: Float[Tensor, "B D h w"]) -> Float[Tensor, "B h w"]:
        """How much each place matters, in single precision; only differences within a film mean anything."""
        # In bfloat16 many scores would tie.
        with torch.autocast(feature_map.device.type, enabled=False):
            scores: Tensor = self.score(feature_map.float().permute(0, 2, 3, 1))
        return scores.squeeze(3)

    def forward(self, feature_map: Float[Tensor, "B D h w"]) -> Float[Tensor, "B E"]:
        """The embedding; E is D, or K·D where features are concatenated.

        Raises:
            ConfigError: the map has fewer than K places.
        """
        check_places(self.k, feature_map.shape[2], feature_map.shape[3])
        best = self.scores(feature_map).flatten(1).topk(self.k)
        weights = best.values.softmax(1)[:, None]
        chosen = _take(feature_map, best.indices)
        if self.combine == "concatenate":
            return (chosen * (self.k * weights)).transpose(1, 2).flatten(1)
        if self.combine == "mean":
            weights = weights - weights.detach() + 1 / self.k
        return (chosen * weights).sum(2)


def check_places(k: int, height: int, width: int) -> None:
    """Refuses to take more places than a map has.

    Raises:
        ConfigError: k is larger.
    """
    if k > height * width:
        raise ConfigError(
            f"top_k is {k}, but the encoder's last map has {height}×{width} = {height * width} places; take "
            "fewer, or give it larger images"
        )


def _take(feature_map: Float[Tensor, "B D h w"], places: Int64[Tensor, "B K"]) -> Float[Tensor, "B D K"]:
    features = feature_map.flatten(2)
    return features.gather(2, places[:, None].expand(-1, features.shape[1], -1))
