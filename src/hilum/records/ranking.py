"""An order of patients of which every beginning is stratified.

Patients are laid out so that alike ones are neighbours: first those with the rarest finding, within them
those with the next rarest, and so on. The layout is then visited in van der Corput's order (0, 1/2, 1/4, 3/4,
1/8, ...), which at any moment has visited every stretch of it in proportion. So the first 1 % of the order
hold about 1 % of the patients with each finding and combination of findings, they lie within the first 10 %,
and no search is needed.
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
        labels: 1, 0 or NaN per film.
        seed: another seed gives another order.
        spare: findings with so few positive (or negative) patients, or fewer, are not covered first.
    """
    names, states = states_of(patients, labels)
    luck = np.array([_draw(name, seed) for name in names], np.uint64)
    order = _van_der_corput(_layout(states, luck), seed)
    return names[_covering_first(states, order, spare)]


def states_of(
    patients: NDArray[np.object_], labels: Float32[np.ndarray, "N F"]
) -> tuple[NDArray[np.object_], NDArray[np.uint8]]:
    """The distinct patients, sorted, and per finding 2 (positive), 1 (negative) or 0 (unknown)."""
    numbers, found = pd.factorize(np.asarray(patients, object))
    sorting = np.argsort(found)
    names = found[sorting]
    patient = np.argsort(sorting)[numbers]
    films = np.where(labels > 0, _POSITIVE, np.where(np.isnan(labels), 0, _NEGATIVE)).astype(np.uint8)
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


def _van_der_corput(layout: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Visits the layout so that any beginning is spread evenly over it."""
    count = len(layout)
    if count < 2:
        return layout
    bits = int(count - 1).bit_length() + 1  # points twice as dense as patients, so that each has one
    points = np.zeros(1 << bits, np.int64)
    numbers = np.arange(1 << bits)
    for bit in range(bits):
        points |= (numbers >> bit & 1) << (bits - 1 - bit)
    shift = _draw("shift", seed) >> (64 - bits)
    visited = (points + int(shift)) % (1 << bits) * count >> bits
    places, first = np.unique(visited, return_index=True)
    order: NDArray[np.int64] = layout[places[np.argsort(first)]]
    return order


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
