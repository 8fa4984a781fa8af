"""Settings of films: their table, how they are kept, what sees them and what is shown of them."""

from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from hilum.config.base import Config


class RecordsConfig(Config):
    """Which radiographs, and how their table is read."""

    records: Path
    """The table of radiographs (.csv), or a folder with one sub-folder per class."""
    findings: list[str] = []
    """The columns that are labels. Empty: every column whose values are all 1, 0 or empty."""
    ordinal: list[str] = []
    """Columns that are grades of severity, integers from 0 to some K. Each becomes K findings, "grade 1 or
    more" and so on; -1 in them can become unknown or 0."""
    uncertain: list[str] = ["refuse"]
    """What a label of -1 (uncertain, as in CheXpert) becomes: refuse (an error), ignore (unknown), zero, one,
    or soft (0.55 to 0.85 for a loss, unknown elsewhere); also by finding, as in: ignore Edema=one. irvin2019
    and lovt are what these published for each finding."""
    columns: dict[str, str] = {}
    """Which of the file's columns plays which part, for example patient=PatientID."""
    root: Path | None = None
    """The folder that relative image paths start from. Default: where the table lies."""


class StoreConfig(Config):
    """How radiographs are decoded once and kept."""

    store: Path = Path("~/.cache/hilum")
    """Where decoded radiographs are kept. One sub-folder per content and setting; safe to delete."""
    store_size: int = 256
    """Shortest side, in pixels, at which radiographs are kept."""
    exclude_unreadable: bool = False
    """Leave unreadable files out, counted and listed, where the default is to stop."""


class EncoderConfig(Config):
    """What sees radiographs; a run or one of our weights files says it itself, and this is not read."""

    arch: str = "resnet18"
    """The backbone: timm's name, or torchvision/ and torchvision's."""
    image_size: int = 224
    """Side of what the encoder sees, pixels."""
    image_fit: Literal["crop", "squash", "pad"] = "crop"
    """How an oblong film fills the square."""
    mean: float = 0.5
    """Subtracted from grey levels in [0, 1]."""
    std: float = 0.25
    """Divides them then."""
    pool: Literal["auto", "mean", "token", "top_k"] = "auto"
    """How the last map becomes an embedding: the mean over its places, a ViT's class token, or the top_k
    places that a scorer prefers. auto: as the weights have it, and the mean for new ones."""
    top_k: int = 10
    """Places that pool top_k takes."""
    combine: Literal["mean", "weighted", "concatenate"] = "weighted"
    """How it joins them: their mean, their sum weighted by the softmax of their scores, or side by side."""
    arch_options: dict[str, str] = {}
    """Further arguments of the backbone's constructor, for example stem_norm=batch drop_path_rate=0.1."""
    family: str = ""
    """Whose checkpoint a weights file of others is, by a file of hilum.models.zoo; empty: it is found out."""
    preprocessing: Literal["own", "clip", "settings"] = "own"
    """How such a file sees films. own: as its family did. clip: 224 pixels squeezed and CLIP's normalisation,
    as cxrlearn does for all. settings: by image_size, image_fit, mean and std."""


class ViewsConfig(Config):
    """What training sees of a film."""

    views: Literal[
        "cxr",
        "plain",
        "supcon",
        "convirt",
        "lovt",
        "moco_cxr",
        "barlow_covid",
        "barlow_original",
        "dino",
        "moco_resnet",
        "moco_vit",
        "gloria",
        "chexzero",
        "rsna_1",
        "rsna_10",
        "rsna_11",
        "rsna_15",
        "rsna_20",
        "rsna_21",
    ] = "cxr"
    """Augmentation: cxr is mild and never flips, plain is none; the others are those of published systems,
    most of which flip left and right, barlow_covid up and down too."""
    view: dict[str, float] = {}
    """Changes to it, for example crop_min=0.3 flip=0.5 (a flip puts the heart on the wrong side)."""


class PairsConfig(Config):
    """What the other view of a pair shows."""

    other_view: dict[str, float] = {}
    """Further changes to every second view, where a method compares two."""
    positives: Literal["view", "patient"] = "view"
    """What makes a pair with a view: another view of its film, or a view of another film of its patient
    (MedAug). A film without such another pairs with itself; these are counted."""
    positive_study: Literal["any", "same", "different"] = "any"
    """Of which exam the patient's other film is; reads the column study."""
    positive_laterality: Literal["any", "same", "different"] = "any"
    """Whether both films are frontal or both lateral; reads the column view."""
    positive_findings: bool = False
    """The patient's other film has the same labels."""

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if self.positives == "view" and (
            self.positive_study != "any" or self.positive_laterality != "any" or self.positive_findings
        ):
            raise ValueError(
                "positive_study, positive_laterality and positive_findings choose among films of a patient; "
                "they need positives=patient"
            )
        return self
