"""FCOS: every place in a box says how far the box's four sides are; no anchors.

Tian et al. 2019, https://arxiv.org/abs/1904.01355
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from hilum.config import Config
from hilum.errors import ConfigError
from hilum.models.detector import Detector, Raw
from hilum.models.encoder import Encoder
from hilum.models.pyramid import Pyramid
from hilum.train.detection import DetectionTask


class Settings(Config):
    """Settings of FCOS."""

    width: PositiveInt = 256
    """Channels of the pyramid and of the heads, a multiple of 8."""
    head_depth: PositiveInt = 4
    """Convolutions in each head before the last."""
    focal_alpha: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Weight of a positive place; a negative one has the rest."""
    focal_gamma: NonNegativeFloat = 2.0
    """How much less places weigh that are easy already."""
    centre_radius: PositiveFloat = 1.5
    """Places so many cells around a box's middle, and in the box, are positives."""


RANGES = (64, 128, 256, 512)
"""Largest distance to a side, pixels, that each level but the last is for."""
PRIOR = 0.01


class FCOS(Detector):
    """Scores, distances to the four sides, and how central a place is, at every cell of P3 to P7."""

    on_levels = ("score_head", "side_head", "score", "sides", "central")

    def __init__(
        self,
        encoder: Encoder,
        findings: Sequence[str],
        classes: Sequence[str] = (),
        *,
        width: int,
        head_depth: int,
    ) -> None:
        """New heads on the encoder.

        Raises:
            ConfigError: the width is no multiple of 8, or whole films are to be told apart.
        """
        super().__init__("fcos", encoder, findings, classes, {"width": width, "head_depth": head_depth})
        if classes:
            raise ConfigError("fcos has no head that tells whole films apart; leave --film-column out")
        if width % 8:
            raise ConfigError(f"--width is {width}; the groups of fcos's normalisation need a multiple of 8")
        self.pyramid = Pyramid(encoder, width=width, first=3)
        self.score_head = _head(width, head_depth)
        self.side_head = _head(width, head_depth)
        self.score = nn.Conv2d(width, len(self.findings), 3, padding=1)
        self.sides = nn.Conv2d(width, 4, 3, padding=1)
        self.central = nn.Conv2d(width, 1, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(len(self.pyramid.strides)))
        for layer in (self.score, self.sides, self.central):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.score.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]

    def forward(self, images: Float[Tensor, "B 1 S S"]) -> dict[str, Tensor]:
        """Logits of findings ("scores") and of centrality ("central"), distances in strides ("sides")."""
        levels, _ = self.pyramid(self.encoder, images)
        scores, sides, central = [], [], []
        for level, scale in zip(levels, self.scales, strict=True):
            told, seen = self.score_head(level), self.side_head(level)
            scores.append(_by_place(self.score(told)))
            sides.append(functional.relu(_by_place(self.sides(seen)) * scale))
            central.append(_by_place(self.central(seen)))
        return {
            "scores": torch.cat(scores, 1),
            "sides": torch.cat(sides, 1),
            "central": torch.cat(central, 1),
        }

    def candidates(self, raw: Raw, side: int) -> tuple[Float[Tensor, "B A 4"], Float[Tensor, "B A F"]]:
        """Boxes, cut at the view's edges; scores are the root of probability times centrality."""
        at, stride = places(side, self.pyramid.strides, raw["sides"].device)
        scores = (raw["scores"].float().sigmoid() * raw["central"].float().sigmoid()).sqrt()
        return around(at, raw["sides"].float() * stride[:, None]).clamp(0, side), scores


