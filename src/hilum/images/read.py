"""A radiograph's file to one grey image: PNG, JPEG or DICOM, told apart by content."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import cv2
import numpy as np

from hilum.errors import DependencyError, ImageError
from hilum.images.declared import JPEG_MAGIC, PNG_MAGIC, declared_jpeg, declared_png
from hilum.images.dicom import read_dicom, read_header
from hilum.images.elements import is_dicom
from hilum.images.facts import FilmFacts, dicom_facts
from hilum.images.grey import Levels, look_up
from hilum.images.limits import Limits, read_bytes, require_size

_Read = TypeVar("_Read")

_NO_LIMITS_GIVEN = Limits()
# channels of a grey JPEG that was stored in colour differ by rounding; of 255
_COLOUR_TOLERANCE = 8
# a coloured marker or annotation does not make a film a photograph
_COLOUR_SHARE = 0.001
_LEAST_DEPTH = 8
_OTHER_FORMATS = {
    b"<": "HTML or XML (a web page in place of the download?)",
    b"BM": "a BMP",
    b"GIF8": "a GIF",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"PK": "a ZIP archive",
    b"RIFF": "a WebP",
    b"\x1f\x8b": "compressed with gzip",
    b"\0\0\0\x0cjP": "a JPEG 2000",
    b"version https://git-lfs": "a Git LFS pointer (run git lfs pull)",
}
_EIGHT_BIT_JPEGS = frozenset({0xC0, 0xC1, 0xC2})


def read_image(path: str | os.PathLike[str], *, limits: Limits = _NO_LIMITS_GIVEN) -> Levels:
    """Grey levels over the full range of uint8 (8-bit files) or uint16 (deeper ones); air dark, bone bright.

    A 16-bit PNG is divided by 2^bits - 1 for as many bits as its brightest pixel needs (8 or more), so 12-bit
    values in a 16-bit file fill the range, too. Colour files whose channels agree are grey; transparency is
    refused. A JPEG is turned as its EXIF orientation says. For DICOM see `hilum.images.dicom.read_dicom`.

    Raises:
        DependencyError: a DICOM transfer syntax needs a decoder that is an extra.
        ImageError: the file is missing, damaged, truncated, too large, coloured, or no radiograph of a chest.
    """
    return _named(Path(path), lambda content: _levels(content, limits), limits)


def film_facts(path: str | os.PathLike[str], *, limits: Limits = _NO_LIMITS_GIVEN) -> FilmFacts:
    """Facts of a film from its header, without decoding it.

    Raises:
        ImageError: as `read_image`, as far as the header shows it.
    """
    return _named(Path(path), lambda content: _facts(content, limits), limits)


def _named(path: Path, read: Callable[[bytes], _Read], limits: Limits) -> _Read:
    """Opens the file, reads it, and puts its name before whatever is wrong with it."""
    try:
        return read(read_bytes(path, limits))
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except DependencyError as error:
        raise DependencyError(f"{path}: {error}") from None
    except MemoryError:
        raise ImageError(f"{path}: there is not enough memory to read it") from None


def _format(content: bytes) -> Literal["png", "jpeg", "dicom"]:
    """By content: a file's suffix is often wrong."""
    if content.startswith(PNG_MAGIC):
        return "png"
    if content.startswith(JPEG_MAGIC):
        return "jpeg"
    if is_dicom(content):
        return "dicom"
    other = next((name for magic, name in _OTHER_FORMATS.items() if content.startswith(magic)), "unknown")
    raise ImageError(f"its content is {other}; expected PNG, JPEG, or DICOM with its marker at byte 128")


def _levels(content: bytes, limits: Limits) -> Levels:
    found = _format(content)
    if found == "dicom":
        return read_dicom(content, limits)
    return _png(content, limits) if found == "png" else _jpeg(content, limits)


def _png(content: bytes, limits: Limits) -> Levels:
    declared = declared_png(content)
    require_size(declared.height, declared.width, limits)
    pixels = _one_channel(_decode(content, cv2.IMREAD_UNCHANGED, "PNG"))
    return pixels if pixels.dtype == np.uint8 else _stretch(pixels)


def _jpeg(content: bytes, limits: Limits) -> Levels:
    declared = declared_jpeg(content)
    require_size(declared.height, declared.width, limits)
    if declared.kind not in _EIGHT_BIT_JPEGS or declared.bits != 8:
        raise ImageError(
            f"it is a JPEG of an unusual kind ({declared.bits} bits, process {declared.kind - 0xC0}); "
            "expected an 8-bit baseline or progressive one"
        )
    if declared.channels not in (1, 3):
        raise ImageError(f"the JPEG has {declared.channels} channels; expected a grey one or RGB")
    if declared.scans > limits.scans:
        raise ImageError(
            f"the JPEG makes {declared.scans} passes over the image; the limit is {limits.scans}"
        )
    return _one_channel(
        _decode(content, cv2.IMREAD_GRAYSCALE if declared.channels == 1 else cv2.IMREAD_COLOR, "JPEG")
    )


def _decode(content: bytes, mode: int, name: str) -> Levels:
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), mode)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"the {name} is damaged: it cannot be decoded")
    return np.asarray(pixels)


def _one_channel(pixels: Levels) -> Levels:
    """Grey of equal colours; cv2 orders them blue, green, red, alpha."""
    if pixels.ndim == 2:
        return pixels
    full = np.iinfo(pixels.dtype).max
    blue, green, red, *alpha = cv2.split(pixels)
    if alpha and int(alpha[0].min()) < full:
        raise ImageError("it has transparent pixels; expected an opaque image")
    spread = cv2.max(cv2.max(blue, green), red) - cv2.min(cv2.min(blue, green), red)
    share = float(np.mean(spread > _COLOUR_TOLERANCE * (full // 255)))
    if share > _COLOUR_SHARE:
        raise ImageError(
            f"it is a colour image: {share:.0%} of its pixels are coloured; expected a grey film"
        )
    return np.asarray(cv2.cvtColor(pixels[..., :3], cv2.COLOR_BGR2GRAY))


def _stretch(pixels: Levels) -> Levels:
    """The values over 2^bits - 1, with as many bits as the brightest needs."""
    top = (1 << max(_LEAST_DEPTH, int(pixels.max()).bit_length())) - 1
    if top == np.iinfo(np.uint16).max:
        return pixels
    return look_up(pixels, np.rint(np.arange(top + 1) * (65_535 / top)).astype(np.uint16))


def _facts(content: bytes, limits: Limits) -> FilmFacts:
    found = _format(content)
    if found == "dicom":
        return dicom_facts(read_header(content, limits))
    declared = declared_png(content) if found == "png" else declared_jpeg(content)
    require_size(declared.height, declared.width, limits)
    return FilmFacts(found, declared.height, declared.width, declared.bits)
