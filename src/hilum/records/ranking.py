"""An order of patients of which every beginning is stratified.

Patients are halved, the halves are halved, and so on; the order is the first half's, then the second half's.
Each halving pairs patients that are alike, and sends of each pair one to either side: the one that makes the
counts of positive and negative patients on the two sides more equal. So any beginning of the order is a sum
of a few balanced
groups: of every finding it holds its share to within a few patients. The first 1 % lie within the first 10 %.
All halvings of one size are walked at once, which takes N vectorised steps for N patients.
"""

import hashlib

import numpy as np
import pandas as pd
from jaxtyping import Float32
from numpy.typing import NDArray

_NEGATIVE, _POSITIVE = 1, 2


def ranking(
    patients: NDArray[np.object_], labels: Float32[np.ndarray, "N F"], *, seed: int, spare: int = 0
) -> NDArray[np.object_]:
    """The distinct patients; depends on their names, their labels and the seed, and not on the order of rows.

    A patient is positive for a finding if any film is, negative if films are known and none is positive. The
    order begins with patients that cover positives and negatives of every finding.

    Args:
        patients: the patient of each film.
        labels: 1, 0 or NaN per film; what is between counts as unknown.
        seed: another seed gives another order.
        spare: findings with so few positive (or negative) patients, or fewer, are not covered first.
    """
    names, states = states_of(patients, labels)
    luck = np.array([_draw(name, seed) for name in names], np.uint64)
    return names[_covering_first(states, _balanced(states, luck), spare)]


def states_of(
    patients: NDArray[np.object_], labels: Float32[np.ndarray, "N F"]
) -> tuple[NDArray[np.object_], NDArray[np.uint8]]:
    """The distinct patients, sorted, and per finding 2 (positive), 1 (negative) or 0 (unknown)."""
    numbers, found = pd.factorize(np.asarray(patients, object))
    sorting = np.argsort(found)
    names = found[sorting]
    patient = np.argsort(sorting)[numbers]
    films = np.where(labels == 1, _POSITIVE, np.where(labels == 0, _NEGATIVE, 0)).astype(np.uint8)
    states = np.zeros((len(names), labels.shape[1]), np.uint8)
    by_patient = np.argsort(patient, kind="stable")
    if len(names):
        starts = np.searchsorted(patient[by_patient], np.arange(len(names)))
        states = np.maximum.reduceat(films[by_patient], starts, axis=0)
    return names, states


def _layout(states: NDArray[np.uint8], luck: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Patients by their findings, rarest first; equal ones in an order of the seed's."""
    rarest_first = np.argsort((states == _POSITIVE).sum(axis=0), kind="stable")
    keys: list[NDArray[np.unsignedinteger]] = [
        luck,
        *(states[:, finding] for finding in rarest_first[::-1]),
    ]  # lexsort's last key counts most
    return np.lexsort(tuple(keys))


def _balanced(states: NDArray[np.uint8], luck: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The order made by halving; where both of a pair balance equally well, luck decides."""
    layout = _layout(states, luck)
    nobody = len(layout)
    rank = np.append(luck[layout].argsort().argsort(), nobody)
    ordered = states[layout]
    wishes = np.concatenate([ordered == _POSITIVE, ordered == _NEGATIVE], axis=1).astype(np.int8)
    weights = 1 / np.maximum(wishes.sum(axis=0, dtype=np.float32), 1)  # an imbalance counts as a share
    wishes = np.concatenate([wishes, np.zeros((1, wishes.shape[1]), np.int8)])
    groups = np.arange(nobody)[None]
    while groups.shape[1] > 1:
        if groups.shape[1] % 2:
            groups = np.pad(groups, ((0, 0), (0, 1)), constant_values=nobody)
        groups = _halve(groups, wishes, weights, rank)
    order = groups[:, 0] if nobody else np.empty(0, np.int64)
    return layout[order[order < nobody]]


def _halve(
    groups: NDArray[np.int64], wishes: NDArray[np.int8], weights: NDArray[np.float32], luck: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Two groups of half the width from each, next to each other."""
    first, second = groups[:, 0::2].copy(), groups[:, 1::2].copy()
    excess = np.zeros((len(groups), wishes.shape[1]), np.float32)  # of the first half over the second
    for place in range(first.shape[1]):
        one, other = first[:, place], second[:, place]
        difference = wishes[one] - wishes[other]
        gain = (excess * difference) @ weights
        swap = (gain > 0) | ((gain == 0) & (luck[one] > luck[other]))
        excess += np.where(swap[:, None], -difference, difference)
        first[:, place], second[:, place] = np.where(swap, (other, one), (one, other))
    return np.stack([first, second], axis=1).reshape(2 * len(groups), -1)


def _covering_first(states: NDArray[np.uint8], order: NDArray[np.int64], spare: int) -> NDArray[np.int64]:
    """Moves to the front, rarest first, the first patient in each state that no patient before it is in."""
    by_order = states[order]
    wanted = []
    for finding in range(states.shape[1]):
        for state in (_POSITIVE, _NEGATIVE):
            count = int((by_order[:, finding] == state).sum())
            if count > spare:
                wanted.append((count, finding, state))
    front: list[int] = []
    for _, finding, state in sorted(wanted):
        if not any(by_order[place, finding] == state for place in front):
            front.append(int(np.argmax(by_order[:, finding] == state)))
    rest = np.ones(len(order), bool)
    rest[front] = False
    return np.concatenate([order[front], order[rest]])


def _draw(name: str, seed: int) -> int:
    digest = hashlib.blake2b(f"{seed}\0{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
