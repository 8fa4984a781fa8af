"""Few shots: some radiographs of every finding, positive and negative, of which any fewer are a part.

Shots are dealt in rounds. In round r every finding's positives, then its negatives, rarest first, get another
radiograph if those chosen so far are fewer than r, or of fewer than r patients. So the choice of k rounds
begins with that of k - 1. Of findings that exclude each other the positives of one are negatives of the rest,
and come first, being rarer: each finding gets its shots, and no negatives on top.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from hilum.errors import ConfigError, RecordsError

_NAMES = {1: "positive", 0: "negative"}


@dataclass
class _Hand:
    """The radiographs with one label of one finding, in the order that they are dealt in."""

    finding: str
    column: int
    label: int
    films: list[int]
    """The first of every patient, then the second of every patient that has one, and so on."""
    patients: int
    dealt: int = 0
    seen: set[int] = field(default_factory=set)
    """Patients of those that are dealt."""

    def lacks(self, shots: int) -> bool:
        return self.dealt < min(shots, len(self.films)) or len(self.seen) < min(shots, self.patients)

    def offers(self, patient: Sequence[int], chosen: set[int]) -> Iterator[int]:
        """The films to deal next: those of patients that are not in it yet, then any."""
        yield from (film for film in self.films if patient[film] not in self.seen)
        yield from (film for film in self.films if film not in chosen)


def few_shots(
    patients: NDArray[np.object_],
    images: NDArray[np.object_],
    labels: Float32[np.ndarray, "N F"],
    *,
    findings: Sequence[str],
    k: int,
    seed: int,
) -> NDArray[np.int64]:
    """The rows that are chosen, ascending; see `Records.shots`."""
    if k < 1:
        raise ConfigError(f"shots is {k}; expected 1 or more radiographs of every finding")
    patient = np.unique(np.asarray(patients, str), return_inverse=True)[1]
    hands = _hands(patients, patient, images, labels, findings=findings, seed=seed)
    if not hands or not hands[-1].films:
        raise RecordsError(
            f"no radiograph has a label of {', '.join(findings) or 'any finding'}; shots need some"
        )
    most = hands[-1]
    if k > len(most.films):
        raise ConfigError(
            f"shots is {k}, and no finding has so many: the most are {len(most.films)} {_NAMES[most.label]} "
            f"of {most.finding!r}. Ask for fewer, or use all with a label fraction of 1"
        )
    chosen = _deal(hands, patient.tolist(), labels, k)
    _say(hands, chosen, k)
    return np.array(sorted(chosen), np.int64)


def _deal(hands: list[_Hand], patient: list[int], labels: Float32[np.ndarray, "N F"], k: int) -> set[int]:
    chosen: set[int] = set()
    offers = [hand.offers(patient, chosen) for hand in hands]
    for shots in range(1, k + 1):
        for hand, offer in zip(hands, offers, strict=True):
            while hand.lacks(shots):
                film = next(offer)
                chosen.add(film)
                for other in hands:
                    if labels[film, other.column] == other.label:
                        other.dealt += 1
                        other.seen.add(patient[film])
    return chosen


def _hands(
    patients: NDArray[np.object_],
    patient: NDArray[np.int64],
    images: NDArray[np.object_],
    labels: Float32[np.ndarray, "N F"],
    *,
    findings: Sequence[str],
    seed: int,
) -> list[_Hand]:
    """Every finding's positives and negatives, rarest first."""
    # The place of a film among its patient's, by name, is the same wherever the files lie.
    by_name = np.lexsort((images.astype(str), patient))
    place = np.empty(len(images), np.int64)
    starts = np.flatnonzero(np.diff(patient[by_name], prepend=-1))
    place[by_name] = np.arange(len(images)) - np.repeat(starts, np.diff(np.append(starts, len(images))))
    luck = np.array(
        [_draw(f"{name}\0{at}", seed) for name, at in zip(patients, place, strict=True)], np.uint64
    )
    patient_luck = np.array([_draw(str(name), seed) for name in patients], np.uint64)
    hands = []
    for column, finding in enumerate(findings):
        for label in (1, 0):
            films = np.flatnonzero(labels[:, column] == label)
            films = films[np.lexsort((luck[films], patient[films]))]
            starts = np.flatnonzero(np.diff(patient[films], prepend=-1))
            turn = np.arange(len(films)) - np.repeat(starts, np.diff(np.append(starts, len(films))))
            films = films[np.lexsort((patient_luck[films], turn))]
            hands.append(_Hand(finding, column, label, films.tolist(), len(starts)))
    return sorted(hands, key=lambda hand: len(hand.films))


def _say(hands: list[_Hand], chosen: set[int], k: int) -> None:
    log = logging.getLogger(__name__)
    log.info(
        "%d shots: %d radiographs; %s",
        k,
        len(chosen),
        ", ".join(f"{hand.finding} {hand.dealt} {_NAMES[hand.label]}" for hand in hands),
    )
    for hand in hands:
        if hand.dealt < k:
            log.warning("%s: only %d of %d %s shots", hand.finding, hand.dealt, k, _NAMES[hand.label])


def _draw(name: str, seed: int) -> int:
    digest = hashlib.blake2b(f"{seed}\0{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
