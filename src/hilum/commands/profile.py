"""hilum profile: what a training step takes, before hours are spent on it."""

import csv
import io
import itertools
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from hilum import find
from hilum.commands._cell import says_out_of_memory
from hilum.config import Config, settings_in
from hilum.durable import write_atomically
from hilum.errors import ConfigError, MissingError, OutputError
from hilum.progress import Progress

EXAMPLE = "hilum profile simclr --arch resnet18 resnet50 --batch-size 64 128 --image-size 224 --out profile"
TAKES = "method"

log = logging.getLogger(__name__)

TABLE = "profile.json"
SHOWN = (
    "arch",
    "channels",
    "image_size",
    "batch_size",
    "seconds_per_step",
    "images_per_second",
    "memory_gib",
)


class Settings(Config):
    """Measures time and memory of training steps, over encoders, sizes and batches; needs no radiographs.

    Every combination runs in a process of its own, on random images. One that runs out of memory says so, any
    other failure says its error, and the rest goes on. Given again, what is measured already is kept.
    """

    method: str
    """A file of hilum.methods by its name, or a dotted module of your own."""
    out: Path
    """Folder for profile.json and profile.csv."""
    arch: list[str] = ["resnet18", "resnet50"]
    """Backbones: timm's names, or torchvision/ and torchvision's."""
    batch_size: list[int] = [16, 64, 256]
    """Radiographs per step."""
    image_size: list[int] = [224]
    """Sides of what the encoder sees, pixels."""
    channels: list[int] = [1]
    """1: grey, as everything here is trained. 3 shows what RGB copies would cost; a method that rebuilds
    pixels fails with it."""
    steps: int = 5
    """Steps that are timed, after two that are not; the median counts."""
    memory: float = 0.0
    """Memory that a step may take on the CPU, GiB; 0: what the machine has free. A GPU has its own."""
    optimizer: Literal["adamw", "sgd", "lars"] = "adamw"
    """How weights follow gradients."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the encoder. auto: bfloat16 where the device is fast at it, float32 otherwise."""
    compile: bool = False
    """Compile the task with torch.compile."""
    threads: int = 0
    """Threads of the arithmetic on the CPU; 0: torch's choice."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes a GPU where there is one."""


def profile(config: Settings) -> Path:
    """Measures every combination that is not measured yet, prints the table, and returns its folder."""
    cells = list(_cells(config))
    kept = [row for row in _read(config.out / TABLE) if row["status"] != "failed"]
    rows = [next((row for row in kept if row["cell"] == cell), None) for cell in cells]
    others = [row for row in kept if row["cell"] not in cells]
    done = len(cells) - rows.count(None)
    if done:
        log.info("%d of %d combinations are measured already", done, len(cells))
    with Progress("Measuring", len(cells), unit="combinations", done=done) as line:
        for place, cell in enumerate(cells):
            if rows[place] is None:
                line.update(done, now=f"{cell['arch']} {cell['image_size']} px × {cell['batch_size']}")
                rows[place] = {"cell": cell, **_measure(cell, _limit(config))}
                _write(config.out, [*others, *filter(None, rows)])
                done += 1
    sys.stdout.write(table([row for row in rows if row is not None]) + "\n")
    return config.out


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows for people: a line for each, with the error where there is one."""
    header = [*(name.replace("_", " ") for name in SHOWN), ""]
    lines = [header]
    for row in rows:
        values = [str((row["cell"] | row).get(name, "–")) for name in SHOWN]
        lines.append([*values, "" if row["status"] == "ok" else _said(row)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(SHOWN))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:-1], widths[1:], strict=True))]
        )
        + (f"  {line[-1]}" if line[-1] else "")
        for line in lines
    )


def _said(row: dict[str, Any]) -> str:
    return "out of memory" if row["status"] == "out of memory" else f"failed: {row['error']}"


def _cells(config: Settings) -> Iterator[dict[str, Any]]:
    own = settings_in(find.path("hilum.methods", config.method)).model_fields
    sizes = {"batch_size": config.batch_size, "image_size": config.image_size, "steps": [config.steps]}
    wrong = [f"--{name.replace('_', '-')} {v}" for name, values in sizes.items() for v in values if v < 1]
    wrong += [f"--channels {v}" for v in config.channels if v not in (1, 3)]
    if wrong:
        raise ConfigError(f"{', '.join(wrong)}: expected 1 or more, and channels 1 or 3")
    given = config.model_dump(mode="json")
    names = ("method", "steps", "optimizer", "precision", "compile", "threads", "device")
    shared = {name: given[name] for name in names}
    shared["method_settings"] = {name: given[name] for name in own}
    axes = (config.arch, config.channels, config.image_size, sorted(config.batch_size))
    for arch, channels, side, size in itertools.product(*axes):
        yield shared | {"arch": arch, "channels": channels, "image_size": side, "batch_size": size}


def _measure(cell: dict[str, Any], limit: int) -> dict[str, Any]:
    words = [sys.executable, "-m", "hilum.commands._cell"]
    child = subprocess.run(
        words, input=json.dumps(cell | {"memory_limit": limit}), capture_output=True, text=True
    )
    if child.returncode == 0:
        found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
        return found
    last = next((line for line in reversed(child.stderr.splitlines()) if line.strip()), "")
    if child.returncode == -signal.SIGKILL or says_out_of_memory(child.stderr):
        return {"status": "out of memory", "error": last or "the system killed the process"}
    if child.returncode < 0:
        last = f"died of {signal.Signals(-child.returncode).name}. {last}"
    return {"status": "failed", "error": last[:300]}


def _limit(config: Settings) -> int:
    """Bytes that a process on the CPU may take: beyond what is free, the system would kill it or others."""
    if config.memory:
        return int(config.memory * 2**30)
    if config.device.startswith("cuda") or not sys.platform.startswith("linux"):
        return 0
    free = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable")
    )
    group = Path("/sys/fs/cgroup")
    try:
        most, taken = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no control group, or one without a limit ("max")
        return free
    return min(free, most - taken)


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        assert all({"cell", "status"} <= row.keys() for row in rows)
    except (ValueError, AttributeError, AssertionError):
        raise OutputError(f"{path}: is no table of hilum profile; give another --out") from None
    except OSError as error:
        raise MissingError(f"{path}: {error.strerror}") from None
    return rows


def _write(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_atomically(out / TABLE, (json.dumps(rows, indent=1) + "\n").encode())
    buffer = io.StringIO()
    flat = [{k: v for k, v in (row["cell"] | row).items() if k != "cell"} for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    write_atomically(out / "profile.csv", buffer.getvalue().encode())
