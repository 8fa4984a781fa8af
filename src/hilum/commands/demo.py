"""hilum demo: the main job from beginning to end, on synthetic radiographs or on yours."""

import logging
from pathlib import Path

from hilum.commands import function
from hilum.config import Config
from hilum.images.phantom import write_phantoms

EXAMPLE = "hilum demo --out demo"

log = logging.getLogger(__name__)

FRACTIONS = [0.02, 0.1, 1.0]
SEEDS = [0, 1, 2]


class Settings(Config):
    """Pretrains without labels, transfers with few labels and many, and compares with the floors; minutes."""

    out: Path
    """Where everything is written. Given again, it goes on where it stopped."""
    records: Path | None = None
    """Your table of radiographs with labels, in place of synthetic ones."""
    films: int = 1200
    """How many synthetic radiographs are drawn."""
    epochs: float = 8
    """Epochs of pretraining."""
    image_size: int = 96
    """Side of what the encoder sees, pixels."""


def demo(config: Settings) -> Path:
    """Runs every step that is not done yet and returns the page that compares them."""
    pretrain, transfer, compare = function("pretrain"), function("transfer"), function("compare")
    records = config.records or _films(config)
    split = config.out / "films-split.csv"
    if not split.exists():
        log.info("\nSplitting by patient")
        function("records split")(records, out=split)
    common = {"records": split, "image_size": config.image_size, "store": config.out / "store"}
    log.info("\nPretraining without labels: SimCLR, %g epochs at %d pixels", config.epochs, config.image_size)
    encoder = pretrain(
        "simclr", **common, out=config.out / "pretrained", epochs=config.epochs, store_size=config.image_size
    )
    runs = []
    for name, init in (("pixels 32×32", "pixels"), ("random encoder", "random"), ("SimCLR", str(encoder))):
        log.info("\nTransferring with %s of the labels: %s", ", ".join(f"{f:.0%}" for f in FRACTIONS), name)
        runs.append(
            transfer(
                **common,
                init=init,
                label_fraction=FRACTIONS,
                seeds=SEEDS,
                out=config.out / "transfer" / name,
                store_size=config.image_size,
            )
        )
    log.info("\nComparing")
    page: Path = compare(runs, out=config.out / "comparison")
    log.info("\nOpen %s", page / "compare.html")
    return page


def _films(config: Settings) -> Path:
    table = config.out / "films" / "records.csv"
    if not table.exists():
        log.info("Drawing %d synthetic radiographs", config.films)
        write_phantoms(config.out / "films", count=config.films)
    return table
