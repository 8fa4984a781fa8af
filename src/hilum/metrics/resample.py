"""Patients drawn with replacement: how often each is in each replicate."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt64

BLOCK = 32
"""Replicates that are drawn and scored together: their counts stay in the processor's cache."""

THREADS = 8
"""No more are started by default; beyond, they wait for the interpreter's lock."""


@dataclass(frozen=True)
class Counts:
    """How often each patient is in each of `num` replicates.

    Several counts share a 64-bit word, `bits` each, so that one addition adds them all. That is exact as long
    as no sum reaches 2 ** bits, and none can: `bits` is chosen by the most radiographs a replicate can hold.
    """

    words: UInt64[np.ndarray, "W P"]
    bits: int
    num: int

    @classmethod
    def pack(cls, counts: Int[np.ndarray, "R P"], *, images: int) -> "Counts":
        """Packs rows of counts; `images` is the number of radiographs of the patient who has most."""
        num, num_patients = counts.shape
        most = int(counts.sum(axis=1).max(initial=1)) * images
        bits = next(size for size in (16, 32, 64) if most < 2**size)
        lanes = 64 // bits
        words = np.zeros((-(-num // lanes), num_patients), np.uint64)
        for row in range(num):
            words[row // lanes] |= counts[row].astype(np.uint64) << np.uint64(bits * (row % lanes))
        return cls(words, bits, num)

    def sums(
        self, owner: Int[np.ndarray, " K"], starts: Int[np.ndarray, " M"]
    ) -> Float[np.ndarray, "{self.num} M"]:
        """The number of radiographs in each part of a list; `owner` is the patient of each radiograph."""
        words = np.take(self.words, owner, axis=1, mode="clip")
        return self._unpack(np.add.reduceat(words, starts, axis=1))

    @cached_property
    def each(self) -> Float[np.ndarray, "{self.num} P"]:
        """The counts themselves."""
        return self._unpack(self.words)

    def _unpack(self, words: UInt64[np.ndarray, "W M"]) -> Float[np.ndarray, "R M"]:
        lanes = 64 // self.bits
        mask = np.uint64(2**self.bits - 1)
        rows = np.empty((len(words), lanes, words.shape[1]))
        for lane in range(lanes):
            rows[:, lane] = words >> np.uint64(self.bits * lane) & mask
        return rows.reshape(-1, words.shape[1])[: self.num]


def number(patients: Shaped[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """Patients as numbers from 0 in the order of their names, one number per patient."""
    numbers: Int[np.ndarray, " N"] = np.unique(patients, return_inverse=True)[1]
    return numbers


def draw(num_patients: int, block: int, *, seed: int) -> Int[np.ndarray, "R P"]:
    """How often each patient is in each replicate of a block; every row sums to the number of patients.

    A function of its arguments alone: any number of threads draws the same.
    """
    drawn = np.random.default_rng([seed, block]).integers(num_patients, size=(BLOCK, num_patients))
    return np.stack([np.bincount(row, minlength=num_patients) for row in drawn])


def resample(
    owner: Int[np.ndarray, " N"],
    score: Callable[[Counts], Float[np.ndarray, "R ..."]],
    *,
    replicates: int,
    seed: int,
    workers: int | None = None,
) -> Float[np.ndarray, "..."]:
    """Applies `score` to the counts of every block of replicates, on several threads; (replicates, ...).

    `owner` is the patient of each radiograph, as from `number`. Equal seeds draw equal patients, and fewer
    replicates are the first of more.
    """
    sizes = np.bincount(owner)
    most = int(sizes.max())

    def one(block: int) -> Float[np.ndarray, "R ..."]:
        return score(Counts.pack(draw(len(sizes), block, seed=seed), images=most))

    blocks = range(-(-replicates // BLOCK))
    with ThreadPoolExecutor(workers or min(THREADS, _cores())) as pool:
        return np.concatenate(list(pool.map(one, blocks)))[:replicates]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
