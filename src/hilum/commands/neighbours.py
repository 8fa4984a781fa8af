"""hilum neighbours: the films that an encoder takes to be most like a given one."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float32
from pydantic import Field, PositiveInt

from hilum.commands._columns import cells_of, usual_columns
from hilum.commands._in_split import in_split
from hilum.commands._open import open_encoder, open_records, open_store
from hilum.config import EncoderConfig, RecordsConfig, StoreConfig
from hilum.data.loader import codes_of
from hilum.errors import MissingError, NumericalError, OutputError
from hilum.images.store import Store
from hilum.inference import embed
from hilum.metrics.neighbours import nearest
from hilum.models.encoder import Encoder
from hilum.records.table import Records
from hilum.report.neighbour_sheet import Film, Neighbourhood, write_sheet

EXAMPLE = "hilum neighbours runs/simclr --records films.csv --image a.png b.dcm --k 8 --out neighbours"
TAKES = "init"

log = logging.getLogger(__name__)


class Settings(RecordsConfig, StoreConfig, EncoderConfig):
    """Shows the films of a table that are nearest to given ones."""

    init: str
    """The encoder: a run, a weights file, imagenet (needs a network), random, or pixels (32x32)."""
    image: Annotated[list[Path], Field(min_length=1, max_length=40)]
    """Films to ask about, PNG, JPEG or DICOM, in the table or not, each a row of the sheet; 40 at most."""
    out: Path
    """Folder for neighbours.png and neighbours.csv; it must not exist."""
    k: PositiveInt = 8
    """Neighbours of each."""
    show: list[str] = []
    """Columns under each film. Empty: the first findings, and those of site, view, sex and split in which
    films differ."""
    own_patient: Literal["exclude", "mark"] = "exclude"
    """Whether other films of the same patient are left out, or shown in a frame."""
    split: str = ""
    """Search only rows of this split; empty: all."""
    seed: int = 0
    """Of a random encoder."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes a GPU where there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the encoder."""


def neighbours(config: Settings) -> Path:
    """Writes the contact sheet and its table, and returns their folder."""
    if config.out.exists():
        raise OutputError(f"{config.out}: is there already; give another --out or remove it")
    every = open_records(config)
    cells = cells_of(config, every, config.show or usual_columns(every))
    asked = _asked(config, every)
    encoder = open_encoder(config.init, config, seed=config.seed)
    asked, asked_store = open_store(config.model_copy(update={"exclude_unreadable": False}), asked)
    searched = in_split(every, config.split, path=config.records)
    searched, store = open_store(config, searched)
    queries = _embedded(encoder, asked, asked_store, config)
    features = _embedded(encoder, searched, store, config)
    by = "patient" if config.own_patient == "exclude" else "image"
    both = codes_of(pd.concat([asked.table[by], searched.table[by]], ignore_index=True))
    places, similarity = nearest(
        features, both[len(asked) :], k=config.k, queries=queries, query_group=both[: len(asked)]
    )
    found = []
    for row, query in enumerate(_films(asked, asked_store, cells, range(len(asked)))):
        kept = places[row] >= 0
        films = _films(searched, store, cells, places[row][kept].tolist())
        found.append(_joined(query, films, similarity[row][kept].tolist()))
        if len(films) < config.k:
            log.warning("%s: only %d films of other patients are there", query.image, len(films))
    write_sheet(found, config.out)
    return config.out


def _asked(config: Settings, every: Records) -> Records:
    """The films to ask about as a table of their own; those that the records lack are of no known patient."""
    images = list(dict.fromkeys(os.path.abspath(path.expanduser()) for path in config.image))
    for image in images:
        if not Path(image).is_file():
            raise MissingError(f"--image {image}: no such file")
    patients = dict(zip(every.table["image"], every.table["patient"], strict=True))
    foreign = [image for image in images if image not in patients]
    if foreign:
        log.warning(
            "%d of %d films asked about are not in the records: films of their patients cannot be known",
            len(foreign),
            len(images),
        )
    table = {"image": images, "patient": [patients.get(image, "") for image in images]}
    return Records(pd.DataFrame(table, dtype="str").assign(split=""), ())


def _embedded(
    encoder: Encoder, records: Records, store: Store, config: Settings
) -> Float32[np.ndarray, "N D"]:
    cache = config.store.expanduser() / "features"
    found = embed(encoder, records, store, device=config.device, precision=config.precision, cache=cache)
    if not np.isfinite(found).all():
        raise NumericalError(f"{config.init}: embeddings of these films are not finite")
    return found


def _films(
    records: Records, store: Store, cells: Mapping[str, Mapping[str, str]], rows: Sequence[int]
) -> list[Film]:
    table = records.table.iloc[list(rows)]
    images = table["image"].tolist()
    return [
        Film(image, patient, store[film], {name: column.get(image, "") for name, column in cells.items()})
        for image, patient, film in zip(images, table["patient"], store.rows(images).tolist(), strict=True)
    ]


def _joined(query: Film, films: Sequence[Film], similarity: Sequence[float]) -> Neighbourhood:
    return Neighbourhood(
        query,
        [
            replace(film, distance=1 - value, is_own=film.patient == query.patient)
            for film, value in zip(films, similarity, strict=True)
        ],
    )
