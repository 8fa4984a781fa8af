"""Maps of one finding over films, whichever method makes them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hilum.data.loader import in_order
from hilum.data.views import PLAIN
from hilum.images.store import Store
from hilum.models.classifier import Classifier
from hilum.progress import Progress
from hilum.records.table import Records
from hilum.train.device import autocast, choose_device

BATCH = 32


class Maps(NamedTuple):
    """What a method says of a batch; higher is more evidence, and only differences within a film count."""

    scores: Float[Tensor, "B h w"]
    logits: Float[Tensor, "B F"]
    """Of the images as they are."""


Explainer = Callable[[Classifier, Tensor, int], Maps]
"""A method: a model in evaluation mode, its normalised images, and the place of a finding in `findings`."""


@dataclass(frozen=True)
class FilmMap:
    """The map of one film."""

    scores: Float[np.ndarray, "h w"]
    """Of the square view that the encoder saw."""
    probability: float
    """Of the finding."""


def film_maps(
    explain: Explainer,
    model: Classifier,
    records: Records,
    store: Store,
    *,
    finding: int,
    device: str = "auto",
    precision: str = "auto",
    what: str = "Explaining",
) -> Iterator[FilmMap]:
    """The map of every radiograph, in the order of the table.

    The model is left in evaluation mode, on that device.
    """
    place = choose_device(device)
    model.to(place, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    spec, done = model.encoder.input, 0
    with Progress(what, len(records), unit="images") as line:
        for batch in in_order(store, records, PLAIN.at(spec), batch_size=BATCH):
            with autocast(precision, place):
                scores, logits = explain(model, batch.to(place, spec).views[0], finding)
            probabilities = model.probabilities(logits.float())[:, finding].tolist()
            for one, probability in zip(scores.float().cpu().numpy(), probabilities, strict=True):
                yield FilmMap(one, probability)
            done += len(batch)
            line.update(done)
