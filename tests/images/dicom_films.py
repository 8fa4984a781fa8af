"""DICOM films for the tests, written with pydicom, and the standard's formulas as plain loops."""

import math
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    generate_uid,
)

JPEG_LOSSLESS = UID("1.2.840.10008.1.2.4.70")


def ramp(bits: int, *, height: int = 40, width: int = 48, signed: bool = False) -> np.ndarray:
    """Pixels that reach both ends of the range, in an order that is not monotonic."""
    levels = np.linspace(0, 2**bits - 1, height * width).round().astype(np.int64)
    levels = levels.reshape(height, width)[::-1].copy()
    levels[1::2] = levels[1::2, ::-1]
    if signed:
        return (levels - 2 ** (bits - 1)).astype(np.int8 if bits <= 8 else np.int16)
    return levels.astype(np.uint8 if bits <= 8 else np.uint16)


def film(pixels: np.ndarray, bits: int, **tags: Any) -> Dataset:
    """An uncompressed chest film; a tag of value None is left out."""
    dataset = Dataset()
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=["film"])
    dataset.PatientName = "Secret^Name"
    dataset.Modality = "CR"
    dataset.BodyPartExamined = "CHEST"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    order = "<"
    for name, value in tags.items():
        if name == "syntax":
            dataset.file_meta.TransferSyntaxUID = value
            order = "<" if UID(value).is_little_endian else ">"
        elif value is None:
            del dataset[name]
        else:
            setattr(dataset, name, value)
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path


def compressed(dataset: Dataset, frame: bytes, syntax: str) -> Dataset:
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return dataset


def as_jpeg(dataset: Dataset, *, quality: int = 95) -> tuple[Dataset, np.ndarray]:
    """An 8-bit film as JPEG baseline, and what Pillow decodes of it."""
    import io

    from PIL import Image

    pixels = np.frombuffer(dataset.PixelData, np.uint8).reshape(dataset.Rows, dataset.Columns)
    frame = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    return compressed(dataset, frame, JPEGBaseline8Bit), np.asarray(Image.open(io.BytesIO(frame)))


def as_lossless_jpeg(dataset: Dataset, source: Path) -> Dataset:
    """Re-encoded by GDCM, as scanners' JPEG lossless files are."""
    import gdcm
    import pydicom

    save(dataset, source)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(source))
    assert writer.Write()
    return pydicom.dcmread(source)


def lut_item(first: int, bits: int, entries: list[int], *, signed: bool = False) -> Dataset:
    item = Dataset()
    item.add_new(0x00283002, "SS" if signed else "US", [len(entries) % 65_536, first, bits])
    item.add_new(0x00283006, "OW", struct.pack(f"<{len(entries)}H", *entries))
    return item


def shown(value: float, centre: float, width: float, function: str) -> float:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3 for one value, with black 0 and white 1."""
    if function == "SIGMOID":
        return 1 / (1 + math.exp(-4 * (value - centre) / width))
    if function == "LINEAR_EXACT":
        if value <= centre - width / 2:
            return 0.0
        if value > centre + width / 2:
            return 1.0
        return (value - centre) / width + 0.5
    if value <= centre - 0.5 - (width - 1) / 2:
        return 0.0
    if value > centre - 0.5 + (width - 1) / 2:
        return 1.0
    return (value - (centre - 0.5)) / (width - 1) + 0.5


def levels_of(fractions: np.ndarray, bits: int) -> np.ndarray:
    dtype = np.uint8 if bits <= 8 else np.uint16
    return np.rint(fractions * np.iinfo(dtype).max).astype(dtype)
