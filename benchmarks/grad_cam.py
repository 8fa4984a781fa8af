"""Grad-CAM of a batch: ours against pytorch-grad-cam on the same model, images, layer and thread.

The two take turns on single batches, CPU seconds of one thread, float32, maps at their own size (theirs also
enlarges them to the image, which is a small part of its time).

    python benchmarks/grad_cam.py
"""

import statistics
import sys
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor

from hilum.images.spec import InputSpec
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.saliency.grad_cam import grad_cam

BATCH = 4
ROUNDS = 3
SIDE = 224
MODELS = {
    "resnet50": ("mean", "layer4"),
    "densenet121": ("mean", "features"),
    "vit_small_patch16_224": ("token", ""),
}


def main() -> None:
    torch.set_num_threads(1)
    lines = [f"{BATCH} images of {SIDE} px, CPU seconds of one thread, median of {ROUNDS} turns (min-max)"]
    for arch, (pool, layer) in MODELS.items():
        model = classifier(arch, pool)
        images = torch.randn(BATCH, 1, SIDE, SIDE)
        net = model.encoder.net
        target = net.get_submodule(layer) if layer else net.blocks[-1].norm1
        theirs = GradCAM(model=model, target_layers=[target], reshape_transform=None if layer else patches)
        targets = [ClassifierOutputTarget(0)] * BATCH
        ours = grad_cam(model, images, 0).scores.numpy()
        likeness = alike(ours, theirs(input_tensor=images, targets=targets))
        seconds = measure(
            {
                "hilum": lambda model=model, images=images: grad_cam(model, images, 0),
                "pytorch-grad-cam": lambda theirs=theirs, images=images, targets=targets: theirs(
                    input_tensor=images, targets=targets
                ),
            }
        )
        for name, spent in seconds.items():
            rate = BATCH / statistics.median(spent)
            spread = f"({BATCH / max(spent):.1f}-{BATCH / min(spent):.1f})"
            lines.append(f"  {arch:24s} {name:18s} {rate:7.1f} images/s  {spread}")
        mine, other = (statistics.median(spent) for spent in seconds.values())
        lines.append(f"ratio {other / mine:.2f}: {arch} (aim: 1 or more); maps correlate {likeness:.4f}")
    sys.stdout.write("\n".join(lines) + "\n")


def classifier(arch: str, pool: str) -> Classifier:
    torch.manual_seed(0)
    model = Classifier(Encoder(arch, InputSpec(side=SIDE), pool=pool), ("Edema",), exclusive=False)
    model.eval()
    with torch.no_grad():  # a head that says yes: what a map loses below 0 is lost to the comparison
        model.head.weight.copy_(model.encoder(torch.randn(2, 1, SIDE, SIDE)).mean(0, keepdim=True))
    return model


def patches(tokens: Tensor) -> Tensor:
    side = SIDE // 16
    return tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, side, side)


def alike(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The mean correlation of the maps that are not flat, ours enlarged as theirs are."""
    pairs = [(cv2.resize(a, b.shape[::-1]), b) for a, b in zip(ours, theirs, strict=True) if np.ptp(a) > 0]
    return (
        float(np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs])) if pairs else float("nan")
    )


def measure(rows: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(ROUNDS + 1):
        for name, run in rows.items():
            began = time.process_time()
            run()
            if turn:  # the first turn warms memory
                seconds[name].append(time.process_time() - began)
    return seconds


if __name__ == "__main__":
    main()
