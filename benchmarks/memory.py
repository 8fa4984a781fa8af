"""Memory of a process that reads a whole store, as the number of films grows.

Each number of films is read by a fresh process. RssAnon is what only it holds and what can run out; RssFile
are pages of the store's files, which the kernel shares between processes and takes back when it needs them.

    python benchmarks/memory.py
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from hilum.images.store import build_store

COUNTS = (1_000, 10_000, 50_000)
SIDE = 64

READER = """
import sys
from pathlib import Path
import numpy as np
from hilum.data.views import CXR, draw_batch
from hilum.images.spec import InputSpec
from hilum.images.store import Store

def kilobytes(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind + ":"))

recipe = CXR.at(InputSpec(side=32))
films = [np.zeros((64, 64), np.uint8)] * 64
draw_batch(recipe, films, rows=range(64), epochs=0, seed=0)  # what drawing holds at any number
before = kilobytes("RssAnon")
store = Store.open(Path(sys.argv[1]))
assert sum(int(store[row][-1, -1]) for row in range(len(store))) > 0
for start in range(0, len(store), 64):
    rows = range(start, min(start + 64, len(store)))
    draw_batch(recipe, [store[row] for row in rows], rows=rows, epochs=0, seed=0)
print(kilobytes("RssAnon") - before, kilobytes("RssAnon"), kilobytes("RssFile"))
"""


def main() -> None:
    lines = [f"{'films':>8} {'pixels':>10} {'RssAnon more':>14} {'RssAnon':>10} {'RssFile':>10}   (MB)"]
    grown = []
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "film.png"
        cv2.imwrite(str(first), np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), np.uint8))
        films = [str(first)]
        for count in COUNTS:
            for number in range(len(films), count):
                films.append(f"{folder}/{number:06d}.png")
                os.link(first, films[-1])
            store = build_store(films, folder=Path(folder) / "stores", size=SIDE, quiet=True)
            done = subprocess.run(
                [sys.executable, "-c", READER, str(store.path)], check=True, capture_output=True, text=True
            )
            more, anonymous, mapped = (int(word) / 1e3 for word in done.stdout.split())
            pixels = (store.path / "pixels.u8").stat().st_size / 1e6
            lines.append(f"{count:8d} {pixels:10.1f} {more:14.1f} {anonymous:10.1f} {mapped:10.1f}")
            grown.append((pixels, more))
    (small, few), (large, many) = grown[0], grown[-1]
    held, pixels = max(0.0, many - few), large - small
    lines += [
        f"from {COUNTS[0]} to {COUNTS[-1]} films: {pixels:.0f} MB of pixels, {held:.1f} MB anonymous memory",
        f"ratio {pixels / max(held, 0.1):.0f} or more: the films as an array in memory against the store",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
