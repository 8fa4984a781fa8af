"""Copies of one radiograph among many: re-encoded, resized, mirrored or inverted.

Chest films look alike, so two questions are asked: are the perceptual hashes within 8 of 64 bits, and do the
small pictures correlate by 0.985 or more? Of the 18 million pairs of 6,060 distinct real films of three
hospitals none passes both; of 693 films every re-encoded, resized, mirrored or inverted copy does, and 85 %
of the copies that lost 2 % of height and width.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from hilum.records.looks import THUMB, mirror_mask

NEAR_BITS = 8
NEAR_CORRELATION = 0.985
_BLOCK = 1 << 21
"""Pairs that are compared at once."""


@dataclass(frozen=True)
class Twins:
    """Two films that are copies of one another, the second by its best earlier match."""

    first: int
    second: int
    correlation: float
    """Of their small pictures, after undoing mirror and inversion."""
    mirrored: bool
    inverted: bool


def find_twins(
    hashes: NDArray[np.uint64], thumbs: UInt8[np.ndarray, "M 32 32"], rows: NDArray[np.int64]
) -> list[Twins]:
    """For every film that has an earlier copy, the most similar one.

    Args:
        hashes: perceptual hashes of the films that take part.
        thumbs: small pictures of all films.
        rows: which of them take part, in the order of the hashes; results are numbered so.
    """
    best: dict[int, Twins] = {}
    for mirrored, inverted, first, second in _candidates(hashes):
        for start in range(0, len(first), 4096):
            some = slice(start, start + 4096)
            a, b = rows[first[some]], rows[second[some]]
            one = thumbs[a][:, :, ::-1] if mirrored else thumbs[a]
            likeness = _correlation(one, thumbs[b]) * (-1 if inverted else 1)
            for pair in np.flatnonzero(likeness >= NEAR_CORRELATION).tolist():
                twins = Twins(int(a[pair]), int(b[pair]), float(likeness[pair]), mirrored, inverted)
                known = best.get(twins.second)
                if known is None or known.correlation < twins.correlation:
                    best[twins.second] = twins
    return [best[second] for second in sorted(best)]


def _candidates(
    hashes: NDArray[np.uint64],
) -> Iterator[tuple[bool, bool, NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs by their hashes; an inverted copy differs in every bit, so both are found by one count."""
    height = max(1, _BLOCK // max(1, len(hashes)))
    for top in range(0, len(hashes), height):
        rows = hashes[top : top + height, None]
        for mirrored in (False, True):
            different = np.bitwise_count(
                (rows ^ np.uint64(mirror_mask()) if mirrored else rows) ^ hashes[None, top:]
            )
            # Unsigned numbers wrap: 0..8 become 247..255, 56..64 become 47..55; one comparison finds both.
            near = different - np.uint8(NEAR_BITS + 1) >= np.uint8(64 - 2 * NEAR_BITS - 1)
            first, second = np.nonzero(near)
            later = second > first
            first, second = first[later], second[later]
            inverted = different[first, second] > 32
            for turned in (False, True):
                some = inverted == turned
                yield mirrored, turned, first[some] + top, second[some] + top


def _correlation(
    one: UInt8[np.ndarray, "P 32 32"], other: UInt8[np.ndarray, "P 32 32"]
) -> NDArray[np.float32]:
    a, b = (x.reshape(-1, THUMB * THUMB).astype(np.float32) for x in (one, other))
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    size = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    likeness: NDArray[np.float32] = (a * b).sum(axis=1) / np.maximum(size, 1e-6)
    return likeness
