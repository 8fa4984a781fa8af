"""A million rows with 14 findings: read and validated, beside plain `pandas.read_csv(dtype=str)`.

python benchmarks/million_rows.py [rows]

Each reader has a process of its own, so its peak memory is its own; what the imports take is measured with
a table of 20 rows. Files are not looked for there; that is measured last, on 100,000 of them.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

NUM_FINDINGS = 14
MOST = 1.2
"""Peak memory over pandas' that is still accepted."""


def main() -> int:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        table, empty = Path(folder) / "films.csv", Path(folder) / "few.csv"
        make_table(table, rows)
        make_table(empty, 20)
        say(f"{rows:,} rows, {NUM_FINDINGS} findings, {table.stat().st_size / 2**20:.0f} MiB")
        measured = {}
        for reader in ("hilum", "pandas"):
            base, whole = child(reader, empty), child(reader, table)
            measured[reader] = whole
            say(f"{reader}: {whole['seconds']:.1f} s, peak {whole['mib']:.0f} MiB, imports {base['mib']:.0f}")
        ratio = measured["hilum"]["mib"] / measured["pandas"]["mib"]
        seconds = measured["hilum"]["seconds"] / measured["pandas"]["seconds"]
        say(f"hilum / pandas: memory {ratio:.2f}, time {seconds:.2f} (pandas does not validate)")
        say(f"100,000 files looked for: {look_for_files(Path(folder)):.2f} s")
    return int(ratio > MOST)


def make_table(path: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    header = ",".join(
        ["Path", "PatientID", "split", "sex", "age", *(f"Finding {i}" for i in range(NUM_FINDINGS))]
    )
    with path.open("w", encoding="utf-8") as stream:
        stream.write(header + "\n")
        for start in range(0, rows, 100_000):
            count = min(100_000, rows - start)
            labels = np.array(["", "0", "1", "1.0"])[rng.integers(0, 4, (count, NUM_FINDINGS))]
            for row, cells in enumerate(labels.tolist(), start):
                patient = row // 3
                split = ("train", "train", "train", "val", "test")[patient % 5]
                image = f"train/patient{patient:07d}/study{row % 3}/view1_frontal.jpg"
                sex = "FM"[patient % 2]
                stream.write(f"{image},{patient:07d},{split},{sex},{patient % 90},{','.join(cells)}\n")


def child(reader: str, table: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", reader, str(table)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def read(reader: str, table: Path) -> None:
    if reader == "hilum":
        from hilum.records.table import Records

        begin = time.process_time()
        rows = len(Records.read(table, check_files=False))
    else:
        import pandas as pd

        begin = time.process_time()
        rows = len(pd.read_csv(table, dtype=str, keep_default_na=False))
    seconds = time.process_time() - begin
    # Not ru_maxrss, which survives exec: it may be the parent's.
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    say(json.dumps({"rows": rows, "seconds": seconds, "mib": peak}))


def look_for_files(folder: Path) -> float:
    from hilum.records.files import missing

    images = []
    for place in range(100):
        (folder / f"part{place}").mkdir()
        for number in range(1000):
            image = folder / f"part{place}" / f"{number}.png"
            image.touch()
            images.append(str(image))
    begin = time.perf_counter()
    assert not missing(images)
    return time.perf_counter() - begin


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        read(sys.argv[2], Path(sys.argv[3]))
    else:
        sys.exit(main())
