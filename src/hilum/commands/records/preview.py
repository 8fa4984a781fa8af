"""hilum records preview: exactly what training sees."""

from pathlib import Path
from typing import Literal

from hilum.commands._open import open_records, open_store
from hilum.config import RecordsConfig, StoreConfig, ViewsConfig
from hilum.data.preview import contact_sheet
from hilum.data.views import PRESETS, ViewRecipe
from hilum.errors import ConfigError, OutputError
from hilum.images.spec import InputSpec

EXAMPLE = "hilum records preview films.csv --out preview.png"
TAKES = "records"


class Settings(RecordsConfig, StoreConfig, ViewsConfig):
    """Draws a contact sheet: each film as it is stored, then its augmented views."""

    out: Path
    """The PNG that is written; its name ends in .png, and it must not exist."""
    other_view: dict[str, float] = {}
    """Further changes to every second view, where a method compares two."""
    count: int = 8
    """Radiographs on the sheet."""
    image_size: int = 224
    """Side of what the encoder sees, pixels."""
    image_fit: Literal["crop", "squash", "pad"] = "crop"
    """How an oblong film fills the square."""
    seed: int = 0
    """The same as that of a training shows what that training sees."""


def preview(config: Settings) -> Path:
    """Writes the sheet and returns its path."""
    if config.out.suffix.lower() != ".png":
        raise ConfigError(f"--out {config.out}: the sheet is a PNG; give a name that ends in .png")
    if config.out.exists():
        raise OutputError(f"{config.out}: is there already; give another --out or remove it")
    records, store = open_store(config, open_records(config))
    view = PRESETS[config.views].change(**config.view)
    recipe = ViewRecipe((view, view.change(**config.other_view))).at(
        InputSpec(side=config.image_size, fit=config.image_fit)
    )
    contact_sheet(store, records, recipe, config.out, count=config.count, seed=config.seed)
    return config.out
