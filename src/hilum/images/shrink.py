"""Reading radiographs and averaging them down, several at once."""

import hashlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16
from numpy.typing import NDArray

from hilum.errors import ImageError

Aspect = Literal["keep", "squash"]
HASH_BYTES = 12
"""Of the hash of a film: among a million films two have one by chance with odds of 10^-17."""


@dataclass(frozen=True)
class Film:
    """A radiograph at working size."""

    path: str
    pixels: UInt8[np.ndarray, "h w"]
    source: tuple[int, int]
    """Height and width of the file."""
    hash: str
    """Of the grey levels in the size of the file: the same for every working size and lossless format."""


@dataclass(frozen=True)
class Unreadable:
    """A file that is no usable radiograph, and why."""

    path: str
    reason: str


Reading = Film | Unreadable


def shrink(
    pixels: UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"], size: int, *, aspect: Aspect = "keep"
) -> UInt8[np.ndarray, "h w"]:
    """Grey levels averaged over areas down to a shorter side of `size`, then rounded to 8 bits.

    A smaller film keeps its size. With squash both sides become `size`.
    """
    height, width = pixels.shape
    if aspect == "squash":
        target = min(size, width), min(size, height)
    else:
        scale = min(1.0, size / min(height, width))
        target = round(width * scale), round(height * scale)
    if target != (width, height):
        pixels = cv2.resize(pixels, target, interpolation=cv2.INTER_AREA)
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    eight: NDArray[np.uint8] = np.rint(pixels / np.float32(257)).astype(np.uint8)  # 65535 / 255 = 257
    return eight


def hash_of(pixels: UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]) -> str:
    """BLAKE2 of sides and grey levels, hexadecimal."""
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=HASH_BYTES)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def read_in_order(
    images: Sequence[str], size: int, *, aspect: Aspect, chunk: int, workers: int | None
) -> Iterator[list[Reading]]:
    """Reads and shrinks every file, `chunk` at a time, in the order given.

    A file on which a decoding process dies (a codec's crash) counts as unreadable; the others go on.

    Args:
        images: paths.
        size: shorter side, pixels.
        aspect: whether sides keep their ratio.
        chunk: files per list.
        workers: processes; None is one per CPU for 32 files or more, 0 and 1 read in this process.
    """
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if len(images) >= 32 else 1
    done = 0
    while done < len(images):
        if workers <= 1:
            some = images[done : done + chunk]
            yield _read_some(some, size, aspect)
            done += len(some)
            continue
        try:
            for readings in _read_parallel(images[done:], size, aspect, chunk, workers):
                yield readings
                done += len(readings)
        except BrokenProcessPool:
            some = images[done : done + chunk]
            yield [_read_apart(image, size, aspect) for image in some]
            done += len(some)


@contextmanager
def forkable() -> Iterator[None]:
    """Processes forked in this block use cv2 on one thread each.

    Set here and not in the process: cv2 would wait there for threads that exist only in its parent.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _read_parallel(
    images: Sequence[str], size: int, aspect: Aspect, chunk: int, workers: int
) -> Iterator[list[Reading]]:
    group = max(1, min(8, chunk // (2 * workers)))
    with forkable():
        pool = _pool(workers)
        pool.submit(int)  # the first task starts all processes
    ahead: deque[list[Future[list[Reading]]]] = deque()
    try:
        for start in range(0, len(images), chunk):
            stop = min(start + chunk, len(images))
            groups = (images[at : min(at + group, stop)] for at in range(start, stop, group))
            ahead.append([pool.submit(_read_some, some, size, aspect) for some in groups])
            if len(ahead) > 2:  # processes stay busy while a chunk is written, and memory stays bounded
                yield [one for future in ahead.popleft() for one in future.result()]
        while ahead:
            yield [one for future in ahead.popleft() for one in future.result()]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read_apart(image: str, size: int, aspect: Aspect) -> Reading:
    with _pool(1) as pool:
        try:
            with forkable():
                future = pool.submit(_read_some, [image], size, aspect)
            return future.result()[0]
        except BrokenProcessPool:
            return Unreadable(
                image, f"{image}: the process that decoded it died; the file is damaged or far too large"
            )


def _read_some(images: Sequence[str], size: int, aspect: Aspect) -> list[Reading]:
    from hilum.images.read import read_image  # here, so that the decoders are loaded only where they are used

    readings: list[Reading] = []
    for image in images:
        try:
            pixels = read_image(Path(image))
        except ImageError as error:
            readings.append(Unreadable(image, str(error)))
        else:
            height, width = pixels.shape
            small = shrink(pixels, size, aspect=aspect)
            readings.append(Film(image, small, (height, width), hash_of(pixels)))
    return readings


def _pool(workers: int) -> ProcessPoolExecutor:
    # fork: nothing is imported again, and a user's script needs no `if __name__ == "__main__"`.
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork"), initializer=_start)


def _start() -> None:
    """Makes a process that ends with its parent, even when that is killed, and leaves Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
