"""What a file may ask of this machine, checked before anything is decoded."""

import mmap
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hilum.errors import ImageError

_MIB = 1 << 20
_PIECE = 1 << 16


@dataclass(frozen=True)
class Limits:
    """Ceilings that a radiograph never meets and a decompression bomb does."""

    file_bytes: int = 64 * _MIB
    """Size on disk; a raw 16-bit film of 4300 x 4300 pixels takes 37 MB."""
    pixels: int = 64_000_000
    """Height times width."""
    shorter_side: int = 32
    """Least height and width, pixels; icons and thumbnails are smaller."""
    inflated_bytes: int = 96 * _MIB
    """A deflated DICOM dataset after inflating."""
    header_bytes: int = 8 * _MIB
    """Everything of a DICOM file before its pixels."""
    elements: int = 20_000
    """DICOM elements, sequence items and pixel fragments together."""
    depth: int = 64
    """Levels of nested DICOM sequences."""
    scans: int = 64
    """Passes of a progressive JPEG; each costs as much as a whole decode."""
    seconds: float = 10.0
    """Wall-clock and processor time of a decoder that runs in a child process."""
    child_bytes: int = 1536 * _MIB
    """Address space of that child process."""


def read_bytes(path: Path, limits: Limits) -> bytes:
    """The file's content.

    Raises:
        ImageError: it is missing, unreadable, no regular file, empty or too large.
    """
    with _opened(path, limits) as file:
        content = file.read(limits.file_bytes + 1)
    if len(content) > limits.file_bytes:
        raise ImageError(f"the file grew beyond {limits.file_bytes:,} bytes while it was read")
    if not content:
        raise ImageError("the file is empty")
    return content


def map_bytes(path: Path, limits: Limits) -> memoryview:
    """The file's content, of which only what is looked at is read from the disk; raises as `read_bytes`."""
    with _opened(path, limits) as file:
        if not os.fstat(file.fileno()).st_size:
            raise ImageError("the file is empty")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


@contextmanager
def _opened(path: Path, limits: Limits) -> Iterator[BinaryIO]:
    try:
        found = os.stat(path)
        # a named pipe or a device would block, or never end
        if not stat.S_ISREG(found.st_mode):
            raise ImageError("it is no regular file; expected a PNG, JPEG or DICOM file")
        if found.st_size > limits.file_bytes:
            raise ImageError(_over("the file has", found.st_size, limits.file_bytes, "bytes"))
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise ImageError(f"it cannot be read: {error.strerror or type(error).__name__}") from None
    except ValueError:
        raise ImageError("its name holds a character that no file name can") from None


def require_size(height: int, width: int, limits: Limits) -> None:
    """Refuses an image by its declared size.

    Raises:
        ImageError: too many pixels to decode, or too few for a radiograph.
    """
    if height * width > limits.pixels:
        raise ImageError(_over(f"it declares {height} x {width} =", height * width, limits.pixels, "pixels"))
    if min(height, width) < limits.shorter_side:
        raise ImageError(
            f"it is {height} x {width} pixels; a radiograph's shorter side has {limits.shorter_side} or more"
        )


def inflate(deflated: memoryview, limits: Limits) -> bytearray:
    """A raw deflate stream, inflated no further than the limit.

    Raises:
        ImageError: it inflates beyond the limit, is damaged, or ends early.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = bytearray()
    for start in range(0, len(deflated), _PIECE):
        pending: bytes | memoryview = deflated[start : start + _PIECE]
        while pending:
            try:
                inflated += stream.decompress(pending, _MIB)
            except zlib.error:
                raise ImageError("its deflated dataset is damaged") from None
            if len(inflated) > limits.inflated_bytes:
                raise ImageError(
                    f"its deflated dataset inflates beyond the limit of {limits.inflated_bytes:,} bytes"
                )
            pending = stream.unconsumed_tail
        if stream.eof:
            return inflated
    inflated += stream.flush()
    if not stream.eof:
        raise ImageError("its deflated dataset ends early: the file is truncated")
    return inflated


def _over(found: str, value: int, limit: int, unit: str) -> str:
    return f"{found} {value:,} {unit}; the limit is {limit:,} (raise it with Limits if you trust the file)"
