"""hilum explain: what a classifier looked at, drawn on the films and scored against boxes."""

import itertools
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import Field, model_validator

from hilum.commands._drawn import caption, draw, score_table, write_maps
from hilum.commands._in_split import in_split
from hilum.commands._open import environment, open_records, open_store
from hilum.config import RecordsConfig, StoreConfig
from hilum.durable import write_atomically
from hilum.errors import ConfigError, OutputError, WeightsError
from hilum.find import did_you_mean
from hilum.images.store import Store
from hilum.models.classifier import Classifier
from hilum.models.detector import Detector
from hilum.models.weights import load
from hilum.records.boxes import boxes_of, require_boxes
from hilum.records.table import Records
from hilum.report.explanation import write_explanation_page
from hilum.report.words import number
from hilum.saliency.grad_cam import check_layer, grad_cam
from hilum.saliency.maps import Explainer, FilmMap, film_maps
from hilum.saliency.occlusion import grid, occlusion
from hilum.saliency.overlay import colour_bar
from hilum.saliency.patches import patch_maps
from hilum.saliency.rollout import attention_rollout, attentions
from hilum.saliency.sanity import randomisation, reinitialised, stages
from hilum.saliency.scoring import RANDOM_WEIGHTS, Judged, Scores, score

EXAMPLE = (
    "hilum explain runs/probe --records films.csv --finding Effusion --method grad_cam --split test "
    "--limit 50 --out maps"
)
TAKES = "model"

SANITY_FILMS = 16
"""Films that stages of random weights are compared on."""

log = logging.getLogger(__name__)


class Settings(RecordsConfig, StoreConfig):
    """Draws what a classifier looked at on each film, and scores it where the records have boxes."""

    model: Path
    """A run of transfer, or its model.safetensors."""
    finding: str
    """What it is asked about, as it is named in the run."""
    out: Path
    """The folder that is written, new or empty: overlays, maps.csv, maps.npy, maps.html and, where there are
    boxes, scores.json."""
    method: Literal["grad_cam", "grad_cam_plus_plus", "occlusion", "rollout", "patches"] = "grad_cam"
    """grad_cam and grad_cam_plus_plus: gradients at the last map. occlusion: how far the logit falls when a
    grey square hides a part. rollout: attention of a ViT. patches: scores of an encoder with --pool top_k.
    The last two are the same for every finding."""
    against: bool = False
    """Show what speaks against the finding: films without it, and what a positive film lacks."""
    layer: str = ""
    """A part of the backbone as timm names it, for example layer3, that Grad-CAM takes in place of the last
    map."""
    patch: int = 0
    """Side of occlusion's square, pixels of what the encoder sees; 0: two strides."""
    stride: int = 0
    """How far the square moves each time; 0: a sixteenth of the side."""
    split: str = ""
    """Only films of this split; empty: all."""
    limit: Annotated[int, Field(ge=0)] = 50
    """At most so many films: those with boxes of the finding first, then those labelled with it, then the
    rest, each in the order of the table; 0: all."""
    score: Literal["auto", "always", "never"] = "auto"
    """Score the maps against boxes of the finding: auto where there are some, always insists on them."""
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """How far from a box the map's maximum may lie and still hit it, pixels at --store-size."""
    sanity: bool = False
    """Also make the weights random, from the head to the stem, and say how similar the maps stay."""
    replicates: int = 2000
    """Bootstrap replicates over patients behind each interval."""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Share of the colours in a picture; the rest is the film."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes a GPU where there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the encoder."""

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        if self.layer and not self.method.startswith("grad_cam"):
            raise ValueError(f"layer is for grad_cam and grad_cam_plus_plus; method is {self.method}")
        if self.against and self.method in ("rollout", "patches"):
            raise ValueError(
                f"against is for gradients and occlusion; method {self.method} asks for no finding"
            )
        if (self.patch or self.stride) and self.method != "occlusion":
            raise ValueError(f"patch and stride are for occlusion; method is {self.method}")
        return self


def explain(config: Settings) -> Path:
    """Writes overlays, tables and the page, and returns the page's path."""
    if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise OutputError(f"{config.out}: is there already; give another --out or remove it")
    model = open_classifier(config)
    method = explainer_of(config, model)
    films, val = _chosen(config)
    everything = Records(pd.concat([films.table, val.table], ignore_index=True), films.findings)
    readable, store = open_store(config, everything)
    kept = set(readable.table["image"])
    films, val = (part.take(part.table["image"].isin(kept).to_numpy()) for part in (films, val))
    asked = Asked(config, method, store, model.findings.index(config.finding))
    maps = asked.maps(model, films, "Explaining")
    scores = _score(asked, model, maps, films, val)
    sanity = _sanity(asked, model, films)
    fit = model.encoder.input.fit
    told = config.method.replace("_", " ") + (", evidence against" if config.against else "")
    shown = draw(config.out, maps, films, store, config.finding, told, fit=fit, alpha=config.alpha)
    write_maps(config.out, maps, films, store, finding=config.finding, fit=fit)
    _write_json(config, scores, sanity)
    said = caption(maps, films, finding=config.finding, split=config.split)
    log.info("%s", said)
    write_explanation_page(
        config.out / "maps.html",
        finding=config.finding,
        method=told,
        caption=said,
        films=shown,
        bar=colour_bar(160, 12),
        scores=score_table(scores) if scores else None,
        sanity=sanity,
        provenance=environment(films, store) | {"settings": config.model_dump(mode="json")},
    )
    return config.out / "maps.html"


