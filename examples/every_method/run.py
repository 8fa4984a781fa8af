"""Every method at the same budget: pretrained, probed, timed; the evidence behind docs/methods.md.

    python examples/every_method/run.py FOLDER OUT        # two cells at a time; skips what is done
    python examples/every_method/table.py OUT docs

FOLDER holds real films as examples/real_films/prepare.py wants them. Phantoms are drawn here: one set, and
the same films with the shortcut switched on (the side marker gives consolidation away) wherever a film is not
tested on. A cell is one method on one encoder on one set of films; each runs in a process of its own, so that
its peak memory is its own.
"""

import json
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

from small_bert import write_small_bert

import hilum
from hilum import find
from hilum.commands import function
from hilum.images.phantom import write_phantoms

IMAGES_SEEN, BATCH, SIDE = 2048, 64, 128
PHANTOMS = 1200
ENCODERS = {"ResNet-18": "resnet18", "ViT-S": "vit_small_patch16_224"}
FLOORS = ("pixels", "random")
TEXT = ("clip", "convirt", "gloria")
VIT_ONLY = ("mae",)
FRACTIONS, SEEDS = [0.01, 0.1, 1.0], [0, 1, 2]
# Not tuned. An average that is kept would still be the random start after 32 steps of a usual momentum.
SETTINGS: dict[str, dict[str, Any]] = {
    "moco": {"queue_size": 1024},
    "dino": {"num_local": 2, "local_side": 64, "momentum_teacher": 0.9},
    "mean_teacher": {"momentum_teacher": 0.9},
    "pseudo_label": {"momentum_teacher": 0.9},
}
TASKS = {
    "phantoms": {"phantoms": []},
    "real": {"opacity": ["Opacity"], "sex": ["Female"]},
    "shortcut": {"shortcut": []},
}


def main(folder: Path, out: Path) -> None:
    """Writes the tables, then runs what is not done, two cells at a time."""
    tables(folder, out / "tables")
    write_small_bert(out / "bert", hilum.Records.read(out / "tables" / "phantoms.csv").table["text"])
    methods = [*FLOORS, *find.names("hilum.methods")]
    cells = [
        (films, encoder, method)
        for encoder, films, method in product(ENCODERS, TASKS, methods)
        if not (method in VIT_ONLY and encoder != "ViT-S")
        and not (method in TEXT and films == "real")  # one hospital of three wrote readings
        and not (method == "pixels" and encoder != "ResNet-18")
    ]
    cells = [cell for cell in cells if not (out / "cells" / name_of(*cell)).exists()]
    sys.stderr.write(f"{len(cells)} cells to run\n")
    with ThreadPoolExecutor(2) as pool:
        for films, encoder, method in cells:
            pool.submit(one_cell, films, encoder, method, out)


def name_of(films: str, encoder: str, method: str) -> str:
    """The file of a cell."""
    return f"{films}-{encoder}-{method}.json"


def one_cell(films: str, encoder: str, method: str, out: Path) -> None:
    """Runs a cell in a process of its own."""
    log = out / "logs" / f"{name_of(films, encoder, method)[:-5]}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as lines:
        words = [sys.executable, __file__, "--cell", films, encoder, method, str(out)]
        alone = os.environ | {"OMP_NUM_THREADS": "1"}
        code = subprocess.run(words, stdout=lines, stderr=lines, env=alone).returncode
    sys.stderr.write(f"{log.stem}: {'done' if code == 0 else f'FAILED, see {log}'}\n")


def cell(films: str, encoder: str, method: str, out: Path) -> None:
    """Pretrains and probes; notes time, the peak memory of the pretraining, and its last metrics."""
    facts: dict[str, Any] = {"films": films, "encoder": encoder, "method": method}
    init = method
    if method not in FLOORS:
        run = pretrain(films, encoder, method, out)
        facts["cpu_seconds"] = time.process_time()
        facts["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        facts["last"] = {key: value for row in rows for key, value in row.items()}
        init = str(run)
    probe(films, encoder, init, method, out)
    done = out / "cells" / name_of(films, encoder, method)
    done.parent.mkdir(parents=True, exist_ok=True)
    done.write_text(json.dumps(facts))


def pretrain(films: str, encoder: str, method: str, where: Path) -> Path:
    """One pretraining."""
    more = dict(SETTINGS.get(method, {}))
    if method in TEXT:
        more |= {"text_model": str(where / "bert"), "text_freeze": 0}
    hold_out = [where / "tables" / f"{task}.csv" for task in ("opacity", "findings", "sex")]
    run: Path = hilum.pretrain(
        method,
        records=where / "tables" / ("union.csv" if films == "real" else f"{films}.csv"),
        out=where / "pretrained" / films / encoder / method,
        arch=ENCODERS[encoder],
        hold_out=hold_out if films == "real" else [],
        steps=IMAGES_SEEN // BATCH,
        batch_size=BATCH,
        image_size=SIDE,
        lr=1e-3 if encoder == "ResNet-18" else 3e-4,
        warmup=0.1,
        view={"crop_min": 0.3},
        **common(where),
        **more,
    )
    return run


def probe(films: str, encoder: str, init: str, method: str, where: Path) -> None:
    """Logistic regression on every task of the films."""
    for task, findings in TASKS[films].items():
        hilum.transfer(
            records=where / "tables" / f"{task}.csv",
            init=init,
            arch=ENCODERS[encoder],
            image_size=SIDE,
            findings=findings,
            label_fraction=FRACTIONS,
            seeds=SEEDS,
            replicates=1000,
            out=where / "transfer" / task / encoder / method,
            **common(where),
        )


def common(where: Path) -> dict[str, Any]:
    """What every command is told."""
    return {"store": where / "store", "store_size": 144, "threads": 1, "workers": 0}


def tables(folder: Path, out: Path) -> None:
    """Real films as for docs/results.md; phantoms, without and with the shortcut."""
    if not (out / "union.csv").exists():
        script = Path(__file__).parent.parent / "real_films" / "prepare.py"
        subprocess.run([sys.executable, script, folder, out], check=True)
    if (out / "shortcut.csv").exists():
        return
    for shortcut in (False, True):
        drawn = out / ("films_shortcut" if shortcut else "films_plain")
        if not (drawn / "records.csv").exists():
            write_phantoms(drawn, count=PHANTOMS, shortcut=shortcut)
    plain = out / "phantoms.csv"
    function("records split")(out / "films_plain" / "records.csv", out=plain)
    split = hilum.Records.read(plain)
    biased = split.table["image"].str.replace("films_plain", "films_shortcut")
    # Tested where the marker says nothing: who leant on it falls.
    table = split.table.assign(image=split.table["image"].where(split.table["split"] == "test", biased))
    hilum.Records(table, split.findings).write(out / "shortcut.csv")


if __name__ == "__main__":
    if sys.argv[1] == "--cell":
        cell(*sys.argv[2:5], Path(sys.argv[5]))
    else:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
