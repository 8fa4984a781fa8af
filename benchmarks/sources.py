"""Whole data sets as tables: CheXpert and MIMIC-CXR-JPG of their published sizes.

python benchmarks/sources.py [share]

The trees are as downloaded, with empty files for films. Beside `hilum records read` stands what a user would
run: `pandas.read_csv` of the same sheets, joined, and `os.path.exists` of every film, which checks nothing
else. Each has a process of its own, so its peak memory is its own; `share` makes all trees smaller.
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hilum.records.sources._chexpert import FINDINGS


def main() -> None:
    share = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    for source, films in (("chexpert", 223_648), ("mimic_cxr", 377_110)):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "root"
            count = (chexpert if source == "chexpert" else mimic)(root, round(films * share))
            ours, theirs = child("hilum", source, root), child("pandas", source, root)
            assert ours["rows"] == theirs["rows"] == count, (ours, theirs, count)
        say(f"{source}, {count:,} films, {theirs['seconds']:.1f} s and {theirs['mib']:.0f} MiB in pandas")
        ratios = f"time {ours['seconds'] / theirs['seconds']:.2f}, memory {ours['mib'] / theirs['mib']:.2f}"
        say(f"  hilum {ours['seconds']:.1f} s and {ours['mib']:.0f} MiB, written; hilum / pandas: {ratios}")


def labels(rng: np.random.Generator, count: int) -> list[str]:
    cells = np.array(["", "0.0", "1.0", "-1.0"])[rng.integers(0, 4, (count, len(FINDINGS)))]
    return [",".join(row) for row in cells.tolist()]


def chexpert(root: Path, count: int) -> int:
    base, rng = root / "CheXpert-v1.0-small", np.random.default_rng(0)
    valid = min(234, count // 4)
    header = ",".join(["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS])
    for split, first, films in (("train", 0, count - valid), ("valid", count - valid, valid)):
        lines = [header]
        for number, cells in enumerate(labels(rng, films), first):
            place = f"{split}/patient{number // 3:06d}/study{number % 3 + 1}"
            if split == "valid":
                place = f"valid/patient{1_000_000 + number}/study1"
            (base / place).mkdir(parents=True)
            (base / place / "view1_frontal.jpg").touch()
            lines.append(f"{base.name}/{place}/view1_frontal.jpg,Female,{number % 90},Frontal,AP,{cells}")
        (base / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return count


def mimic(root: Path, count: int) -> int:
    rng = np.random.default_rng(0)
    films = ["dicom_id,subject_id,study_id,ViewPosition"]
    splits = ["dicom_id,study_id,subject_id,split"]
    exams = [",".join(["subject_id", "study_id", *FINDINGS])]
    for number, cells in enumerate(labels(rng, count)):
        patient, study, name = 10_000_000 + number // 6 * 7, 50_000_000 + number, f"{number:08x}-0000"
        place = root / "files" / f"p{str(patient)[:2]}" / f"p{patient}" / f"s{study}"
        place.mkdir(parents=True)
        (place / f"{name}.jpg").touch()
        films.append(f"{name},{patient},{study},{'AP' if number % 2 else 'PA'}")
        splits.append(f"{name},{study},{patient},{('train', 'validate', 'test')[patient % 3]}")
        exams.append(f"{patient},{study},{cells}")
    for name, lines in (("metadata", films), ("split", splits), ("chexpert", exams)):
        with gzip.open(root / f"mimic-cxr-2.0.0-{name}.csv.gz", "wt") as file:
            file.write("\n".join(lines) + "\n")
    return count


def child(reader: str, source: str, root: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", reader, source, str(root)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def read(reader: str, source: str, root: Path) -> None:
    begin = time.perf_counter()
    if reader == "hilum":
        import hilum

        out = hilum.records_read(source, root=root, out=root / "out.csv")
    else:
        rows = by_hand(source, root)
    seconds = time.perf_counter() - begin
    # Not ru_maxrss, which survives exec: it may be the parent's.
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    if reader == "hilum":
        with out.open() as file:
            rows = sum(1 for _ in file) - 1
    say(json.dumps({"rows": rows, "seconds": seconds, "mib": peak}))


def by_hand(source: str, root: Path) -> int:
    import pandas as pd

    if source == "chexpert":
        base = root / "CheXpert-v1.0-small"
        table = pd.concat([pd.read_csv(base / f"{split}.csv") for split in ("train", "valid")])
        paths = [f"{root}/{path}" for path in table["Path"]]
    else:
        films, splits, exams = (
            pd.read_csv(root / f"mimic-cxr-2.0.0-{name}.csv.gz") for name in ("metadata", "split", "chexpert")
        )
        table = films.merge(splits, on=["dicom_id", "study_id", "subject_id"])
        table = table.merge(exams, on=["study_id", "subject_id"])
        rows = zip(table["subject_id"], table["study_id"], table["dicom_id"], strict=True)
        paths = [f"{root}/files/p{str(p)[:2]}/p{p}/s{s}/{name}.jpg" for p, s, name in rows]
    assert all(map(os.path.exists, paths))
    return len(table)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        read(sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    else:
        main()
