"""JPEG lossless, whose only permissively licensed decoder is not to be trusted inside this process."""

import importlib.util
import math
import subprocess
import sys
from pathlib import Path

from hilum.errors import DependencyError, ImageError
from hilum.images.declared import Declared
from hilum.images.limits import Limits

_SCRIPT = Path(__file__).with_name("gdcm_child.py")


def decode_lossless_jpeg(frame: bytes, syntax: str, declared: Declared, limits: Limits) -> bytes:
    """Little-endian samples of one byte (8 bits or less) or two, decoded by GDCM in a child process.

    Raises:
        DependencyError: GDCM is not installed.
        ImageError: GDCM refuses the frame, crashes on it, or exceeds the limits.
    """
    package = importlib.util.find_spec("gdcm")
    if package is None or package.origin is None:
        raise DependencyError(
            "it is compressed as JPEG lossless, which needs an optional decoder: "
            "pip install hilum[jpeg-lossless]"
        )
    folder = Path(package.origin).parent
    # a package's folder, or the module's own
    folder = folder.parent if package.submodule_search_locations else folder
    allocated = 8 if declared.bits <= 8 else 16
    numbers = (declared.height, declared.width, allocated, declared.bits)
    ceilings = (limits.child_bytes, math.ceil(limits.seconds))
    try:
        child = subprocess.run(
            [sys.executable, "-I", str(_SCRIPT), str(folder), syntax, *map(str, numbers + ceilings)],
            input=frame,
            capture_output=True,
            timeout=limits.seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ImageError(
            f"its JPEG lossless pixels took longer than {limits.seconds:g} s to decode"
        ) from None
    if child.returncode < 0:
        raise ImageError(f"its JPEG lossless pixels made the decoder crash (signal {-child.returncode})")
    expected = declared.height * declared.width * allocated // 8
    if child.returncode or len(child.stdout) != expected:
        raise ImageError("its JPEG lossless pixels are damaged: GDCM cannot decode them")
    return child.stdout
