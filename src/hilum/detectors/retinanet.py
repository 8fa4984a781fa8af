"""RetinaNet: dense boxes on a feature pyramid, with a loss that easy background does not drown.

Lin et al. 2017, https://arxiv.org/abs/1708.02002. Anchors, box coding, dropout and the head that tells whole
films apart are those of kaggle-rsna (pdima/kaggle_rsna_public; Gabruseva, Poplavskiy and Kalinin 2020,
https://arxiv.org/abs/2005.13899), second in the RSNA Pneumonia Detection Challenge of 2018.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import box_iou, sigmoid_focal_loss

from hilum.config import Config
from hilum.models.detector import Detector, Raw
from hilum.models.encoder import Encoder
from hilum.models.pyramid import Pyramid
from hilum.train.detection import DetectionTask


class Settings(Config):
    """Settings of RetinaNet."""

    width: PositiveInt = 256
    """Channels of the pyramid and of the heads."""
    head_depth: PositiveInt = 4
    """Convolutions in each head before the last."""
    first_level: Literal[2, 3] = 3
    """The finest level of the pyramid: P2 has cells of 4 pixels, P3 of 8."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of the features that scores, and classes of films, are computed from."""
    focal_alpha: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Weight of a positive place; a negative one has the rest."""
    focal_gamma: NonNegativeFloat = 2.0
    """How much less places weigh that are easy already."""
    positive_overlap: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Intersection over union with a box from which an anchor is a positive."""
    negative_overlap: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Below it an anchor is a negative; between the two it is left out."""
    best_anchor: bool = True
    """The anchors that overlap a box most are positives, however little they do (torchvision's choice; the
    RSNA system's is not)."""


RATIOS = (0.5, 1.0, 2.0)
"""Height over width of anchors."""
SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
PER_CELL = len(RATIOS) * len(SCALES)
CODING = (0.1, 0.1, 0.2, 0.2)
"""What differences of centres and logarithms of sizes are divided by."""
BETA = 1 / 9
"""Of the smooth L1 loss of boxes: quadratic below it."""
PRIOR = 0.01
"""The score of every anchor before training."""


class RetinaNet(Detector):
    """Scores and boxes of nine anchors per cell of each level."""

    on_levels = ("score_head", "box_head")

    def __init__(
        self,
        encoder: Encoder,
        findings: Sequence[str],
        classes: Sequence[str] = (),
        *,
        width: int,
        head_depth: int,
        first_level: int,
        dropout: float,
    ) -> None:
        """New heads on the encoder; as they come, every place is background and every box its anchor."""
        built = {"width": width, "head_depth": head_depth, "first_level": first_level, "dropout": dropout}
        super().__init__("retinanet", encoder, findings, classes, built)
        self.pyramid = Pyramid(encoder, width=width, first=first_level)
        self.score_head = _head(width, head_depth, PER_CELL * len(self.findings), dropout)
        self.box_head = _head(width, head_depth, PER_CELL * 4, 0.0)
        nn.init.constant_(self.score_head[-1].bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]
        self.film_head = FilmHead(self.pyramid.top, len(self.classes), dropout) if self.classes else None
        self.anchors: dict[tuple[int, torch.device], Tensor] = {}

    def forward(self, images: Float[Tensor, "B 1 S S"]) -> dict[str, Tensor]:
        """Logits of anchors ("scores"), their boxes in code ("deltas"), and logits of films ("film")."""
        levels, top = self.pyramid(self.encoder, images)
        raw = {
            "scores": torch.cat(
                [_by_anchor(self.score_head(level), len(self.findings)) for level in levels], 1
            ),
            "deltas": torch.cat([_by_anchor(self.box_head(level), 4) for level in levels], 1),
        }
        return raw if self.film_head is None else raw | {"film": self.film_head(top)}

    def anchors_at(self, side: int, device: torch.device) -> Float[Tensor, "A 4"]:
        """The anchors of a view, built once per size."""
        key = side, device
        if key not in self.anchors:
            self.anchors[key] = anchors(side, self.pyramid.strides).to(device)
        return self.anchors[key]

    def candidates(self, raw: Raw, side: int) -> tuple[Float[Tensor, "B A 4"], Float[Tensor, "B A F"]]:
        """Boxes, cut at the view's edges, and probabilities."""
        at = self.anchors_at(side, raw["deltas"].device)
        return decode(raw["deltas"].float(), at).clamp(0, side), raw["scores"].float().sigmoid()

    def combined(self, raws: Sequence[Raw]) -> Raw:
        """Scores by their mean; where detectors disagree on a box's size, it shrinks (`shrunken`)."""
        scores = torch.stack([raw["scores"].float().sigmoid() for raw in raws]).mean(0)
        deltas = torch.stack([raw["deltas"].float() for raw in raws])
        boxes = torch.cat([deltas[..., :2].mean(0), shrunken(deltas[..., 2:])], -1)
        return {**super().combined(raws), "scores": torch.logit(scores, eps=1e-6), "deltas": boxes}


class FilmHead(nn.Module):
    """Tells whole films apart by C5: kaggle-rsna's global classifier."""

    def __init__(self, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.look = nn.Conv2d(channels, 256, 3)
        self.decide = nn.Sequential(nn.Dropout(dropout), nn.Linear(512, classes))

    def forward(self, top: Float[Tensor, "B C h w"]) -> Float[Tensor, "B K"]:
        """Logits."""
        seen = functional.max_pool2d(top, 2)
        if min(seen.shape[2:]) < 3:  # of views below 192 pixels
            seen = functional.pad(seen, (1, 1, 1, 1))
        seen = self.look(seen).relu()
        logits: Tensor = self.decide(torch.cat([seen.mean((2, 3)), seen.amax((2, 3))], 1))
        return logits


class RetinaNetTask(DetectionTask):
    """RetinaNet with focal and smooth L1 losses."""

    model: RetinaNet

    def __init__(
        self,
        encoder: Encoder,
        *,
        findings: Sequence[str],
        classes: Sequence[str],
        width: int,
        head_depth: int,
        first_level: int,
        dropout: float,
        focal_alpha: float,
        focal_gamma: float,
        positive_overlap: float,
        negative_overlap: float,
        best_anchor: bool,
        **fitting: object,
    ) -> None:
        """Builds the model; `fitting` goes to `DetectionTask`."""
        model = RetinaNet(
            encoder,
            findings,
            classes,
            width=width,
            head_depth=head_depth,
            first_level=first_level,
            dropout=dropout,
        )
        super().__init__(model, **fitting)  # type: ignore[arg-type]
        self.alpha, self.gamma = focal_alpha, focal_gamma
        self.overlaps = negative_overlap, positive_overlap
        self.best_anchor = best_anchor

    def losses(self, raw: Raw, boxes: Float[Tensor, "B M 5"], side: int) -> Mapping[str, Tensor]:
        """Each the mean over radiographs of a mean over the positive anchors of one."""
        at = self.model.anchors_at(side, boxes.device)
        which, positive, ignored = assign(boxes[..., :4], at, *self.overlaps, best_anchor=self.best_anchor)
        count = positive.sum(1)
        truth = boxes.gather(1, which[..., None].expand(-1, -1, 5)).nan_to_num()
        num_findings = raw["scores"].shape[2]
        target = functional.one_hot(truth[..., 4].long(), num_findings) * positive[..., None]
        focal = sigmoid_focal_loss(
            raw["scores"].float(), target.float(), alpha=self.alpha, gamma=self.gamma, reduction="none"
        )
        focal = (focal.sum(2) * ~ignored).sum(1) / count.clamp(min=1)
        codes = encode(truth[..., :4], at)
        off = functional.smooth_l1_loss(raw["deltas"].float(), codes, beta=BETA, reduction="none").mean(2)
        off = (off * positive).sum(1) / count.clamp(min=1)
        return {"score": focal.mean(), "box": off.mean()}


def anchors(side: int, strides: Sequence[int]) -> Float[Tensor, "A 4"]:
    """x1, y1, x2, y2 of every anchor, level by level, row by row, cell by cell; four strides wide at scale 1.

    They are around the middles of cells, (i + 0.5) stride.
    """
    parts = []
    for stride in strides:
        cells = -(-side // stride)
        middle = (torch.arange(cells) + 0.5) * stride
        y, x = torch.meshgrid(middle, middle, indexing="ij")
        sizes = torch.tensor(
            [[4 * stride * s / math.sqrt(r), 4 * stride * s * math.sqrt(r)] for r in RATIOS for s in SCALES]
        )
        around = torch.cat([-sizes / 2, sizes / 2], 1)
        parts.append((torch.stack([x, y, x, y], -1)[:, :, None] + around).reshape(-1, 4))
    return torch.cat(parts)


def assign(
    boxes: Float[Tensor, "B M 4"], at: Float[Tensor, "A 4"], low: float, high: float, *, best_anchor: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The box that each anchor overlaps most, (B, A); whether it is positive; whether it is left out."""
    there = ~boxes[..., 0].isnan()
    overlaps = torch.stack([box_iou(one.nan_to_num(), at) for one in boxes])  # (B, M, A)
    overlaps = overlaps.masked_fill(~there[..., None], -1.0)
    if best_anchor:  # an overlap above 1 is that of a box with its best anchor
        best = overlaps.amax(2, keepdim=True)
        overlaps = overlaps + 2.0 * ((overlaps == best) & (best > 0))
    value, which = overlaps.max(1)
    positive = value >= high
    return which, positive, ~positive & (value >= low)


def encode(boxes: Float[Tensor, "B A 4"], at: Float[Tensor, "A 4"]) -> Float[Tensor, "B A 4"]:
    """Boxes relative to their anchors; sides are 1 pixel or more."""
    size, at_size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1), at[:, 2:] - at[:, :2]
    centre, at_centre = (boxes[..., :2] + boxes[..., 2:]) / 2, (at[:, :2] + at[:, 2:]) / 2
    codes = torch.cat([(centre - at_centre) / at_size, (size / at_size).log()], -1)
    return codes / codes.new_tensor(CODING)


def decode(codes: Float[Tensor, "B A 4"], at: Float[Tensor, "A 4"]) -> Float[Tensor, "B A 4"]:
    """The boxes that `encode` made codes of."""
    codes = codes * codes.new_tensor(CODING)
    at_size, at_centre = at[:, 2:] - at[:, :2], (at[:, :2] + at[:, 2:]) / 2
    # No code makes an anchor a thousand times as large, as torchvision has it.
    half = at_size * codes[..., 2:].clamp(max=math.log(1000 / 16)).exp() / 2
    centre = at_centre + codes[..., :2] * at_size
    return torch.cat([centre - half, centre + half], -1)


def shrunken(sizes: Float[Tensor, "E B A 2"], *, scale: float = 0.9) -> Float[Tensor, "B A 2"]:
    """One size of several, in code: the 20th percentile, less the spread from 20th to 80th times `scale`.

    kaggle-rsna's rule, by which boxes shrink where the members of an ensemble disagree. One member is itself.
    """
    low, high = torch.quantile(sizes, sizes.new_tensor([0.2, 0.8]), dim=0)
    sizes_: Tensor = low + (low - high) * scale
    return sizes_


def _head(width: int, depth: int, out: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True)]
    last = nn.Conv2d(width, out, 3, padding=1)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    return nn.Sequential(*layers, nn.Dropout(dropout), last)


def _by_anchor(level: Float[Tensor, "B K h w"], values: int) -> Float[Tensor, "B A V"]:
    return level.permute(0, 2, 3, 1).reshape(len(level), -1, values)
