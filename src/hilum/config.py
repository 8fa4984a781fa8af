"""Typed settings: one flat, frozen object per command, the same from flags, YAML, Python and the web."""

import ast
import itertools
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from hilum.errors import ConfigError, MissingError
from hilum.find import did_you_mean


class Config(BaseModel):
    """Base of all settings: frozen, nothing unknown, every field documented by the string under it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    @classmethod
    def build(cls, values: Mapping[str, Any], where: str) -> Self:
        """Validates settings once; every error is in the one message.

        Raises:
            ConfigError: any setting is unknown, missing or invalid.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigError("\n".join(_sentence(cls, one, where) for one in error.errors())) from None

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The default of every field that has one."""
        return {name: f.get_default() for name, f in cls.model_fields.items() if not f.is_required()}

    def to_yaml(self) -> str:
        """The complete settings, as `--config` reads them back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


@cache
def settings_in(source: Path, name: str = "Settings") -> type[Config]:
    """The settings that a file defines, made once and without running the rest of it.

    This is how `--help` shows a command's or a method's settings without importing torch: the class and the
    imports from `hilum.config`, `typing`, `pydantic` and `pathlib` are all that is executed.

    Raises:
        ConfigError: the file has no class of that name.
    """
    tree = ast.parse(source.read_text(encoding="utf-8"), filename=str(source))
    light = {"hilum.config", "typing", "pydantic", "pathlib"}
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module in light]
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    if not classes:
        raise ConfigError(
            f"{source}: no class {name}; what a command or a method can be told is a class of that name"
        )
    scope: dict[str, Any] = {"__name__": f"{__name__}.{source.stem}"}
    exec(compile(ast.Module([*imports, *classes], []), str(source), "exec"), scope)
    found: type[Config] = scope[name]
    for field, text in itertools.pairwise(classes[0].body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            assert isinstance(field.target, ast.Name)
            found.model_fields[field.target.id].description = str(text.value.value)
    return found


@cache
def joined(name: str, *parts: type[Config]) -> type[Config]:
    """One settings class with the fields of several, those of the first first."""
    return type(name, tuple(reversed(parts)), {"__module__": __name__, "__doc__": parts[0].__doc__})


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

    @field_validator("uncertain", mode="before")
    @classmethod
    def _one_word(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given


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


class StepConfig(Config):
    """What one step of training is."""

    batch_size: int = 64
    """Radiographs per optimiser step, over all processes and accumulation steps."""
    accumulate: int = 1
    """Parts that a batch is computed in. Losses that compare radiographs compare within a part."""
    optimizer: Literal["adamw", "sgd", "lars"] = "adamw"
    """How weights follow gradients."""
    weight_decay: float = 1e-4
    """Decay of weights; biases and normalisation are left out of it."""
    momentum: float = 0.9
    """Momentum of sgd and lars."""
    clip: float = 0.0
    """Largest norm of the gradient; 0 is no limit."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the encoder. auto: bfloat16 where the device is fast at it, float32 otherwise."""
    compile: bool = False
    """Compile the task with torch.compile: slow to start, fast on GPUs."""
    workers: int = 1
    """Processes that prepare batches; the result does not depend on it."""
    threads: int = 0
    """Threads of the arithmetic on the CPU; 0: torch's choice."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes a GPU where there is one."""
    seed: int = 0
    """Of initial weights, order and augmentation."""

    @model_validator(mode="after")
    def _check_step(self) -> Self:
        for name in ("batch_size", "accumulate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be split into {self.accumulate} equal parts"
            )
        return self


class TextConfig(Config):
    """What a method that compares radiographs with their texts reads, and by what."""

    text_model: str = "emilyalsentzer/Bio_ClinicalBERT"
    """A BERT-like model: a folder, a run of an image-text method, or a name on the hub (needs a network)."""
    text_freeze: int = 0
    """How many of its first layers are not trained, nor the embeddings before them; -1: all."""
    text_pool: Literal["mean", "class"] = "mean"
    """What embeds a text: the mean over its tokens, or its class token."""
    max_tokens: int = 128
    """Longer texts lose their end; how many did is logged, as cut_texts."""
    section: Literal["whole", "findings", "impression"] = "whole"
    """Which section of a report is read; one that lacks it is read whole, and logged, as lacking_section."""
    sentences: int = 0
    """How many sentences are drawn at random, anew each epoch; 0: all."""

    @model_validator(mode="after")
    def _check_text(self) -> Self:
        if self.sentences < 0:
            raise ValueError(f"sentences is {self.sentences}; it is 1 or more, or 0 for all")
        return self


class TrainConfig(StepConfig):
    """What the loop does with any task."""

    epochs: float = 10
    """How often every radiograph is seen."""
    steps: int = 0
    """Optimiser steps, in place of epochs; 0: epochs count."""
    lr: float = 1e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "step", "plateau", "constant"] = "cosine"
    """Learning rate after the warm-up. step: tenfold less at 60 % and 80 %. plateau: tenfold less when
    `monitor` stalls."""
    warmup: float = 0.05
    """Share of the run in which the learning rate rises linearly from 0."""
    ema: float = 0.0
    """Momentum of a moving average of the weights that is validated and kept instead; 0 is none."""
    monitor: str = ""
    """Validation metric by which the best epoch is kept; empty: the last epoch is kept."""
    patience: int = 0
    """Validations without improvement after which the run ends; 0: never. plateau waits half of it, or 1."""
    save_minutes: float = 10
    """A checkpoint is written this often, and when the run stops or ends."""
    log_every: int = 10
    """Steps between rows of metrics.jsonl."""
    tensorboard: bool = False
    """Write the rows of metrics.jsonl for TensorBoard too, into the run's folder tensorboard."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("epochs", "lr"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.schedule == "plateau" and not self.monitor:
            raise ValueError("schedule plateau needs monitor, the validation metric that it watches")
        if self.patience and not self.monitor:
            raise ValueError("patience needs monitor, the validation metric that it watches")
        return self


class ScoringConfig(Config):
    """How decisions and probabilities are judged on the test split."""

    threshold: str = "youden"
    """What the threshold of each finding is chosen for, on the validation split: youden (sensitivity +
    specificity), f1, or a rate to reach, as in sensitivity=0.95 or specificity=0.9."""
    prevalence: dict[str, float] = {}
    """Findings' prevalence elsewhere, as in Effusion=0.02: predictive values are also given for there."""
    calibrate: Literal["none", "temperature", "platt", "isotonic"] = "none"
    """A correction of the probabilities, fitted on the validation split; the report shows calibration on the
    test split before and after. Nothing else changes."""
    subgroups: list[str] = []
    """Columns whose groups are scored apart, any of the table. Empty: those of sex, age, view and site that
    there are; none: no groups."""
    age_bands: list[int] = [18, 40, 60, 80]
    """The first year of every band of age but the first."""
    match: dict[str, str] = {}
    """Findings that the predictions and other records name differently, as in "Opacity=Lung Lesion". Names of
    one meaning (Effusion, Pleural Effusion) are found without."""

    @field_validator("threshold")
    @classmethod
    def _check_threshold(cls, given: str) -> str:
        name, equals, target = given.partition("=")
        try:
            reached = not equals or 0 < float(target) < 1
        except ValueError:
            reached = False
        if not reached or name not in ({"sensitivity", "specificity"} if equals else {"youden", "f1"}):
            raise ValueError(
                "expected youden, f1, or a rate between 0 and 1 to reach, as in sensitivity=0.95 or "
                "specificity=0.9"
            )
        return given

    @field_validator("prevalence")
    @classmethod
    def _check_prevalence(cls, given: dict[str, float]) -> dict[str, float]:
        for finding, share in given.items():
            if not 0 < share < 1:
                raise ValueError(f"{finding}={share:g}; a prevalence is between 0 and 1")
        return given


class PretextConfig(RecordsConfig, StoreConfig, EncoderConfig, ViewsConfig, PairsConfig, StepConfig):
    """What a pretraining and a rehearsal of it are both told."""

    method: str
    """A file of hilum.methods by its name, or a dotted module of your own."""
    init: str = "random"
    """Where training starts: random, imagenet (needs a network), a weights file, or a run."""
    hold_out: list[Path] = []
    """Tables whose validation and test patients are kept out of this pretraining."""


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings of a YAML file.

    Raises:
        MissingError: there is no such file.
        ConfigError: it is not a flat mapping of settings.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise MissingError(f"{path}: no such settings file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path}: found {type(content).__name__}; expected lines of `setting: value`")
    return {key.replace("-", "_"): value for key, value in content.items()}


def _sentence(cls: type[Config], error: Any, where: str) -> str:
    name = ".".join(str(part) for part in error["loc"])
    known = list(cls.model_fields)
    if error["type"] == "extra_forbidden":
        return f"{where}: there is no setting {name!r}{did_you_mean(name, known)}"
    if error["type"] == "missing":
        return f"{where}: {flag(name)} is needed: {cls.model_fields[name].description}"
    message = error["msg"].removeprefix("Value error, ")
    if not name:
        return f"{where}: {message}"
    field = cls.model_fields.get(name.split(".")[0])
    choices = (
        typing.get_args(field.annotation) if field and typing.get_origin(field.annotation) is Literal else ()
    )
    near = did_you_mean(str(error["input"]), map(str, choices)) if choices else ""
    return f"{where}: {flag(name)} is {error['input']!r}; {message[:1].lower() + message[1:]}{near}"


def flag(name: str) -> str:
    """The command-line spelling of a setting.

    >>> flag("batch_size")
    '--batch-size'
    """
    return "--" + name.replace("_", "-")
