"""hilum zero-shot: probabilities of findings by their names alone, from a run of an image-text method."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor

from hilum import find
from hilum.commands._in_split import in_split
from hilum.commands._open import open_records, open_store, refuse_overlap
from hilum.commands._pretext import task_in
from hilum.config import Config, RecordsConfig, StoreConfig, read_yaml, settings_in
from hilum.data.loader import in_order
from hilum.data.views import PLAIN
from hilum.errors import ConfigError, OutputError, WeightsError
from hilum.images.store import Store
from hilum.models.encoder import Encoder
from hilum.models.text import ComparesWithTexts, TextTower
from hilum.models.text_files import TEXT_FILE
from hilum.models.weights import fill, load, read_tensors
from hilum.progress import Progress
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.run import CONFIG
from hilum.train.device import autocast, choose_device
from hilum.train.task import Task

EXAMPLE = (
    "hilum zero-shot runs/clip --records films.csv --findings Effusion --split test --out predictions.csv"
)
TAKES = "init"

log = logging.getLogger(__name__)

BATCH = 64


class Settings(RecordsConfig, StoreConfig):
    """Writes the probability of findings that nothing was trained on but texts."""

    init: Path
    """A run of clip, convirt, gloria or an image-text method of your own."""
    out: Path
    """The table that is written; it must not exist."""
    findings: list[str] = []
    """The findings, whether the table has columns for them or not. Empty: those columns that are labels."""
    positive: Annotated[list[str], Field(min_length=1)] = ["{finding}"]
    """Texts that say a finding is there; {finding} becomes its name in small letters."""
    negative: Annotated[list[str], Field(min_length=1)] = ["no {finding}"]
    """Texts that say it is not."""
    prompts: Path | None = None
    """A YAML file with texts of single findings in place of these: lines of `finding: [texts]`, or of
    `finding: {positive: [texts], negative: [texts]}`."""
    exclusive: bool = False
    """Exactly one finding is present in each radiograph: findings compete by their positive texts alone."""
    temperature: PositiveFloat = 1.0
    """Similarities are divided by it before the softmax; it changes no order of films, only how far
    probabilities are from one half."""
    split: str = ""
    """Only rows of this split; empty: all."""
    allow_overlap: bool = False
    """Score films or patients that the run was trained on."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes a GPU where there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the encoder."""


def zero_shot(config: Settings) -> Path:
    """Writes the predictions and returns their path; `hilum evaluate` scores them where there are labels."""
    if config.out.exists():
        raise OutputError(f"{config.out}: is there already; give another --out or remove it")
    records = open_records(config.model_copy(update={"findings": []}), labels=not config.findings)
    findings = tuple(config.findings) or records.findings
    if not findings:
        raise ConfigError(f"{config.records}: has no column of labels; say which --findings to look for")
    texts = prompts_of(findings, config)
    task = open_image_text(config.init)
    records, store = open_store(config, in_split(records, config.split, path=config.records))
    refuse_overlap(config.init, records, store, allow=config.allow_overlap)
    sides = [texts[finding][0] for finding in findings]
    sides += [] if config.exclusive else [texts[finding][1] for finding in findings]
    tower = task.text
    assert isinstance(tower, TextTower)
    for text in {text for side in sides for text in side}:
        tower.tokenize([text])  # each alone has to say something to the model
    found = similarities(task, sides, records, store, device=config.device, precision=config.precision)
    scores = probabilities(found / config.temperature, exclusive=config.exclusive)
    Predictions.make(records, findings, scores).write(config.out)
    log.info("%d radiographs, %d findings", len(records), len(findings))
    return config.out


def prompts_of(findings: Sequence[str], config: Settings) -> dict[str, tuple[list[str], list[str]]]:
    """The positive and negative texts of each finding.

    Raises:
        ConfigError: the file of prompts names another finding, or holds anything but texts.
    """
    given = read_yaml(config.prompts) if config.prompts else {}
    # A YAML key is read as a setting's name is, with - as _.
    keys = {finding.replace("-", "_"): finding for finding in findings}
    for key, own in given.items():
        if key not in keys:
            raise ConfigError(
                f"{config.prompts}: {key!r} is none of the findings{find.did_you_mean(key, findings)}"
            )
        sides = own if isinstance(own, dict) else {"positive": own}
        if not sides.keys() <= {"positive", "negative"} or not all(map(_are_texts, sides.values())):
            raise ConfigError(
                f"{config.prompts}: {key}: expected a list of texts, or positive and negative with a list of "
                "texts each"
            )
        given[key] = sides
    general = {"positive": config.positive, "negative": config.negative}
    found = {}
    for key, finding in keys.items():
        name = finding.replace("_", " ").lower()
        named = {side: [text.replace("{finding}", name) for text in texts] for side, texts in general.items()}
        sides = named | given.get(key, {})
        found[finding] = (sides["positive"], sides["negative"])
    return found


def _are_texts(found: Any) -> bool:
    return isinstance(found, list) and bool(found) and all(isinstance(text, str) and text for text in found)


def open_image_text(run: Path) -> Task:
    """The whole task of a finished image-text run, in evaluation mode.

    Raises:
        WeightsError: the run is of another kind, or its files do not fit each other.
    """
    model = load(run)
    file, settings = run / TEXT_FILE, run / CONFIG
    if not file.is_file() or not settings.is_file() or not isinstance(model, Encoder):
        raise WeightsError(
            f"{run}: expected the run of an image-text method, a folder with {TEXT_FILE} and {CONFIG}. "
            "`hilum pretrain clip`, convirt and gloria make one"
        )
    values: dict[str, Any] = read_yaml(settings)
    own: type[Config] = settings_in(find.path("hilum.methods", values["method"]))
    arguments = {name: values[name] for name in own.model_fields} | {"text_model": str(run)}
    task = task_in(values["method"])(model, **arguments)
    ours = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    fill(task, read_tensors(file) | ours, where=str(file))
    return task.eval()


@torch.inference_mode()
def similarities(
    task: Task,
    groups: Sequence[Sequence[str]],
    records: Records,
    store: Store,
    *,
    device: str = "auto",
    precision: str = "auto",
) -> Float[np.ndarray, "N G"]:
    """How similar every radiograph is to each group of texts, in the order of the table."""
    assert isinstance(task, ComparesWithTexts)
    place = choose_device(device)
    task.place(place)
    task.eval()
    parts: list[Tensor] = []
    with autocast(precision, place), Progress("Comparing", len(records), unit="images") as line:
        score = task.scorer(groups)
        for batch in in_order(store, records, PLAIN.at(task.input), batch_size=BATCH):
            parts.append(score(batch.to(place, task.input).views[0]).float().cpu())
            line.update(sum(map(len, parts)))
    return torch.cat(parts).numpy().astype(np.float64)


def probabilities(similarity: Float[np.ndarray, "N G"], *, exclusive: bool) -> Float[np.ndarray, "N F"]:
    """Softmax between findings, or for each finding between its positive and its negative texts.

    Without `exclusive` the first half of the columns is positive, the second negative, in the same order.
    """
    if exclusive:
        powers = np.exp(similarity - similarity.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True))
    positive, negative = np.split(similarity, 2, axis=1)
    return np.asarray(1 / (1 + np.exp(negative - positive)))
