"""What a PNG, JPEG or JPEG 2000 stream says about itself, read without decoding it.

Everything is bounded by the bytes at hand: lengths that point beyond them are truncation, and the decoder is
called only on streams that are whole. Without this a decoder would allocate whatever a header asks for, and
some decoders paint the missing rows of a truncated film grey instead of failing.
"""

import re
import struct
import zlib
from dataclasses import dataclass

from hilum.errors import ImageError

Buffer = bytes | bytearray | memoryview

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
J2K_MAGIC = b"\xff\x4f\xff\x51"

_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_PNG_CHUNKS = 100_000
_SEGMENTS = 10_000
# inside entropy-coded data FF is followed by 00 (a stuffed byte), by a restart marker, or by fill bytes FF
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
# JPEG-LS stuffs a bit instead of a byte: anything below 80 after FF is data
_MARKER_LS = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}


@dataclass(frozen=True)
class Declared:
    """The shape of a compressed image by its own header."""

    height: int
    width: int
    bits: int
    """Precision of a sample."""
    channels: int
    kind: int = 0
    """JPEG: the low byte of the start-of-frame marker, which names the coding process."""
    scans: int = 1
    """JPEG: how many passes over the image the stream makes."""


def declared_png(content: Buffer) -> Declared:
    """Shape of a PNG all of whose chunks are present with the right checksums.

    Raises:
        ImageError: it is truncated or damaged, or an animation.
    """
    view = memoryview(content)
    position, first = len(PNG_MAGIC), None
    for _ in range(_PNG_CHUNKS):
        if position + 12 > len(view):
            break
        (length,) = struct.unpack_from(">I", view, position)
        name = bytes(view[position + 4 : position + 8])
        end = position + 12 + length
        if end > len(view):
            break
        if zlib.crc32(view[position + 4 : end - 4]) != struct.unpack_from(">I", view, end - 4)[0]:
            raise ImageError("the PNG is damaged: a chunk does not match its checksum")
        if first is None:
            first = _png_size(name, view[position + 8 : end - 4])
        if name == b"acTL":
            raise ImageError("the PNG is an animation; expected one image")
        if name == b"IEND":
            return first
        position = end
    raise ImageError("the PNG ends early: the file is truncated")


def _png_size(name: bytes, header: memoryview) -> Declared:
    if name != b"IHDR" or len(header) != 13:
        raise ImageError("the PNG is damaged: it does not open with its header")
    width, height, bits, colour = struct.unpack_from(">IIBB", header)
    if colour not in _PNG_CHANNELS or bits not in (1, 2, 4, 8, 16):
        raise ImageError("the PNG is damaged: its colour type does not exist")
    return Declared(height, width, bits, _PNG_CHANNELS[colour])


def declared_jpeg(content: Buffer) -> Declared:
    """Shape of a JPEG or JPEG-LS stream that reaches its end-of-image marker.

    Raises:
        ImageError: it is truncated or damaged.
    """
    view = memoryview(content)
    position, frame, scans = 2, None, 0
    for _ in range(_SEGMENTS):
        found = _MARKER.search(view, position) if scans == 0 else _next(view, position, frame)
        if found is None:
            break
        marker, position = view[found.start() + 1], found.end()
        if marker == 0xD9:
            if frame is None or scans == 0:
                raise ImageError("the JPEG is damaged: it holds no image")
            return Declared(*frame[:4], kind=frame[4], scans=scans)
        if marker in (0x01, 0xD8):
            continue
        if position + 2 > len(view):
            break
        (length,) = struct.unpack_from(">H", view, position)
        if marker in _START_OF_FRAME:
            if frame is not None:
                raise ImageError("the JPEG is damaged or hierarchical: it declares its size twice")
            frame = _frame(view, position, length, marker)
        scans += marker == 0xDA
        position += length
    raise ImageError("the JPEG ends early: the file is truncated")


def _next(
    view: memoryview, position: int, frame: tuple[int, int, int, int, int] | None
) -> re.Match[bytes] | None:
    pattern = _MARKER_LS if frame is not None and frame[4] == 0xF7 else _MARKER
    return pattern.search(view, position)


def _frame(view: memoryview, position: int, length: int, marker: int) -> tuple[int, int, int, int, int]:
    if length < 8 or position + length > len(view):
        raise ImageError("the JPEG ends early: the file is truncated")
    bits, height, width, channels = struct.unpack_from(">BHHB", view, position + 2)
    if height == 0 or width == 0:
        raise ImageError("the JPEG is damaged: its header declares no pixels")
    return height, width, bits, channels, marker


def declared_j2k(content: Buffer) -> Declared:
    """Shape of a JPEG 2000 codestream, with or without the JP2 boxes around it.

    Raises:
        ImageError: there is none, or its tiling would cost more than its pixels.
    """
    start = bytes(content[:1024]).find(J2K_MAGIC)
    if start < 0 or len(content) < start + 46:
        raise ImageError("its JPEG 2000 data is damaged: it does not open with a codestream header")
    right, low, left, top, tile_width, tile_height = struct.unpack_from(">6I", content, start + 8)
    channels, depth = struct.unpack_from(">8xHB", content, start + 32)
    height, width = low - top, right - left
    if height <= 0 or width <= 0 or not tile_width or not tile_height or not channels:
        raise ImageError("its JPEG 2000 data is damaged: its header declares no pixels")
    # the standard allows 65,535 tiles; each costs memory however few pixels it has
    if -(-width // tile_width) * -(-height // tile_height) > 65_535:
        raise ImageError("its JPEG 2000 data declares more tiles than the standard allows")
    return Declared(height, width, (depth & 0x7F) + 1, channels)
