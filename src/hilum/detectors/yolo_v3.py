"""YOLOv3's head on three maps of an encoder: one box per cell and anchor, with a confidence.

Redmon and Farhadi 2018, https://arxiv.org/abs/1804.02767. Head, anchors and losses are those with which
pretrainings were compared on RSNA with a frozen encoder (Müller et al. 2022, LoVT,
https://arxiv.org/abs/2112.02889; philip-mueller/lovt), so that results can be set beside that literature.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional

from hilum.config import Config
from hilum.errors import ConfigError
from hilum.models.detector import Detector, Raw
from hilum.models.encoder import Encoder
from hilum.train.detection import DetectionTask


class Settings(Config):
    """Settings of YOLOv3."""

    box_weight: NonNegativeFloat = 2.5
    """Of each of a box's four errors in the loss."""
    empty_weight: NonNegativeFloat = 0.5
    """Of the confidence of places without a box."""
    width_scale: PositiveFloat = 1.0
    """The head's channels over those of the paper, for small encoders."""


STRIDES = (32, 16, 8)
ANCHORS = (
    ((64.64, 48.6), (84.24, 106.92), (201.42, 176.04)),
    ((16.2, 32.94), (33.48, 24.3), (31.86, 64.26)),
    ((5.4, 7.02), (8.64, 16.2), (17.82, 12.42)),
)
"""Width and height on a view of 224 pixels, by stride."""
WIDTHS = ((512, 1024), (256, 512), (128, 256))
SPARED = 0.5
"""Overlap in shape from which an anchor in a box's cell is not told that the place is empty."""


class YoloV3(Detector):
    """Three maps, three anchors each."""

    def __init__(
        self, encoder: Encoder, findings: Sequence[str], classes: Sequence[str] = (), *, width_scale: float
    ) -> None:
        """A new head on the encoder's maps of strides 8, 16 and 32.

        Raises:
            ConfigError: the encoder has no such maps, or whole films are to be told apart.
        """
        super().__init__("yolo_v3", encoder, findings, classes, {"width_scale": width_scale})
        if classes:
            raise ConfigError("yolo_v3 has no head that tells whole films apart; leave --film-column out")
        missing = [stride for stride in STRIDES if stride not in encoder.strides]
        if missing or encoder.has_patches:
            raise ConfigError(
                f"arch {encoder.arch} has no maps of strides 8, 16 and 32; yolo_v3 needs a network with "
                "stages, as resnet50. retinanet and fcos take a ViT"
            )
        self.places = [encoder.strides.index(stride) for stride in STRIDES]
        given = [encoder.widths[place] for place in self.places]
        self.blocks, self.outs, self.ups = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        above = 0
        for place, (channels, sizes) in enumerate(zip(given, WIDTHS, strict=True)):
            narrow, wide = (max(8, round(size * width_scale)) for size in sizes)
            if place:
                self.ups.append(_unit(above, narrow, 1))
                channels += narrow
            self.blocks.append(
                nn.Sequential(
                    _unit(channels, narrow, 1),
                    _unit(narrow, wide, 3),
                    _unit(wide, narrow, 1),
                    _unit(narrow, wide, 3),
                    _unit(wide, narrow, 1),
                )
            )
            self.outs.append(
                nn.Sequential(_unit(narrow, wide, 3), nn.Conv2d(wide, 3 * (5 + len(self.findings)), 1))
            )
            above = narrow

    def forward(self, images: Float[Tensor, "B 1 S S"]) -> dict[str, Tensor]:
        """For each stride (B, h, w, anchor, 5 + F): t_x, t_y, t_w, t_h, confidence, findings, as logits."""
        maps = self.encoder.feature_maps(images)
        raw, branch = {}, None
        for number, (place, stride) in enumerate(zip(self.places, STRIDES, strict=True)):
            level = maps[place]
            if branch is not None:
                up = functional.interpolate(
                    self.ups[number - 1](branch), size=level.shape[2:], mode="nearest"
                )
                level = torch.cat([up, level], 1)
            branch = self.blocks[number](level)
            out = self.outs[number](branch).permute(0, 2, 3, 1)
            raw[f"stride_{stride}"] = out.reshape(*out.shape[:3], 3, 5 + len(self.findings))
        return raw

    def candidates(self, raw: Raw, side: int) -> tuple[Float[Tensor, "B A 4"], Float[Tensor, "B A F"]]:
        """Boxes, cut at the view's edges; the confidence is the score of a finding that is alone."""
        boxes, scores = [], []
        for stride, anchors in zip(STRIDES, ANCHORS, strict=True):
            out = raw[f"stride_{stride}"].float()
            size = anchor_sizes(anchors, side, out.device)
            rows, columns = out.shape[1:3]
            y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
            cell = torch.stack([x, y], -1).to(out)[:, :, None]
            middle = (out[..., :2].sigmoid() + cell) * stride
            half = size * out[..., 2:4].clamp(max=6).exp() / 2
            boxes.append(torch.cat([middle - half, middle + half], -1).flatten(1, 3).clamp(0, side))
            sure = out[..., 4:5].sigmoid()
            known = sure if len(self.findings) == 1 else sure * out[..., 5:].sigmoid()
            scores.append(known.flatten(1, 3))
        return torch.cat(boxes, 1), torch.cat(scores, 1)


