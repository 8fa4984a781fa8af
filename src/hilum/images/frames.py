"""One compressed DICOM frame to samples, by the fastest decoder of each transfer syntax that may be trusted.

pydicom's own order tries GDCM first, in this process: slower, and the one decoder with open memory-safety
reports. A frame's own header is checked against the DICOM header before its decoder may allocate anything.
"""

from collections.abc import Callable

import cv2
import numpy as np

from hilum.errors import HilumError, ImageError
from hilum.images.declared import Declared, declared_j2k, declared_jpeg
from hilum.images.grey import Levels
from hilum.images.limits import Limits
from hilum.images.lossless_jpeg import decode_lossless_jpeg

_DICOM = "1.2.840.10008.1.2."
RLE = _DICOM + "5"
_JPEG = frozenset({_DICOM + "4.50", _DICOM + "4.51"})
_JPEG_LOSSLESS = frozenset({_DICOM + "4.57", _DICOM + "4.70"})
_JPEG_LS = frozenset({_DICOM + "4.80", _DICOM + "4.81"})
_JPEG_2000 = frozenset(_DICOM + part for part in ("4.90", "4.91", "4.201", "4.202", "4.203"))
SUPPORTED = _JPEG | _JPEG_LOSSLESS | _JPEG_LS | _JPEG_2000 | {RLE}
_BASELINE, _EXTENDED, _PROGRESSIVE, _LOSSLESS, _LS = 0xC0, 0xC1, 0xC2, 0xC3, 0xF7


def decode_frame(
    frame: bytes, syntax: str, shape: tuple[int, int], *, allocated: int, limits: Limits
) -> Levels:
    """Levels as unsigned integers; of signed ones the two's complement bits.

    Raises:
        DependencyError: the syntax needs a decoder that is an extra.
        ImageError: the frame is damaged, or is not what the DICOM header says.
    """
    if syntax == RLE:
        return _guarded("RLE", lambda: _rle(frame, shape, allocated))
    declared = declared_j2k(frame) if syntax in _JPEG_2000 else declared_jpeg(frame)
    if (declared.height, declared.width) != shape:
        raise ImageError(
            f"its header declares {shape[0]} x {shape[1]} pixels, its compressed image "
            f"{declared.height} x {declared.width}"
        )
    if declared.channels != 1:
        raise ImageError(f"its compressed image has {declared.channels} channels; expected one, grey")
    if not 2 <= declared.bits <= 16:
        raise ImageError(f"its compressed image has {declared.bits} bits per sample; expected at most 16")
    if declared.scans > limits.scans:
        raise ImageError(
            f"its JPEG makes {declared.scans} passes over the image; the limit is {limits.scans}"
        )
    if syntax in _JPEG_2000:
        return _guarded("JPEG 2000", lambda: _j2k(frame))
    # the frame's own marker decides: files whose transfer syntax names another JPEG process occur
    if declared.kind == _LS:
        return _guarded("JPEG-LS", lambda: _jpeg_ls(frame, declared))
    if declared.kind == _LOSSLESS:
        process = syntax if syntax in _JPEG_LOSSLESS else _DICOM + "4.57"
        return _samples(decode_lossless_jpeg(frame, process, declared, limits), shape, declared.bits)
    return _guarded("JPEG", lambda: _jpeg(frame, declared))


def _guarded(name: str, decode: Callable[[], Levels]) -> Levels:
    """Any failure of a foreign decoder as an ImageError, without its text, which may quote the file."""
    try:
        return decode()
    except HilumError:
        raise
    except Exception as error:
        kind = type(error).__name__
    except BaseException as error:
        # pyo3's PanicException, of the RLE decoder, is no Exception
        if type(error).__module__ != "pyo3_runtime":
            raise
        kind = "panic"
    raise ImageError(f"its {name} pixels are damaged: they cannot be decoded ({kind})")


def _samples(decoded: bytes | bytearray, shape: tuple[int, int], bits: int) -> Levels:
    if bits <= 8:
        return np.frombuffer(decoded, np.uint8).reshape(shape)
    return np.frombuffer(decoded, "<u2").astype(np.uint16, copy=False).reshape(shape)


def _rle(frame: bytes, shape: tuple[int, int], allocated: int) -> Levels:
    from rle.utils import decode_pixel_data

    rows, columns = shape
    decoded = decode_pixel_data(
        frame, version=2, rows=rows, columns=columns, bits_allocated=allocated, byteorder="<"
    )
    return _samples(bytes(decoded), shape, allocated)


def _jpeg(frame: bytes, declared: Declared) -> Levels:
    if declared.bits != 8:
        raise ImageError(
            f"it is compressed as a lossy JPEG of {declared.bits} bits, which no permissively licensed "
            "decoder reads; convert it to another transfer syntax first (dcmconv of DCMTK does)"
        )
    decoded = cv2.imdecode(
        np.frombuffer(frame, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
    )
    if decoded is None:
        raise ImageError("its JPEG pixels are damaged: they cannot be decoded")
    return np.asarray(decoded, np.uint8)


def _jpeg_ls(frame: bytes, declared: Declared) -> Levels:
    import jpeg_ls  # type: ignore[import-untyped]

    decoded, _ = jpeg_ls.decode_buffer(frame)
    return _samples(decoded, (declared.height, declared.width), declared.bits)


def _j2k(frame: bytes) -> Levels:
    from openjpeg.utils import decode

    decoded = decode(frame)
    return decoded.view(np.uint8) if decoded.dtype.itemsize == 1 else decoded.view(np.uint16)
