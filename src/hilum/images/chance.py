"""Random numbers that are counter-based: each is a hash of (seed, epoch, row, view, which number).

No generator has a state. So they are the same for any number of workers or processes, in any order, and after
any restart.
"""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray


def uniforms(
    seed: int, epoch: ArrayLike, rows: ArrayLike, *, view: int, count: int
) -> Float[np.ndarray, "B {count}"]:
    """Random numbers in [0, 1), each a function of its own (seed, epoch, row, view) and its place alone.

    >>> bool((uniforms(0, 3, [7, 8], view=0, count=2)[1] == uniforms(0, 3, [8], view=0, count=2)[0]).all())
    True
    """
    bits = hashed(seed, epoch, rows, view)[:, None]
    places = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    return (_mix(bits + places) >> np.uint64(11)) * 2.0**-53


def hashed(seed: int, epoch: ArrayLike, rows: ArrayLike, view: int) -> NDArray[np.uint64]:
    """64 random bits per row; the order of an epoch is that of its rows' bits."""
    bits = _mix(np.array([seed & (2**64 - 1)], np.uint64) + _GOLDEN)
    for key in (np.asarray(epoch, np.int64), np.asarray(rows, np.int64), np.asarray([view], np.int64)):
        bits = _mix((bits ^ np.atleast_1d(key).astype(np.uint64)) + _GOLDEN)
    return bits


_GOLDEN = np.array([0x9E3779B97F4A7C15], np.uint64)  # splitmix64's increment (Steele et al. 2014)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: each bit of the argument flips about half of the result's."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
