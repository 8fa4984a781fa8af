"""What the loop costs: a pretraining step of `fit` against forward and backward of the bare model.

    python benchmarks/step.py [cpu|cuda]

Both see the same films, the same two views, the same arithmetic (bfloat16 where the device is fast at it) and
the same batch. The bare model has its views ready in memory, its weights never move, nothing is logged; the
loop warps, optimises and logs. Bar: ratio at most 1.05, waiting for data under 2 %.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from hilum.config import TrainConfig
from hilum.data.loader import Loader
from hilum.data.views import CXR_VIEW, ViewRecipe
from hilum.images.phantom import write_phantoms
from hilum.images.spec import InputSpec
from hilum.images.store import build_store
from hilum.methods.simclr import SimCLR
from hilum.models.encoder import Encoder
from hilum.records.table import Records
from hilum.run import Run
from hilum.train.loop import autocast, choose_device, fit

ROUNDS = 3


def main(name: str) -> None:
    """Interleaves the two and prints the ratio of their medians."""
    device = choose_device(name)
    small = device.type == "cpu"
    side, batch_size, steps = (128, 128, 4) if small else (224, 256, 60)
    with tempfile.TemporaryDirectory() as folder:
        records = Records.read(write_phantoms(Path(folder) / "films", count=256, size=256))
        store = build_store(records.table["image"].tolist(), folder=Path(folder), size=256, quiet=True)
        spec = InputSpec(side=side)
        recipe = ViewRecipe((CXR_VIEW, CXR_VIEW)).at(spec)
        loader = Loader(store, records, recipe, batch_size=batch_size, seed=0, workers=1)
        task = SimCLR(Encoder("resnet18", spec), temperature=0.2, projection_dim=128)
        batch = next(loader.batches(0, 1)).to(device, spec)
        task.to(device, memory_format=torch.channels_last)
        _bare(task, batch, device, 3)
        bare, ours, waits = [], [], []
        for turn in range(ROUNDS):
            bare.append(_bare(task, batch, device, steps))
            config = TrainConfig(
                steps=steps + 3, batch_size=batch_size, log_every=1, seed=turn, device=str(device)
            )
            run = Run.open(Path(folder) / f"run-{turn}", config, {})
            fit(task, loader, config, run)
            task.train()
            rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()][3:]
            run.close()
            ours.append(statistics.median(batch_size / row["images_per_second"] for row in rows))
            waits.append(statistics.mean(row["data_wait"] for row in rows))
        card = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
        ratios = [a / b for a, b in zip(ours, bare, strict=True)]
        sys.stdout.write(
            f"ResNet-18, SimCLR, two views of {side} px, batch {batch_size}, {card}\n"
            f"bare forward + backward {statistics.median(bare) * 1e3:8.1f} ms\n"
            f"step of the loop        {statistics.median(ours) * 1e3:8.1f} ms\n"
            f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}), "
            f"waiting for data {statistics.median(waits):.2%}\n"
        )


def _bare(task: SimCLR, batch, device: torch.device, steps: int) -> float:
    seconds = []
    for _ in range(steps):
        begin = time.perf_counter()
        with autocast("auto", device):
            loss = task(batch)["loss"]
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
        task.zero_grad(set_to_none=True)
    return statistics.median(seconds)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "auto")
