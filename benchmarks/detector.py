"""A training step and inference of our RetinaNet against torchvision's, same encoder, size and batch.

torchvision's is its own RetinaNet (P3 to P7, nine anchors) on the feature pyramid that its helper builds from
a ResNet-18, fed as its reference script feeds it: a list of float images and of targets. Its own resizing is
told to keep the size. Ours is `hilum.detectors.retinanet` as the loop places it. AdamW steps, forward and
backward; then inference from images to boxes after suppression; bfloat16 where the device is fast at it, and
float32.

Each contender has a process of its own, and they take turns: torchvision as a user runs it, in its own layout
of memory and channels last, and torchvision in a process whose allocator is set as `choose_device` sets ours
on a CPU, where freed memory is kept. The bar is a ratio of 1 or more to the faster of the first two; that to
the fastest of all says what is left without the allocator.

    python benchmarks/detector.py [cpu|cuda]
"""

import multiprocessing
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import torch
import torchvision
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from hilum import find
from hilum.config import settings_in
from hilum.data.batch import Batch
from hilum.detectors.retinanet import RetinaNetTask
from hilum.images.spec import InputSpec
from hilum.models.detector import suppressed
from hilum.models.encoder import Encoder
from hilum.train.device import autocast, choose_device

SIDE, BATCH = 512, 4
THEIRS = ("torchvision", "channels last")

works = {}
"""Of this process: what is timed, by its name."""


def main(name: str) -> None:
    """A line for each work and arithmetic."""
    device = choose_device(name)
    turns, steps = (4, 2) if device.type == "cpu" else (5, 20)
    card = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    sys.stdout.write(f"RetinaNet, ResNet-18, {SIDE} px, batch {BATCH}, {card}; images/s\n")
    with autocast("auto", device):
        apart = torch.is_autocast_enabled(device.type)
    spawn = multiprocessing.get_context("spawn")
    kept = ["memory kept"] if device.type == "cpu" else []
    pools = {
        one: ProcessPoolExecutor(1, spawn, initializer=build, initargs=(one, device.type))
        for one in (*THEIRS, *kept, "hilum")
    }
    for precision in ("auto", "float32") if apart else ("float32",):
        for work in ("training step", "inference"):
            seconds: dict[str, list[float]] = {one: [] for one in pools}
            for turn in range(turns + 1):
                for one, pool in pools.items():
                    taken = pool.submit(timed, work, precision, device.type, steps).result()
                    seconds[one] += taken if turn else []
            say(f"{work}, {precision}", {one: statistics.median(found) for one, found in seconds.items()})
    for pool in pools.values():
        pool.shutdown()


def build(contender: str, name: str) -> None:
    """Its works, in its own process."""
    torch.manual_seed(0)
    ours = contender == "hilum"
    device = choose_device(name) if ours or contender == "memory kept" else torch.device(name)
    spec = InputSpec(side=SIDE)
    pixels = torch.randint(0, 256, (BATCH, 1, SIDE, SIDE), dtype=torch.uint8)
    boxes = torch.full((BATCH, 2, 5), torch.nan)
    boxes[:2, 0] = torch.tensor([100.0, 120, 220, 300, 0])
    if ours:
        own = settings_in(find.path("hilum.detectors", "retinanet"))().model_dump()
        task = RetinaNetTask(
            Encoder("resnet18", spec), findings=("Opacity",), classes=(), freeze=0.0, frozen_norm=False,
            part_scales={}, film_weight=0.1, **own,
        )  # fmt: skip
        task.place(device)
        rows = torch.arange(BATCH)
        batch = Batch((pixels,), torch.zeros(BATCH, 0), rows, rows * 0, boxes=boxes).to(device, spec)
        works["training step"] = trainer(task, lambda: task(batch)["loss"])

        @torch.inference_mode()
        def look() -> None:
            raw = task.eval().model(batch.views[0])
            for pair in zip(*task.model.candidates(raw, SIDE), strict=True):
                suppressed(*pair, floor=0.05, overlap=0.5, most=100)
    else:
        model = their_model().to(device)
        if contender == "channels last":
            model.to(memory_format=torch.channels_last)
        images = [one.expand(3, -1, -1).float().div(255).to(device) for one in pixels]
        there = [~one[:, 0].isnan() for one in boxes]
        targets = [
            {
                "boxes": one[known, :4].to(device),
                "labels": torch.zeros(int(known.sum()), dtype=torch.long, device=device),
            }
            for one, known in zip(boxes, there, strict=True)
        ]
        works["training step"] = trainer(model, lambda: sum(model(images, targets).values()))

        @torch.inference_mode()
        def look() -> None:
            model.eval()(images)

    works["inference"] = look


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
        model.train()
        loss_of().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def timed(work: str, precision: str, device: str, steps: int) -> list[float]:
    """Seconds of each."""
    seconds = []
    for _ in range(steps):
        begin = time.perf_counter()
        with autocast(precision, torch.device(device)):
            works[work]()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return seconds


def say(what: str, seconds: dict[str, float]) -> None:
    """One line."""
    speeds = ", ".join(f"{one} {BATCH / each:.2f}" for one, each in seconds.items())
    ours = seconds.pop("hilum")
    ratio, fastest = min(seconds[one] for one in THEIRS) / ours, min(seconds.values()) / ours
    sys.stdout.write(
        f"{what:24} {speeds}; ratio {ratio:.2f} (aim: 1 or more), to the fastest {fastest:.2f}\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "auto")
