"""The ways to fit findings on an encoder: from features that are encoded once, or by gradient descent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32
from numpy.typing import NDArray
from torch import nn

from hilum.commands._open import open_encoder
from hilum.data.loader import Loader
from hilum.data.views import PRESETS, ViewRecipe
from hilum.images.store import Store
from hilum.inference import embed, predict
from hilum.methods.supervised import Supervised
from hilum.metrics.classification import mean_auroc
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.models.lora import merge_lora
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.run import Run
from hilum.train.heads import fit_heads
from hilum.train.knn import choose_neighbours, vote
from hilum.train.loop import fit
from hilum.train.optim import Fitting

if TYPE_CHECKING:
    from hilum.commands.transfer import Settings

FROM_FEATURES = ("logistic", "knn")
"""Fits that see each radiograph once, as it is, through an encoder that stays what it was."""


class Cell(NamedTuple):
    """One fit among several that differ in these alone."""

    fraction: float
    seed: int
    shots: int = 0

    @property
    def name(self) -> str:
        """The folder of the cell.

        >>> Cell(0.01, 3).name, Cell(1.0, 3, shots=5).name
        ('fraction-0.01-seed-3', 'shots-5-seed-3')
        """
        drawn = f"shots-{self.shots}" if self.shots else f"fraction-{self.fraction:g}"
        return f"{drawn}-seed-{self.seed}"

    def draw(self, train: Records) -> NDArray[np.bool_]:
        """Which of the training radiographs are learnt from."""
        if self.shots:
            drawn = train.shots(self.shots, seed=self.seed)
        else:
            drawn = train.share(self.fraction, seed=self.seed)
        return train.table["image"].isin(drawn.table["image"]).to_numpy()


@dataclass(frozen=True, eq=False)
class Nearest:
    """An encoder with the labelled radiographs that vote on others."""

    encoder: Encoder
    findings: tuple[str, ...]
    features: Float32[np.ndarray, "N D"]
    labels: Float32[np.ndarray, "N F"]
    neighbours: int


def task_of(config: "Settings", encoder: Encoder, findings: Sequence[str]) -> Supervised:
    """What gradient descent trains: a new head, and as much of the encoder as the settings say."""
    lora = config.fit == "lora"
    fitting = Fitting(
        head_only=config.fit == "linear",
        train_from=config.train_from,
        head_first=config.linear_share if config.fit == "linear_then_finetune" else 0.0,
        layer_decay=config.layer_decay,
        head_scale=config.head_lr / config.lr if config.head_lr else 1.0,
        lora_rank=config.lora_rank if lora else 0,
        lora_alpha=config.lora_alpha if lora else 0.0,
    )
    losses = ("loss", "focal_gamma", "gamma_positive", "gamma_negative", "margin")
    shared = ("exclusive", "weighting", "label_smoothing", "mixup", *losses)
    return Supervised(
        encoder.requires_grad_(True),
        findings=findings,
        fitting=fitting,
        **{name: getattr(config, name) for name in shared},
    )


def recipe_of(config: "Settings", encoder: Encoder) -> ViewRecipe:
    """What gradient descent sees of a film."""
    return ViewRecipe((PRESETS[config.views].change(**config.view),)).at(encoder.input)


def fit_by_gradient(
    config: "Settings", seed: int, labelled: Records, val: Records, store: Store, run: Run
) -> Classifier:
    """Trains a head, and as much of the encoder as the settings say; goes on from the run's checkpoint."""
    encoder = open_encoder(config.init, config, seed=seed)
    torch.manual_seed(seed)
    task = task_of(config, encoder, labelled.findings)
    loader = Loader(
        store,
        labelled.softened(),  # for a loss alone: validation and everything else takes them as unknown
        recipe_of(config, encoder),
        batch_size=config.batch_size,
        seed=seed,
        workers=config.workers,
    )

    def validate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Classifier)
        scores = predict(model, val, store, device=config.device, precision=config.precision).scores
        return {"val_auroc": mean_auroc(val.labels, scores)}

    fit(task, loader, config.model_copy(update={"seed": seed}), run, validate=validate)
    merge_lora(encoder)
    return task.model


def fit_from_features(
    config: "Settings",
    drawn: Mapping[Cell, NDArray[np.bool_]],
    encoder: Encoder,
    records: Records,
    store: Store,
) -> dict[Cell, Classifier | Nearest]:
    """All cells, each on the training radiographs drawn for it, from features that are encoded once."""
    train, val = records.where("train"), records.where("val")
    cache = config.store.expanduser() / "features"
    features, val_features = (
        embed(encoder, part, store, device=config.device, precision=config.precision, cache=cache)
        for part in (train, val)
    )
    if config.fit == "knn":
        voters = ((features[rows], train.labels[rows]) for rows in drawn.values())
        return {
            cell: Nearest(
                encoder,
                records.findings,
                *voter,
                config.neighbours or choose_neighbours(*voter, val_features, val.labels),
            )
            for cell, voter in zip(drawn, voters, strict=True)
        }
    heads = fit_heads(
        features,
        train.labels,
        val_features,
        val.labels,
        subsets=np.stack(list(drawn.values())),
        exclusive=config.exclusive,
        penalty=config.penalty,
        max_iter=config.max_iter,
    )
    return {
        cell: _with_head(encoder, records.findings, *head, exclusive=config.exclusive)
        for cell, head in zip(drawn, heads, strict=True)
    }


def predictions_of(
    fitted: Classifier | Nearest, config: "Settings", records: Records, store: Store
) -> Predictions:
    """The probability of every finding in every radiograph."""
    cache = config.store.expanduser() / "features" if config.fit in FROM_FEATURES else None
    if isinstance(fitted, Classifier):
        return predict(fitted, records, store, device=config.device, precision=config.precision, cache=cache)
    queries = embed(
        fitted.encoder, records, store, device=config.device, precision=config.precision, cache=cache
    )
    (shares,) = vote(fitted.features, fitted.labels, queries, [fitted.neighbours])
    return Predictions.make(records, fitted.findings, shares)


def _with_head(
    encoder: Encoder, findings: tuple[str, ...], weight: np.ndarray, bias: np.ndarray, *, exclusive: bool
) -> Classifier:
    classifier = Classifier(encoder, findings, exclusive=exclusive)
    classifier.head.weight.data.copy_(torch.from_numpy(weight))
    classifier.head.bias.data.copy_(torch.from_numpy(bias))
    return classifier.eval()