class FCOSTask(DetectionTask):
    """FCOS with focal, generalised-IoU and centrality losses."""

    model: FCOS

    def __init__(
        self,
        encoder: Encoder,
        *,
        findings: Sequence[str],
        classes: Sequence[str],
        width: int,
        head_depth: int,
        focal_alpha: float,
        focal_gamma: float,
        centre_radius: float,
        **fitting: object,
    ) -> None:
        """Builds the model; `fitting` goes to `DetectionTask`."""
        super().__init__(FCOS(encoder, findings, classes, width=width, head_depth=head_depth), **fitting)  # type: ignore[arg-type]
        self.alpha, self.gamma, self.centre_radius = focal_alpha, focal_gamma, centre_radius

    def losses(self, raw: Raw, boxes: Float[Tensor, "B M 5"], side: int) -> Mapping[str, Tensor]:
        """Each summed over the batch, over its number of positive places; boxes weigh by centrality."""
        at, stride = places(side, self.model.pyramid.strides, boxes.device)
        which, positive = assign(boxes, at, stride, radius=self.centre_radius)
        truth = boxes.gather(1, which[..., None].expand(-1, -1, 5)).nan_to_num()
        count = positive.sum().clamp(min=1)
        target = functional.one_hot(truth[..., 4].long(), raw["scores"].shape[2]) * positive[..., None]
        focal = sigmoid_focal_loss(
            raw["scores"].float(), target.float(), alpha=self.alpha, gamma=self.gamma, reduction="sum"
        )
        middle = centrality(distances(truth[..., :4], at).clamp(min=0))[positive]
        found = around(at, raw["sides"].float() * stride[:, None])[positive]
        overlap = generalized_box_iou_loss(found, truth[..., :4][positive])
        told = functional.binary_cross_entropy_with_logits(
            raw["central"].float()[..., 0][positive], middle, reduction="sum"
        )
        box = (overlap * middle).sum() / middle.sum().clamp(min=1e-6)
        return {"score": focal / count, "box": box, "central": told / count}


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def places(
    side: int, strides: tuple[int, ...], device: torch.device
) -> tuple[Float[Tensor, "A 2"], Float[Tensor, " A"]]:
    """The middle (x, y) of every cell of every level, and its stride; built once per size."""
    parts, widths = [], []
    for stride in strides:
        middle = (torch.arange(-(-side // stride), device=device) + 0.5) * stride
        y, x = torch.meshgrid(middle, middle, indexing="ij")
        parts.append(torch.stack([x, y], -1).reshape(-1, 2))
        widths.append(torch.full((len(parts[-1]),), float(stride), device=device))
    return torch.cat(parts), torch.cat(widths)


def distances(boxes: Float[Tensor, "B A 4"], at: Float[Tensor, "A 2"]) -> Float[Tensor, "B A 4"]:
    """From places to the left, upper, right and lower side of boxes; below 0 outside."""
    return torch.cat([at - boxes[..., :2], boxes[..., 2:] - at], -1)


def around(at: Float[Tensor, "A 2"], sides: Float[Tensor, "B A 4"]) -> Float[Tensor, "B A 4"]:
    """The boxes of which these are the `distances`."""
    return torch.cat([at - sides[..., :2], at + sides[..., 2:]], -1)


def centrality(sides: Float[Tensor, "B A 4"]) -> Float[Tensor, "B A"]:
    """How near a place is to the middle of its box, 0 to 1: equation 3."""
    across, down = sides[..., 0::2], sides[..., 1::2]
    shares = (part.amin(-1) / part.amax(-1).clamp(min=1e-6) for part in (across, down))
    first, second = shares
    return (first * second).sqrt()


def assign(
    boxes: Float[Tensor, "B M 5"], at: Float[Tensor, "A 2"], stride: Float[Tensor, " A"], *, radius: float
) -> tuple[Tensor, Tensor]:
    """The box of each place, the smallest of those that it is for, and whether there is one."""
    there = ~boxes[..., 0].isnan()
    corners = boxes[..., None, :4].nan_to_num()  # (B, M, 1, 4)
    sides = torch.cat([at - corners[..., :2], corners[..., 2:] - at], -1)
    middle = (corners[..., :2] + corners[..., 2:]) / 2
    near = (at - middle).abs().amax(-1) < radius * stride
    reach = sides.amax(-1)
    levels: list[float] = sorted(set(stride.tolist()))
    low = torch.zeros_like(stride)
    high = torch.full_like(stride, math.inf)
    for place, level in enumerate(levels):
        low[stride == level] = 0 if place == 0 else RANGES[place - 1]
        high[stride == level] = RANGES[place] if place < len(RANGES) else math.inf
    fits = (sides.amin(-1) > 0) & near & (reach >= low) & (reach < high) & there[..., None]
    sizes = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    cost = sizes.nan_to_num()[..., None].expand_as(fits).masked_fill(~fits, math.inf)
    value, which = cost.min(1)
    return which, value < math.inf


def _head(width: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(width // 8, width), nn.ReLU()]
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return nn.Sequential(*layers)


def _by_place(level: Float[Tensor, "B K h w"]) -> Float[Tensor, "B A K"]:
    return level.flatten(2).transpose(1, 2)
