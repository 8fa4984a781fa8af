"""An encoder with what finds boxes on its maps."""

import abc
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torchvision.ops import batched_nms

from hilum.models.encoder import Encoder
from hilum.models.pyramid import layout_of_levels

Raw = Mapping[str, Tensor]
"""What a detector says of every place it looks at, by names of its own, radiographs first."""


class Found(NamedTuple):
    """Boxes on one view, the surest first."""

    boxes: Float[Tensor, "D 4"]
    """x1, y1, x2, y2 in pixels of the view."""
    scores: Float[Tensor, " D"]
    """0 to 1."""
    labels: Int64[Tensor, " D"]
    """The number of the finding."""


class Detector(nn.Module, abc.ABC):
    """Boxes of findings. Every file of `hilum.detectors` defines one."""

    on_levels: ClassVar[Sequence[str]] = ()
    """Its parts that look at the levels of a pyramid."""
    encoder: Encoder

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        findings: Sequence[str],
        classes: Sequence[str],
        settings: Mapping[str, object],
    ) -> None:
        """What the weights file has to say of it.

        Args:
            name: the file that defines it.
            encoder: kept as it is.
            findings: what boxes are of, in order.
            classes: what whole films are told apart into; empty: they are not.
            settings: what it was built with besides.
        """
        super().__init__()
        self.name, self.findings, self.classes = name, tuple(findings), tuple(classes)
        self.settings = dict(settings)
        self.encoder = encoder

    def place(self, device: torch.device) -> None:
        """Puts it on a device, in the layout that is fastest there; what is so already is untouched."""
        self.to(device)
        for name, part in self.named_children():
            layout = layout_of_levels(device) if name in self.on_levels else torch.channels_last
            part.to(memory_format=layout)  # type: ignore[call-overload]

    @abc.abstractmethod
    def forward(self, images: Float[Tensor, "B 1 S S"]) -> Raw:
        """What it says of every place."""

    @abc.abstractmethod
    def candidates(self, raw: Raw, side: int) -> tuple[Float[Tensor, "B A 4"], Float[Tensor, "B A F"]]:
        """Every place's box in pixels of a view of this side, and the scores of the findings there."""

    def film_probabilities(self, raw: Raw) -> Float[Tensor, "B C"] | None:
        """The probability of each of `classes`; None where there are none."""
        logits = raw.get("film")
        return None if logits is None else logits.float().softmax(1)

    def combined(self, raws: Sequence[Raw]) -> Raw:
        """What several detectors of one kind and size say together, before any box is dropped.

        The mean of what each says; classes of films by the mean of their probabilities.
        """
        means = {name: torch.stack([raw[name].float() for raw in raws]).mean(0) for name in raws[0]}
        if "film" in means:
            means["film"] = torch.stack([raw["film"].float().softmax(1) for raw in raws]).mean(0).log()
        return means


def suppressed(
    boxes: Float[Tensor, "A 4"],
    scores: Float[Tensor, "A F"],
    *,
    floor: float,
    overlap: float,
    most: int,
    before: int = 1000,
) -> Found:
    """The boxes of a radiograph above a score that overlap no surer one of their finding by more.

    Args:
        boxes: of every place.
        scores: of every finding there.
        floor: scores below it are no boxes.
        overlap: intersection over union from which the less sure of two boxes goes.
        most: boxes that are kept.
        before: the highest scores, which alone are looked at.
    """
    flat = scores.flatten()
    values, places = flat.topk(min(before, flat.numel()))
    places = places[values >= floor]
    index, labels = places // scores.shape[1], places % scores.shape[1]
    kept = batched_nms(boxes[index], flat[places], labels, overlap)[:most]
    return Found(boxes[index][kept], flat[places][kept], labels[kept])