class YoloV3Task(DetectionTask):
    """YOLOv3 with LoVT's losses, a sum over the three maps."""

    model: YoloV3

    def __init__(
        self,
        encoder: Encoder,
        *,
        findings: Sequence[str],
        classes: Sequence[str],
        box_weight: float,
        empty_weight: float,
        width_scale: float,
        **fitting: object,
    ) -> None:
        """Builds the model; `fitting` goes to `DetectionTask`."""
        super().__init__(YoloV3(encoder, findings, classes, width_scale=width_scale), **fitting)  # type: ignore[arg-type]
        self.box_weight, self.empty_weight = box_weight, empty_weight

    def losses(self, raw: Raw, boxes: Float[Tensor, "B M 5"], side: int) -> Mapping[str, Tensor]:
        """Errors of boxes, of confidence and of findings, each summed over the maps."""
        parts = []
        for stride, anchors in zip(STRIDES, ANCHORS, strict=True):
            out = raw[f"stride_{stride}"].float()
            size = anchor_sizes(anchors, side, out.device)
            parts.append(yolo_losses(out, boxes, stride, size, empty_weight=self.empty_weight))
        box, confidence, finding = (sum(terms) for terms in zip(*parts, strict=True))
        return {"box": self.box_weight * box, "confidence": confidence, "finding": finding}


def anchor_sizes(
    anchors: Sequence[tuple[float, float]], side: int, device: torch.device
) -> Float[Tensor, "3 2"]:
    """Width and height of the anchors of one map on a view of this side."""
    return torch.tensor(anchors, device=device) * (side / 224)


def yolo_losses(
    out: Float[Tensor, "B h w 3 K"],
    boxes: Float[Tensor, "B M 5"],
    stride: int,
    size: Float[Tensor, "3 2"],
    *,
    empty_weight: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of one map: errors of x, y, w and h; of confidence; of findings (0 where there is one only).

    A box belongs to the cell of its middle and, of the map's three anchors, to the one most alike in shape;
    where two do, the last. Errors are means over all cells, LoVT's choice; most are 0.
    """
    film, index = (~boxes[..., 0].isnan()).nonzero(as_tuple=True)
    one = boxes[film, index]
    middle, wide = (one[:, :2] + one[:, 2:4]) / 2 / stride, (one[:, 2:4] - one[:, :2]).clamp(min=1)
    limit = torch.tensor([out.shape[2] - 1, out.shape[1] - 1], device=out.device)
    cell = middle.floor().long().clamp(min=0).minimum(limit)
    both = torch.minimum(wide[:, None], size).prod(-1)
    alike = both / (wide.prod(-1)[:, None] + size.prod(-1) - both)
    best = alike.argmax(1)
    at = (film, cell[:, 1], cell[:, 0], best)
    here = torch.zeros(out.shape[:4], dtype=torch.bool, device=out.device)
    here[at] = True
    spared = here.clone()
    near, which = (alike > SPARED).nonzero(as_tuple=True)
    spared[film[near], cell[near, 1], cell[near, 0], which] = True
    goal = torch.zeros_like(out)
    values = torch.cat([middle - cell, (wide / size[best]).log(), torch.ones_like(wide[:, :1])], 1)
    labels = functional.one_hot(one[:, 4].long(), out.shape[-1] - 5).to(out)
    goal[at] = torch.cat([values, labels], 1)
    cross = functional.binary_cross_entropy_with_logits
    num = here.numel()
    offset = cross(out[..., :2], goal[..., :2].clamp(0, 1), reduction="none").sum(-1)
    shape = (out[..., 2:4] - goal[..., 2:4]).square().sum(-1)
    box = ((offset + shape) * here).sum() / num
    sure = cross(out[..., 4], goal[..., 4], reduction="none")
    confidence = ((sure * here).sum() + empty_weight * (sure * ~spared).sum()) / num
    if out.shape[-1] == 6:
        return box, confidence, out.new_zeros(())
    told = cross(out[..., 5:], goal[..., 5:], reduction="none").mean(-1)
    return box, confidence, (told * here).sum() / num


def _unit(given: int, made: int, side: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(given, made, side, padding=side // 2, bias=False), nn.BatchNorm2d(made), nn.LeakyReLU(0.1)
    )
