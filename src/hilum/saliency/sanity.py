"""Do maps depend on what was learnt? Weights are made random again, from head to stem, stage by stage.

Adebayo et al. 2018 (https://arxiv.org/abs/1810.03292), section 3: maps of a method that explains a model must
become unlike the first ones. What unlike means is the data floor: how similar maps of different films are.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import nn

from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder

SIDE = 64
"""Maps are enlarged to it before their structure is compared: the window is 11 pixels wide."""

SEED = 181_003
"""Of random weights: no seed that a run is likely to have, since one that began from its own would get the
same weights back."""

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Similarity:
    """How alike two sets of maps are, averaged over the pairs in which neither map is flat."""

    spearman: float | None
    ssim: float | None
    pairs: int
    flat: int
    """Pairs that were left out."""


def randomisation(
    maps_of: Callable[[Classifier], Sequence[Array]], model: Classifier, *, seed: int = SEED
) -> list[tuple[str, Similarity]]:
    """The similarity to the model's own maps after each stage of `cascade`, and the floor.

    "other films" compares each film's map with the next film's: what is above it is about the film.

    Args:
        maps_of: the maps of some films by a model, in the same order each time.
        model: the trained one, which is left as it is.
        seed: of the random weights.
    """
    first = maps_of(model)
    found = [(stage, similarity(first, maps_of(made))) for stage, made in cascade(model, seed=seed)]
    return [*found, ("other films", similarity(first, [*first[1:], *first[:1]]))]


def cascade(model: Classifier, *, seed: int = SEED) -> Iterator[tuple[str, Classifier]]:
    """Copies of the model whose weights are random from the head down to the named stage.

    They are one copy, changed in place between the steps; the last is `reinitialised`. Random weights are
    those that the architecture starts with, statistics of its norms included.
    """
    made, fresh = copy.deepcopy(model), reinitialised(model, seed=seed)
    ours, theirs = made.state_dict(), fresh.state_dict()
    for stage, names in stages(model.encoder):
        for name in names:
            ours[name].copy_(theirs[name])
        yield stage, made


def reinitialised(model: Classifier, *, seed: int = SEED) -> Classifier:
    """A classifier of the same architecture with random weights, its head too, on the same device."""
    encoder = model.encoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        other = Encoder(encoder.arch, encoder.input, options=encoder.options, **asdict(encoder.pooling))
        fresh = Classifier(other, model.findings, exclusive=model.exclusive)
        fresh.head.reset_parameters()
    return fresh.to(next(model.parameters()).device).eval()


def stages(encoder: Encoder) -> list[tuple[str, list[str]]]:
    """Stages from the head to the stem, each with its tensors in a classifier's state dict.

    A stage is a child of the backbone. One that is a mere sequence and holds most of the weights is taken
    apart; what has only vectors (a norm) belongs to the stage before it.
    """
    state = encoder.net.state_dict()
    parts = _parts(encoder.net)
    groups: dict[str, list[str]] = {}
    loose = [name for name in state if not any(name.startswith(f"{part}.") for part in parts)]
    for part in parts:
        names = [name for name in state if name.startswith(f"{part}.")]
        if names and (not groups or any(state[name].ndim > 1 for name in names)):
            groups[part] = names
        elif names:
            groups[next(reversed(groups))] += names
    if groups:
        groups[next(iter(groups))] += loose  # a position table and a class token come with the stem
    scorer = [] if encoder.top_k is None else [f"encoder.top_k.{n}" for n in encoder.top_k.state_dict()]
    bottom_up = [(part, [f"encoder.net.{name}" for name in names]) for part, names in groups.items()]
    return [("head", ["head.weight", "head.bias", *scorer]), *reversed(bottom_up)]


def similarity(first: Sequence[Array], second: Sequence[Array]) -> Similarity:
    """Rank correlation and structural similarity of maps, pair by pair."""
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if np.ptp(a) > 0 and np.ptp(b) > 0]
    flat = len(first) - len(pairs)
    if not pairs:
        return Similarity(None, None, 0, flat)
    return Similarity(
        float(np.mean([spearman(a, b) for a, b in pairs])),
        float(np.mean([ssim(a, b) for a, b in pairs])),
        len(pairs),
        flat,
    )


def spearman(a: Float[np.ndarray, "h w"], b: Float[np.ndarray, "h w"]) -> float:
    """The correlation of ranks over the cells of two maps, ties at their mean rank; NaN if one is flat."""
    x, y = (rankdata(one) - (one.size + 1) / 2 for one in (a.ravel(), b.ravel()))
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size else float("nan")


def ssim(a: Float[np.ndarray, "h w"], b: Float[np.ndarray, "h w"]) -> float:
    """The structural similarity of two maps, each from 0 to 1 and enlarged to `SIDE`.

    Wang et al. 2004: a Gaussian window of 11 pixels and deviation 1.5, K 0.01 and 0.03, mean over the map
    (mirrored at its edges).
    """
    x, y = (_enlarged(one) for one in (a, b))
    mean_x, mean_y, xx, yy, xy = (_blurred(one) for one in (x, y, x * x, y * y, x * y))
    c1, c2 = 0.01**2, 0.03**2
    above = (2 * mean_x * mean_y + c1) * (2 * (xy - mean_x * mean_y) + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (xx - mean_x**2 + yy - mean_y**2 + c2)
    return float((above / below).mean())


def _enlarged(one: Array) -> NDArray[np.float64]:
    low, high = float(one.min()), float(one.max())
    level = (one.astype(np.float64) - low) / (high - low or 1.0)
    return cv2.resize(level, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR).astype(np.float64, copy=False)


def _blurred(one: NDArray[np.float64]) -> NDArray[np.float64]:
    blurred = cv2.GaussianBlur(one, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT_101)
    return blurred.astype(np.float64, copy=False)


def _parts(net: nn.Module) -> list[str]:
    """Names of the stages, in the order in which an image meets them."""
    total = _size(net)
    names = []
    for name, child in net.named_children():
        inner = [f"{name}.{part}" for part, _ in child.named_children()]
        apart = isinstance(child, nn.Sequential | nn.ModuleList) and 2 * _size(child) > total
        names += inner if apart and inner else [name]
    return names


def _size(module: nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())