def open_classifier(config: Settings) -> Classifier:
    """The model, which must know the finding.

    Raises:
        ConfigError: it does not.
        WeightsError: it is a detector, or an encoder without findings.
    """
    model = load(config.model)
    if isinstance(model, Detector):
        raise WeightsError(
            f"{config.model}: this is a detector of boxes, which show by themselves what it looked at; "
            "`hilum predict` writes them"
        )
    if not isinstance(model, Classifier):
        raise WeightsError(
            f"{config.model}: an encoder without findings; `hilum transfer --init` fits them first"
        )
    if config.finding not in model.findings:
        raise ConfigError(
            f"{config.model}: knows no finding {config.finding!r}"
            f"{did_you_mean(config.finding, model.findings) or '.'} It knows {', '.join(model.findings)}"
        )
    return model


def explainer_of(config: Settings, model: Classifier) -> Explainer:
    """The method with its settings.

    Raises:
        ConfigError: it does not fit the model; said before any film is decoded.
    """
    encoder = model.encoder
    if config.method == "rollout":
        attentions(encoder)
        return attention_rollout
    if config.method == "patches":
        if encoder.top_k is None:
            raise ConfigError(
                f"{config.model}: its encoder pools by {encoder.pooling.pool} and scores no patches; try "
                "method grad_cam"
            )
        return patch_maps
    if config.method == "occlusion":
        grid(encoder.input.side, patch=config.patch, stride=config.stride)
        return partial(occlusion, patch=config.patch, stride=config.stride, against=config.against)
    check_layer(encoder, config.layer)
    plus_plus = config.method == "grad_cam_plus_plus"
    return partial(grad_cam, plus_plus=plus_plus, against=config.against, layer=config.layer)


@dataclass(frozen=True)
class Asked:
    """One method and one finding, for any films and any weights."""

    config: Settings
    method: Explainer
    store: Store
    finding: int

    def maps(self, model: Classifier, films: Records, what: str) -> list[FilmMap]:
        """The maps of films by this model; none of none."""
        if not len(films):
            return []
        settings = {"device": self.config.device, "precision": self.config.precision, "what": what}
        return list(film_maps(self.method, model, films, self.store, finding=self.finding, **settings))


def _chosen(config: Settings) -> tuple[Records, Records]:
    """The films to explain, and the validation films with boxes that thresholds are chosen on."""
    records = open_records(config)
    films = in_split(records, config.split, path=config.records)
    where = f"{config.records}{f', split {config.split}' if config.split else ''}"
    if config.score == "always":
        require_boxes(films, config.finding, where=where)
    val = (
        records.where("val")
        if config.split not in ("", "val") and config.score != "never"
        else films.take(_NONE)
    )
    val = val.take(np.flatnonzero(_num_boxes(val, config.finding)))
    known = films.table[config.finding] == 1 if config.finding in films.findings else np.zeros(len(films))
    rank = np.where(_num_boxes(films, config.finding) > 0, 0, np.where(known, 1, 2))
    end = config.limit or None
    return films.take(np.argsort(rank, kind="stable")[:end]), val.take(np.arange(len(val))[:end])


def _score(
    asked: Asked, model: Classifier, maps: Sequence[FilmMap], films: Records, val: Records
) -> Scores | None:
    """The scores of films that have boxes; None if none is to be scored."""
    config, fit = asked.config, model.encoder.input.fit
    rows = np.flatnonzero(_num_boxes(films, config.finding))
    if config.score == "never" or not len(rows):
        return None
    boxed = films.take(rows)
    untaught = reinitialised(model)
    found = {
        config.method: (
            asked.maps(model, val, "Explaining validation films"),
            [maps[row] for row in rows.tolist()],
        ),
        RANDOM_WEIGHTS: (
            asked.maps(untaught, val, "Random weights, validation films"),
            asked.maps(untaught, boxed, "Random weights"),
        ),
    }
    judged = {
        name: (
            Judged.of(before, val, asked.store, finding=config.finding, fit=fit),
            Judged.of(after, boxed, asked.store, finding=config.finding, fit=fit),
        )
        for name, (before, after) in found.items()
    }
    return score(
        judged,
        finding=config.finding,
        patients=boxed.patients,
        tolerance=config.tolerance,
        replicates=config.replicates,
    )


def _sanity(asked: Asked, model: Classifier, films: Records) -> list[dict[str, Any]]:
    """A row for each stage of random weights, on the first films."""
    if not asked.config.sanity:
        return []
    some = films.take(np.arange(min(len(films), SANITY_FILMS)))
    count, of = itertools.count(), len(stages(model.encoder))

    def maps_of(made: Classifier) -> list[Float[np.ndarray, "_ _"]]:
        number = next(count)
        what = f"Random weights, stage {number} of {of}" if number else "The model's own maps"
        return [one.scores for one in asked.maps(made, some, what)]

    rows = randomisation(maps_of, model)
    return [{"stage": stage, **asdict(found)} for stage, found in rows]


def _write_json(config: Settings, scores: Scores | None, sanity: list[dict[str, Any]]) -> None:
    asked = {name: getattr(config, name) for name in ("finding", "method", "against", "split")}
    if scores:
        content = asked | {"tolerance": config.tolerance} | asdict(scores)
        write_atomically(config.out / "scores.json", json.dumps(content, indent=1).encode())
        for metric, row in scores.estimates.items():
            told = "; ".join(f"{name} {number(one.value)}" for name, one in row.items())
            log.info("%-9s %s", metric, told)
    if sanity:
        content = asked | {"stages": sanity}
        write_atomically(config.out / "sanity.json", json.dumps(content, indent=1).encode())


def _num_boxes(records: Records, finding: str) -> NDArray[np.int64]:
    return np.array([len(found) for found in boxes_of(records, finding)], np.int64)


_NONE = np.zeros(0, np.int64)
