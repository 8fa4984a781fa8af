"""What the loop costs: a step of `fit` against forward and backward of the bare task, for every method.

    python benchmarks/step.py [cpu|cuda] [METHOD ...]

ResNet-50 (ViT-B/16 for methods that need patches), 224 px, batch 64, each method's own settings. Both see
the same films, the same views, the same arithmetic (bfloat16 where the device is fast at it). The bare task
has its batch ready in memory, its weights never move, nothing is logged; the loop warps, optimises, moves
averages and logs. The bare task goes before and after each run of the loop, whose first four steps are left
out: workers were forked from a process that held gigabytes, whose pages are copied as they are written to
again, which a run that begins with its workers does not pay. Texts are the phantoms', through a BERT of two
layers.
Bar: ratio at most 1.05, waiting for data under 2 %.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from hilum import find
from hilum.commands import settings_of
from hilum.commands._pretext import open_loader, open_task, task_in
from hilum.data.batch import Batch
from hilum.images.phantom import write_phantoms
from hilum.images.store import build_store
from hilum.records.table import Records
from hilum.run import Run
from hilum.train.device import autocast, choose_device
from hilum.train.loop import fit
from hilum.train.task import Task

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples" / "every_method"))
from small_bert import write_small_bert

SIDE, BATCH, FILMS, SETTLING = 224, 64, 256, 4
TEXT = {"clip", "convirt", "gloria"}


def main(name: str, method: str) -> None:
    """A line for a method."""
    device = choose_device(name)
    rounds, steps = (1, 4) if device.type == "cpu" else (3, 40)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        records = Records.read(write_phantoms(place / "films", count=FILMS, size=256))
        store = build_store(records.table["image"].tolist(), folder=place, size=256, quiet=True)
        sys.stdout.write(f"{method:14} {_measure(method, records, store, place, device, rounds, steps)}\n")


def _measure(method, records, store, place, device, rounds, steps) -> str:
    patches = "patches" in task_in(method).needs
    bert = write_small_bert(place / "bert", records.table["text"])
    told = {"text_model": str(bert), "text_freeze": 0} if method in TEXT else {}
    config = settings_of("pretrain", method).build(
        {
            "method": method,
            "records": place / "films" / "records.csv",
            "out": place / method,
            "arch": "vit_base_patch16_224" if patches else "resnet50",
            "image_size": SIDE,
            "batch_size": BATCH,
            "device": str(device),
            "log_every": 1,
            **told,
        },
        "benchmark",
    )
    task = open_task(config, records)
    loader = open_loader(config, task, records, store, partners=None)
    batch = next(loader.batches(0, 1)).to(device, task.input)
    task.place(device)
    _bare(task, batch, device, 1)
    bare, ours, waits = [], [], []
    for turn in range(rounds):
        before = _bare(task, batch, device, steps)
        one = config.model_copy(update={"steps": SETTLING + steps})
        with Run.open(place / f"{method}-{turn}", one, {}) as run:
            fit(task, loader, one, run)
            task.train()
            rows = [json.loads(row) for row in (run.path / "metrics.jsonl").read_text().splitlines()]
        rows = [row for row in rows if "images_per_second" in row][SETTLING:]
        bare.append(statistics.median(before + _bare(task, batch, device, steps)))
        ours.append(statistics.median(BATCH / row["images_per_second"] for row in rows))
        waits.append(statistics.mean(row["data_wait"] for row in rows))
    ratios = [mine / theirs for mine, theirs in zip(ours, bare, strict=True)]
    return (
        f"bare {statistics.median(bare) * 1e3:8.1f} ms, loop {statistics.median(ours) * 1e3:8.1f} ms, ratio "
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}), waiting "
        f"{statistics.median(waits):.2%}, {BATCH / statistics.median(ours):.1f} images/s"
    )


def _bare(task: Task, batch: Batch, device: torch.device, steps: int) -> list[float]:
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
    return seconds


if __name__ == "__main__":
    device_name, *chosen = sys.argv[1:] or ["auto"]
    if len(chosen) == 1:
        main(device_name, chosen[0])
    else:
        card = (
            torch.cuda.get_device_name()
            if torch.cuda.is_available()
            else f"{torch.get_num_threads()} threads"
        )
        sys.stdout.write(f"ResNet-50 (ViT-B/16 where patches are needed), {SIDE} px, batch {BATCH}, {card}\n")
        for one in chosen or find.names("hilum.methods"):
            sys.stdout.flush()
            # In a process of its own: what another method left in memory would be part of the time.
            subprocess.run([sys.executable, __file__, device_name, one], check=True)
