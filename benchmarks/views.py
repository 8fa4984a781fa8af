"""Two augmented 224 px views per radiograph: the store against torchvision reading the same JPEGs.

Everything in one process on one thread, CPU seconds, up to normalised float32 batches; the rounds alternate.
Real films are used where `../shared/data` has them, synthetic noise otherwise.

    python benchmarks/views.py
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torchvision import transforms

from hilum.data.loader import Loader
from hilum.data.views import CXR, View, ViewRecipe
from hilum.images.spec import InputSpec
from hilum.images.store import build_store
from hilum.images.tone import Tone
from hilum.images.warp import Geometry
from hilum.records.table import Records

NUM = 32
ROUNDS = 7
SPEC = InputSpec(side=224)


def main() -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths, what = films(Path(folder))
        began = time.process_time()
        store = build_store(paths, folder=Path(folder) / "store", size=256, workers=0, quiet=True)
        once = (time.process_time() - began) / NUM
        table = pd.DataFrame({"image": paths, "patient": paths, "split": "", "Finding": np.float32(np.nan)})
        records = Records(table, ("Finding",))
        rows = {
            "torchvision, with its blur": torchvision_views(paths, blur=True),
            "torchvision, without blur": torchvision_views(paths, blur=False),
            "hilum, cxr": hilum_views(store, records, CXR),
            "hilum, torchvision's ranges and blur": hilum_views(store, records, matched(blur=True)),
            "hilum, torchvision's ranges, no blur": hilum_views(store, records, matched(blur=False)),
        }
        seconds = measure(rows)
    lines = [
        f"{NUM} {what}, two 224 px views each, CPU seconds of one thread, median of {ROUNDS} rounds (min-max)"
    ]
    lines += [
        f"  {name:38s} {NUM / statistics.median(s):8.1f} images/s  ({NUM / max(s):.1f}-{NUM / min(s):.1f})"
        for name, s in seconds.items()
    ]
    median = {name: statistics.median(s) for name, s in seconds.items()}
    tv, bare, cxr, same, same_bare = median.values()
    lines += [
        f"ratio {tv / cxr:.1f}: hilum's cxr against torchvision with its blur (aim: 30 or more)",
        f"ratio {tv / same:.1f}: the same ranges, both with blur",
        f"ratio {bare / same_bare:.1f}: the same ranges, both without blur",
        f"ratio {bare / cxr:.1f}: hilum's cxr, blur and noise included, against torchvision without blur",
        f"the store is made once: {1e3 * once:.1f} ms per film, {NUM * once / tv:.2f} of a torchvision epoch",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def films(folder: Path) -> tuple[list[str], str]:
    real = sorted((Path(__file__).resolve().parents[2] / "shared/data/nih_rsna/images").glob("*.jpg"))[:NUM]
    if real:
        height, width = cv2.imread(str(real[0]), cv2.IMREAD_GRAYSCALE).shape
        return [str(path) for path in real], f"films of NIH ChestX-ray14 ({width}x{height} JPEG)"
    rng = np.random.default_rng(0)
    for number in range(NUM):
        noise = cv2.GaussianBlur(rng.normal(128, 400, (512, 512)), (0, 0), 6)
        cv2.imwrite(str(folder / f"{number}.jpg"), np.clip(noise, 0, 255).astype(np.uint8))
    return [str(folder / f"{number}.jpg") for number in range(NUM)], "synthetic films (512x512 JPEG)"


def torchvision_views(paths: list[str], *, blur: bool) -> Callable[[int], torch.Tensor]:
    """What tutorials for contrastive pretraining run, in RGB."""
    steps = [
        transforms.RandomResizedCrop(224, scale=(0.5, 1.0)),
        transforms.RandomRotation(10),
        transforms.ColorJitter(brightness=0.2, contrast=0.2),
        *([transforms.RandomApply([transforms.GaussianBlur(23, sigma=(0.1, 2.0))], p=0.5)] if blur else []),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
    view = transforms.Compose(steps)

    def run(_: int) -> torch.Tensor:
        opened = [Image.open(path).convert("RGB") for path in paths]
        return torch.stack([view(image) for image in opened for _ in range(2)])

    return run


def matched(*, blur: bool) -> ViewRecipe:
    geometry = Geometry(crop_min=0.5, ratio=4 / 3, shift=1, rotate=10)
    tone = Tone(contrast=0.2, brightness=0.1, blur=0.5 if blur else 0, blur_max=2.0)
    return ViewRecipe((View(geometry, tone),) * 2)


def hilum_views(store, records: Records, recipe: ViewRecipe) -> Callable[[int], torch.Tensor]:
    loader = Loader(store, records, recipe, batch_size=NUM, seed=0)

    def run(step: int) -> torch.Tensor:
        (batch,) = loader.batches(step, step + 1)
        return torch.cat(batch.to("cpu", SPEC).views)

    return run


def measure(rows: dict[str, Callable[[int], torch.Tensor]]) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(ROUNDS + 1):
        for name, run in rows.items():
            began = time.process_time()
            views = run(turn)
            if turn:  # the first round warms caches and memory
                seconds[name].append(time.process_time() - began)
            assert len(views) == 2 * NUM
    return seconds


if __name__ == "__main__":
    main()
