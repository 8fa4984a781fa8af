"""A training step and inference of our RetinaNet against torchvision's, same encoder, size and batch.

torchvision's is its own RetinaNet (P3 to P7, nine anchors) on the feature pyramid that its helper builds from
a ResNet-18, fed as its reference script feeds it: a list of float images and of targets. Its own resizing is
told to keep the size. It is timed in both layouts of memory, plain (its own) and channels last; the faster
is what ours is compared with: `hilum.detectors.retinanet` as the loop places it. AdamW steps, forward and
backward; then inference from images to boxes after suppression. They take turns; bfloat16 where the device is
fast at it, and in float32. The bar is a ratio of 1 or more.

    python benchmarks/detector.py [cpu|cuda]
"""

import copy
import statistics
import sys
import time

import torch
import torchvision
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from hilum import find
from hilum.config import settings_in
from hilum.data.loader import Batch
from hilum.detectors.retinanet import RetinaNetTask
from hilum.images.spec import InputSpec
from hilum.models.detector import suppressed
from hilum.models.encoder import Encoder
from hilum.train.device import autocast, choose_device

SIDE, BATCH = 512, 4


def main(name: str) -> None:
    """Two lines per arithmetic."""
    device = choose_device(name)
    turns, steps = (3, 2) if device.type == "cpu" else (5, 20)
    card = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    sys.stdout.write(f"RetinaNet, ResNet-18, {SIDE} px, batch {BATCH}, {card}\n")
    torch.manual_seed(0)
    spec = InputSpec(side=SIDE)
    own = settings_in(find.path("hilum.detectors", "retinanet"))().model_dump()
    ours = RetinaNetTask(
        Encoder("resnet18", spec), findings=("Opacity",), classes=(), freeze=0.0, frozen_norm=False,
        part_scales={}, film_weight=0.1, **own,
    )  # fmt: skip
    ours.place(device)
    plain = their_model().to(device)
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    pixels = torch.randint(0, 256, (BATCH, 1, SIDE, SIDE), dtype=torch.uint8)
    boxes = torch.full((BATCH, 2, 5), torch.nan)
    boxes[:2, 0] = torch.tensor([100.0, 120, 220, 300, 0])
    rows = torch.arange(BATCH)
    batch = Batch((pixels,), torch.zeros(BATCH, 0), rows, rows * 0, boxes=boxes).to(device, spec)
    images = [one.expand(3, -1, -1).float().div(255).to(device) for one in pixels]
    targets = [
        {
            "boxes": b[~b[:, 0].isnan(), :4].to(device),
            "labels": torch.zeros(int((~b[:, 0].isnan()).sum()), dtype=torch.long, device=device),
        }
        for b in boxes
    ]
    with autocast("auto", device):
        apart = torch.is_autocast_enabled(device.type)
    for precision in ("auto", "float32") if apart else ("float32",):
        training = [trainer(ours, lambda: ours(batch)["loss"])]
        training += [
            trainer(one, lambda one=one: sum(one(images, targets).values())) for one in (plain, last)
        ]
        say(f"training step, {precision}", *timed(training, turns, steps, device, precision))
        for one in (ours, plain, last):
            one.eval()

        def find_ours() -> None:
            with torch.inference_mode():
                raw = ours.model(batch.views[0])
                for pair in zip(*ours.model.candidates(raw, SIDE), strict=True):
                    suppressed(*pair, floor=0.05, overlap=0.5, most=100)

        def find_theirs(one) -> None:
            with torch.inference_mode():
                one(images)

        finding = [find_ours, lambda: find_theirs(plain), lambda: find_theirs(last)]
        say(f"inference, {precision}", *timed(finding, turns, steps, device, precision))
        for one in (ours, plain, last):
            one.train()


def their_model() -> RetinaNet:
    """As torchvision's retinanet_resnet50_fpn_v2 is built, on a ResNet-18 that is trained whole."""
    backbone = _resnet_fpn_extractor(
        torchvision.models.resnet18(), 5, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(512, 256)
    )
    sizes = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512))
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    return RetinaNet(backbone, 1, min_size=SIDE, max_size=SIDE, anchor_generator=anchors)


def trainer(model, loss_of):
    """A step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        loss_of().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def timed(works, turns: int, steps: int, device: torch.device, precision: str) -> list[float]:
    """Median seconds of each, in turn."""
    seconds: list[list[float]] = [[] for _ in works]
    for turn in range(turns + 1):
        for place, work in enumerate(works):
            for _ in range(steps):
                begin = time.perf_counter()
                with autocast(precision, device):
                    work()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                if turn:
                    seconds[place].append(time.perf_counter() - begin)
    return [statistics.median(one) for one in seconds]


def say(what: str, mine: float, plain: float, last: float) -> None:
    """One line."""
    sys.stdout.write(
        f"{what:24} torchvision {BATCH / plain:7.2f} images/s, channels last {BATCH / last:7.2f}; "
        f"hilum {BATCH / mine:7.2f}; ratio to the faster {min(plain, last) / mine:.2f}\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "auto")
