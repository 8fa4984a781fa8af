"""hilum map: embeddings as a picture, and what they tell of site, view and findings as numbers."""

import logging
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32

from hilum.commands._columns import cells_of, usual_columns
from hilum.commands._in_split import in_split
from hilum.commands._open import environment, open_encoder, open_records, open_store, refuse_overlap
from hilum.config import EncoderConfig, RecordsConfig, StoreConfig
from hilum.data.loader import codes_of
from hilum.errors import ConfigError, NumericalError, OutputError, RecordsError
from hilum.images.store import Store
from hilum.inference import embed
from hilum.metrics.neighbours import tell
from hilum.metrics.projection import FEWEST, pca, umap
from hilum.records.table import Records
from hilum.report.embedding_map import Map, caption, colour_of

EXAMPLE = "hilum map runs/simclr --records films.csv --colour Effusion site view --out map"
TAKES = "init"

log = logging.getLogger(__name__)


class Settings(RecordsConfig, StoreConfig, EncoderConfig):
    """Draws the embeddings of radiographs, and says what their neighbours tell."""

    init: str
    """The encoder: a run, a weights file, imagenet (needs a network), random, or pixels (32x32)."""
    out: Path
    """Folder for map.html, map.png, map.csv and map.json; it must not exist."""
    colour: list[str] = []
    """Columns, a panel for each: findings, site, view, sex, age, split, or any other of the file. Empty: the
    first findings, and those of site, view, sex and split in which films differ."""
    projection: Literal["pca", "umap"] = "pca"
    """How embeddings become a picture: by principal components, or by UMAP (an extra)."""
    split: str = ""
    """Only rows of this split; empty: all."""
    films: int = 20_000
    """Of more films than this a draw of whole patients is looked at."""
    replicates: int = 1000
    """Bootstrap replicates over patients behind each interval."""
    seed: int = 0
    """Of the draw of patients, UMAP, and a random encoder."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes a GPU where there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the encoder."""


def map(config: Settings) -> Path:
    """Writes the map and returns its folder."""
    if config.out.exists():
        raise OutputError(f"{config.out}: is there already; give another --out or remove it")
    every = open_records(config)
    names = list(dict.fromkeys(config.colour)) or usual_columns(every)
    if not names:
        raise ConfigError(f"{config.records}: films differ in no usual column; name some with --colour")
    cells = cells_of(config, every, names)
    encoder = open_encoder(config.init, config, seed=config.seed)
    chosen, notes = _chosen(every, config)
    records, store = open_store(config, chosen)
    cache = config.store.expanduser() / "features"
    features = embed(encoder, records, store, device=config.device, precision=config.precision, cache=cache)
    images, patients = (records.table[part].tolist() for part in ("image", "patient"))
    places, explained = _projected(features, config)
    colours = [
        colour_of(name, [column[image] for image in images], is_finding=name in every.findings)
        for name, column in cells.items()
    ]
    told = tell(
        features,
        {colour.name: colour.values for colour in colours},
        patient=codes_of(records.table["patient"]),
        replicates=config.replicates,
        seed=config.seed,
    )
    Map(
        title=f"Embeddings of {Path(config.init).name}",
        images=tuple(images),
        patients=tuple(patients),
        places=places,
        explained=explained,
        dimensions=features.shape[1],
        colours=tuple(colours),
        told=told,
        notes=tuple(notes + _trained_on(config, records, store)),
        provenance={"environment": environment(records, store), "settings": config.model_dump(mode="json")},
    ).write(config.out)
    for name, one in told.items():
        log.info("%s: %s", name, caption(one))
    return config.out


def _chosen(records: Records, config: Settings) -> tuple[Records, list[str]]:
    """The films of the split, or of a draw of its patients where there are too many; what is to be said."""
    if config.films < FEWEST:
        raise ConfigError(f"--films is {config.films}; a map needs {FEWEST} or more")
    kept = in_split(records, config.split, path=config.records)
    if len(kept) <= config.films:
        return kept, []
    drawn = kept.share(config.films / len(kept), seed=config.seed)
    note = f"A draw of {len(drawn):,} of {len(kept):,} films, by whole patients (seed {config.seed})."
    log.info("%s --films sets how many", note)
    return drawn, [note]


def _projected(
    features: Float32[np.ndarray, "N D"], config: Settings
) -> tuple[Float[np.ndarray, "N 2"], tuple[float, float] | None]:
    try:
        if config.projection == "umap":
            return umap(features, seed=config.seed), None
        places, (first, second) = pca(features)
    except (NumericalError, RecordsError) as error:
        raise type(error)(f"{config.init}: {error}") from None
    return places, (float(first), float(second))


def _trained_on(config: Settings, records: Records, store: Store) -> list[str]:
    seen = refuse_overlap(Path(config.init), records, store, allow=True)
    known = records.table["patient"].nunique()
    return [f"The encoder was trained on {seen:,} of these {known:,} patients."] if seen else []
