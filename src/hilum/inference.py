"""Model and radiographs in, embeddings or predictions out."""

import hashlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from hilum.data.loader import in_order
from hilum.data.views import PLAIN
from hilum.durable import write_atomically
from hilum.images.spec import InputSpec
from hilum.images.store import Store
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.models.weights import to_bytes
from hilum.progress import Progress
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.train.device import autocast, choose_device

BATCH = 64


def predict(
    model: Classifier,
    records: Records,
    store: Store,
    *,
    device: str = "auto",
    precision: str = "auto",
    cache: Path | None = None,
) -> Predictions:
    """The probability of every finding in every radiograph; `cache` is that of `embed`."""
    features = embed(model.encoder, records, store, device=device, precision=precision, cache=cache)
    head = model.head.cpu()
    with torch.inference_mode():
        probabilities = model.probabilities(head(torch.from_numpy(features)))
    return Predictions.make(records, model.findings, probabilities.numpy().astype(np.float64))


def embed(
    encoder: Encoder,
    records: Records,
    store: Store,
    *,
    device: str = "auto",
    precision: str = "auto",
    cache: Path | None = None,
) -> Float32[np.ndarray, "N D"]:
    """The embedding of every radiograph, in the order of the table.

    With `cache`, a folder, they are kept there under a name made of the hashes of the weights and the pixels.
    """
    if cache is None:
        return _outputs(encoder, encoder.input, records, store, device=device, precision=precision)
    key = hashlib.sha256(to_bytes(encoder))
    for part in (store.digest, precision, device, "\n".join(records.table["image"])):
        key.update(part.encode())
    kept = cache / f"{key.hexdigest()[:32]}.npy"
    if kept.exists():
        return np.array(np.load(kept, mmap_mode="r", allow_pickle=False))
    features = _outputs(encoder, encoder.input, records, store, device=device, precision=precision)
    write_atomically(kept, _npy(features))
    return features


def _npy(array: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


@torch.inference_mode()
def _outputs(
    model: nn.Module, spec: InputSpec, records: Records, store: Store, *, device: str, precision: str
) -> Float32[np.ndarray, "N D"]:
    place = choose_device(device)
    forward: Callable[[Tensor], Tensor] = model.to(place, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    parts = []
    recipe = PLAIN.at(spec)
    with Progress("Encoding", len(records), unit="images") as line:
        for batch in in_order(store, records, recipe, batch_size=BATCH):
            with autocast(precision, place):
                parts.append(forward(batch.to(place, spec).views[0]).float().cpu())
            line.update(sum(map(len, parts)))
    return torch.cat(parts).numpy()
