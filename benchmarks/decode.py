"""Reading a radiograph: `hilum.images.read.read_image` against a user's own pydicom or Pillow.

    python benchmarks/decode.py

The user's DICOM code is pydicom's `pixel_array` (its own order of decoders) with `apply_modality_lut`,
`apply_voi_lut` and MONOCHROME1's inversion; the user's picture code is Pillow. read_image also checks limits,
truncation and colour. Ratios are of medians of interleaved repetitions in one run on one thread; above 1
read_image is faster. Files come from the page cache.
"""

import contextlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from hilum.images.read import read_image

SIDE, REPEATS, SECONDS_EACH = 1024, 15, 3.0


def main() -> None:
    """Prints one line per kind of file."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from tests.images.dicom_films import as_jpeg, as_lossless_jpeg, film, save

    cv2.setNumThreads(1)
    shallow, deep = phantom(8), phantom(12)
    window = {"WindowCenter": 2000, "WindowWidth": 3500}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        pictures = {
            "PNG, 8 bits": write(place / "8.png", cv2.imencode(".png", shallow)[1].tobytes()),
            "PNG, 16 bits": write(place / "16.png", cv2.imencode(".png", deep)[1].tobytes()),
            "JPEG, grey": write(place / "grey.jpg", cv2.imencode(".jpg", shallow)[1].tobytes()),
        }
        films: dict[str, Dataset] = {
            "DICOM, raw 8 bits": film(shallow, 8),
            "DICOM, raw 12 bits": film(deep, 12, **window),
            "DICOM, JPEG baseline": as_jpeg(film(shallow, 8))[0],
            "DICOM, RLE": packed(film(deep, 12, **window), RLELossless),
            "DICOM, JPEG-LS": packed(film(deep, 12, **window), JPEGLSLossless),
            "DICOM, JPEG 2000": packed(film(deep, 12, **window), JPEG2000Lossless),
        }
        with contextlib.suppress(ImportError):
            lossless = as_lossless_jpeg(film(deep, 12, **window), place / "source.dcm")
            films["DICOM, JPEG lossless (in a child process)"] = lossless
        print(f"{SIDE} x {SIDE} pixels, milliseconds per image (median), one thread")
        print(f"{'':44}{'user code':>10}{'read_image':>12}{'ratio':>8}")
        for number, (name, dataset) in enumerate(films.items()):
            compare(name, save(dataset, place / f"{number}.dcm"), by_pydicom)
        for name, path in pictures.items():
            compare(name, path, by_pillow)


def phantom(bits: int) -> np.ndarray:
    """Smooth shapes with film grain, of the given depth."""
    rng = np.random.default_rng(0)
    blurred = cv2.GaussianBlur(rng.standard_normal((SIDE, SIDE)), (0, 0), 40)
    unit = (blurred - blurred.min()) / np.ptp(blurred) + rng.normal(0, 0.004, (SIDE, SIDE))
    return np.rint(unit.clip(0, 1) * (2**bits - 1)).astype(np.uint8 if bits <= 8 else np.uint16)


def packed(dataset: Dataset, syntax: str) -> Dataset:
    """The film compressed by pydicom."""
    dataset.compress(syntax, generate_instance_uid=False)
    return dataset


def write(path: Path, content: bytes) -> Path:
    """The path, with the content in it."""
    path.write_bytes(content)
    return path


def by_pydicom(path: Path) -> np.ndarray:
    """What tutorials do."""
    dataset = pydicom.dcmread(path)
    shown = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    return shown.max() - shown if dataset.PhotometricInterpretation == "MONOCHROME1" else shown


def by_pillow(path: Path) -> np.ndarray:
    """Decoded at its own depth."""
    return np.asarray(Image.open(io.BytesIO(path.read_bytes())))


def compare(name: str, path: Path, user: Callable[[Path], np.ndarray]) -> None:
    """Times both in turn and prints their medians."""
    taken: dict[str, list[float]] = {"user": [], "hilum": []}
    start = time.perf_counter()
    for _ in range(REPEATS):
        for who, call in (("user", user), ("hilum", read_image)):
            before = time.perf_counter()
            call(path)
            taken[who].append(1000 * (time.perf_counter() - before))
        if time.perf_counter() - start > SECONDS_EACH:
            break
    theirs, ours = statistics.median(taken["user"]), statistics.median(taken["hilum"])
    print(f"{name:44}{theirs:10.1f}{ours:12.1f}{theirs / ours:7.2f}x", flush=True)


if __name__ == "__main__":
    main()
