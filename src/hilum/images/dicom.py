"""A DICOM radiograph as one grey image.

No other part of hilum opens a DICOM file. `elements` steps over it, `acceptance` refuses it, `frames` decodes
it and `grey` shows it; of its header only the tags of `header.Tag` are ever looked at.
"""

import numpy as np

from hilum.errors import ImageError
from hilum.images.acceptance import require_chest_radiograph, uid_name
from hilum.images.declared import Buffer
from hilum.images.elements import (
    DEFLATED,
    EXPLICIT_BIG_ENDIAN,
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT,
    read_elements,
)
from hilum.images.frames import SUPPORTED, decode_frame
from hilum.images.grey import Levels, grey_levels
from hilum.images.header import SEQUENCES, Header, Tag
from hilum.images.limits import Limits, require_size

_NATIVE = frozenset({IMPLICIT, EXPLICIT_LITTLE_ENDIAN, EXPLICIT_BIG_ENDIAN, DEFLATED})
_TAGS = frozenset(Tag)


def read_header(content: Buffer, limits: Limits, *, also: frozenset[int] = frozenset()) -> Header:
    """The fields of a DICOM file that describe its film; its pixels are found but not decoded.

    Args:
        content: of the file.
        limits: what it may ask for.
        also: further tags whose values are kept, as they stand in the file.

    Raises:
        ImageError: it is no DICOM file, damaged, too large, or no single grey radiograph of a chest.
    """
    header = Header(read_elements(content, limits, wanted=_TAGS | also, wanted_items=frozenset(SEQUENCES)))
    require_chest_radiograph(header)
    require_size(*header.shape, limits)
    return header


def read_dicom(content: Buffer, limits: Limits) -> Levels:
    """Grey levels over the full range of uint8 (8 bits stored or fewer) or uint16.

    In the standard's order: modality LUT or rescaling, VOI LUT or window (or percentiles, where a film deeper
    than 8 bits has neither), and MONOCHROME1's inversion last; padding is black.

    Raises:
        DependencyError: its transfer syntax needs a decoder that is an extra.
        ImageError: as `read_header`, or its pixels cannot be decoded.
    """
    header = read_header(content, limits)
    allocated, stored, high = header.bits
    scale = header.scale
    samples = _compressed(header, limits) if header.elements.fragments is not None else _native(header)
    if samples.dtype.itemsize == 1 and allocated == 16:
        # a JPEG of 8 bits in a file that allocates 16
        stored, high = min(stored, 8), min(high, 7)
    return grey_levels(_stored_bits(samples, stored, high), scale)


def _stored_bits(samples: Levels, stored: int, high: int) -> Levels:
    """Samples without what other bits hold: an overlay, or the sign's repetition."""
    if high + 1 > stored:
        samples = np.right_shift(samples, high + 1 - stored, dtype=samples.dtype)
    if stored < 8 * samples.dtype.itemsize:
        samples = np.bitwise_and(samples, (1 << stored) - 1, dtype=samples.dtype)
    return samples


def _compressed(header: Header, limits: Limits) -> Levels:
    syntax = header.elements.syntax
    if syntax not in SUPPORTED:
        raise ImageError(
            f"its transfer syntax is {uid_name(syntax) or 'unknown'}; "
            "expected an uncompressed one, RLE or one of the JPEG family"
        )
    frame = b"".join((header.elements.fragments or [])[1:])
    if not frame:
        raise ImageError("it has no pixels: its compressed image is empty")
    return decode_frame(frame, syntax, header.shape, allocated=header.bits[0], limits=limits)


def _native(header: Header) -> Levels:
    syntax = header.elements.syntax
    if syntax not in _NATIVE:
        raise ImageError(
            f"its transfer syntax is {uid_name(syntax) or 'unknown'}, but its pixels are not compressed"
        )
    allocated = header.bits[0]
    rows, columns = header.shape
    expected = rows * columns * allocated // 8
    element = header.elements.values[Tag.PIXEL_DATA]
    if len(element.value) < expected:
        raise ImageError(
            f"it has {len(element.value):,} bytes of pixels; "
            f"{rows} x {columns} of {allocated} bits take {expected:,}"
        )
    order = header.order
    if allocated == 8 and order == ">" and element.vr == "OW":
        words = np.frombuffer(element.value, ">u2", (expected + 1) // 2)
        return words.astype("<u2").view(np.uint8)[:expected].reshape(rows, columns)
    native = np.frombuffer(element.value, np.dtype(f"{order}u{allocated // 8}"), rows * columns)
    return native.astype(native.dtype.newbyteorder("="), copy=False).reshape(rows, columns)
