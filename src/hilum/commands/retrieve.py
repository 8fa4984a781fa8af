"""hilum retrieve: how well films find their texts, and texts their films."""

import json
import logging
from pathlib import Path
from typing import Literal

from hilum.commands._in_split import in_split
from hilum.commands._open import open_records, open_store, refuse_overlap
from hilum.commands.zero_shot import open_image_text, similarities
from hilum.config import RecordsConfig, StoreConfig
from hilum.data.loader import codes_of
from hilum.durable import write_atomically
from hilum.errors import OutputError, RecordsError
from hilum.metrics.retrieval import retrieval_intervals

EXAMPLE = "hilum retrieve runs/clip --records films.csv --split test --out retrieval.json"
TAKES = "init"

log = logging.getLogger(__name__)


class Settings(RecordsConfig, StoreConfig):
    """Scores how well films find their texts among all, and texts their films."""

    init: Path
    """A run of clip, convirt, gloria or an image-text method of your own."""
    out: Path
    """The JSON file that is written; it must not exist."""
    split: str = ""
    """Only rows of this split; empty: all."""
    allow_overlap: bool = False
    """Score films or patients that the run was trained on."""
    replicates: int = 2000
    """Bootstrap replicates over patients behind each interval."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes a GPU where there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the encoder."""


def retrieve(config: Settings) -> Path:
    """Writes recall at 1, 5 and 10 and the median rank, both ways, with intervals."""
    if config.out.exists():
        raise OutputError(f"{config.out}: is there already; give another --out or remove it")
    task = open_image_text(config.init)
    records = open_records(config, labels=False)
    records = in_split(records, config.split, path=config.records)
    told = records.table["text"].str.strip() != "" if "text" in records.table else None
    if told is None or not told.any():
        raise RecordsError(
            f"{config.records}: there is no text to find; if it is in a column of another name, say "
            "--columns text=NAME"
        )
    records, store = open_store(config, records.take(told.to_numpy()))
    refuse_overlap(config.init, records, store, allow=config.allow_overlap)
    texts = records.table["text"]
    same = codes_of(texts)
    different = texts.drop_duplicates()
    groups = [[text] for text in different]
    found = similarities(task, groups, records, store, device=config.device, precision=config.precision)
    column = {code: place for place, code in enumerate(same[different.index].tolist())}
    found = found[:, [column[code] for code in same.tolist()]]
    patient = codes_of(records.table["patient"])
    numbers = retrieval_intervals(found, same, patient=patient, replicates=config.replicates)
    result = {
        "images": len(records),
        "texts": len(different),
        "patients": int(records.table["patient"].nunique()),
        "left out without a text": int((~told).sum()),
        "metrics": numbers,
    }
    write_atomically(config.out, json.dumps(result, indent=1).encode())
    for name, one in numbers.items():
        told_of = (one[key] for key in ("value", "low", "high", "chance"))
        log.info("%-26s %.3f (%.3f to %.3f), chance %.3f", name, *told_of)
    return config.out
