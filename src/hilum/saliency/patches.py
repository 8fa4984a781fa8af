"""The scores of patches as a heat map on the film, with the patches that were taken outlined."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from hilum.data.views import PLAIN, draw_batch
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.saliency.maps import Maps
from hilum.saliency.overlay import overlay

BATCH = 32


def patch_maps(model: Classifier, images: Float[Tensor, "B 1 S S"], finding: int) -> Maps:
    """The scores of patches as maps, of an encoder that pools by them; they are the same for every finding.

    Raises:
        ConfigError: the encoder scores no patches.
    """
    with torch.no_grad():
        scores = model.encoder.patch_scores(images)
        logits: Tensor = model(images)
    return Maps(scores.float(), logits.float())


def patch_overlays(
    encoder: Encoder, films: Sequence[UInt8[np.ndarray, "_ _"]], *, alpha: float = 0.4
) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
    """An `overlay` for each film, at its own size, by an encoder that pools by patch scores.

    The encoder is left in evaluation mode, on the device where it is.

    Raises:
        ConfigError: the encoder scores no patches.
    """
    encoder.eval()
    for first in range(0, len(films), BATCH):
        some = films[first : first + BATCH]
        for film, scores in zip(some, _scores(encoder, some), strict=True):
            yield overlay(film, scores, k=encoder.pooling.top_k, fit=encoder.input.fit, alpha=alpha)


@torch.inference_mode()
def _scores(encoder: Encoder, films: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    spec = encoder.input
    (views,) = draw_batch(PLAIN.at(spec), films, rows=np.arange(len(films)), epochs=0, seed=0)
    device = next(encoder.parameters()).device
    levels = torch.from_numpy(views).to(device)[:, None].float()
    scores: NDArray[np.float32] = encoder.patch_scores((levels / 255 - spec.mean) / spec.std).cpu().numpy()
    return scores
