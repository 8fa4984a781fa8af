"""Synthetic radiographs per second on one core, against the 100 per second that the demo counts on.

One process, one thread, CPU seconds; drawing alone and with the PNG file.

    python benchmarks/phantom.py
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2

from hilum.images.phantom import draw_phantom, write_phantoms

NUM = 100
ROUNDS = 7
REQUIRED = 100.0
"""Images per second and core at 256 pixels."""


def main() -> int:
    cv2.setNumThreads(1)
    draw_phantom(0, 0)
    with tempfile.TemporaryDirectory() as folder:
        jobs = {
            "drawing, 256 px": lambda _: draw(256),
            "drawing, 512 px": lambda _: draw(512),
            "drawing and writing PNG, 256 px": lambda n: write_phantoms(Path(folder) / str(n), count=NUM),
        }
        speeds = {name: [speed(job, n) for n in range(ROUNDS)] for name, job in jobs.items()}
    lines = [f"{NUM} phantoms, CPU seconds of one thread, median of {ROUNDS} rounds (min-max)"]
    for name, values in speeds.items():
        middle = statistics.median(values)
        lines.append(f"  {name:33s} {middle:7.1f} images/s  ({min(values):.1f}-{max(values):.1f})")
    ratio = statistics.median(speeds["drawing, 256 px"]) / REQUIRED
    lines.append(f"ratio {ratio:.2f}: drawing at 256 px against {REQUIRED:.0f} images/s (aim: 1 or more)")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if ratio >= 1 else 1


def draw(size: int) -> None:
    for index in range(NUM):
        draw_phantom(1, index, size=size)


def speed(job: Callable[[int], object], n: int) -> float:
    began = time.process_time()
    job(n)
    return NUM / (time.process_time() - began)


if __name__ == "__main__":
    sys.exit(main())
