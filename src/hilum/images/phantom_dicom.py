"""A phantom as a DICOM file: Digital X-Ray or Computed Radiography, 12 bits stored in 16."""

import io

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

from hilum.images.phantom_canvas import Layer
from hilum.images.phantom_film import Site

_BITS = 12
_FILM_MILLIMETRES = 420.0


def dicom_bytes(
    grey: Layer, site: Site, *, patient: str, sex: str, age: int, view: str, number: int
) -> bytes:
    """A file that its window shows as `grey`, 0 to 1; the same bytes for the same arguments."""
    header = Dataset()
    header.SOPClassUID = (
        DigitalXRayImageStorageForPresentation if site.modality == "DX" else ComputedRadiographyImageStorage
    )
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(header, keyword, generate_uid(entropy_srcs=[patient, str(number), keyword]))
    header.PatientName = header.PatientID = patient
    header.PatientSex = sex
    header.PatientAge = f"{age:03d}Y"
    header.Modality = site.modality
    header.InstitutionName = f"Phantom hospital {site.name}"
    header.Manufacturer = "hilum phantom"
    header.SeriesNumber = header.InstanceNumber = 1
    header.BodyPartExamined = "CHEST"
    header.ViewPosition = view
    header.PatientOrientation = ["L", "F"]
    header.BurnedInAnnotation = "NO"  # a side marker names nobody
    for empty in (
        "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID", "PatientBirthDate"
    ):  # fmt: skip
        setattr(header, empty, "")
    _describe_pixels(header, grey, site)
    if site.modality == "DX":
        _describe_projection(header, len(grey))
    return _encoded(header)


def _describe_pixels(header: Dataset, grey: Layer, site: Site) -> None:
    inverted = site.photometric == "MONOCHROME1"
    centre, width = site.window
    shown = 1 - grey if inverted else grey
    # the inverse of the window function of PS3.3 C.11.2.1.2.1
    stored = np.rint((shown - 0.5) * (width - 1) + centre - 0.5).clip(0, (1 << _BITS) - 1)
    header.ImageType = ["ORIGINAL", "PRIMARY"]
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = site.photometric
    header.Rows, header.Columns = grey.shape
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, _BITS, _BITS - 1
    header.PixelRepresentation = 0
    header.WindowCenter, header.WindowWidth = centre, width
    header.RescaleIntercept, header.RescaleSlope, header.RescaleType = 0, 1, "US"
    header.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    header.LossyImageCompression = "00"
    header.PixelData = stored.astype("<u2").tobytes()


def _describe_projection(header: Dataset, size: int) -> None:
    """What the Digital X-Ray object wants beyond Computed Radiography."""
    chest = Dataset()
    chest.CodeValue, chest.CodingSchemeDesignator, chest.CodeMeaning = "51185008", "SCT", "Chest"
    header.PresentationIntentType = "FOR PRESENTATION"
    header.AnatomicRegionSequence = Sequence([chest])
    header.ImageLaterality = "U"
    header.PixelIntensityRelationship = "LOG"
    header.PixelIntensityRelationshipSign = -1
    header.DetectorType = "DIRECT"
    header.ImagerPixelSpacing = [round(_FILM_MILLIMETRES / size, 6)] * 2
    header.AcquisitionContextSequence = Sequence()


def _encoded(header: Dataset) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = header.SOPClassUID
    meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content = io.BytesIO()
    FileDataset(content, header, file_meta=meta, preamble=bytes(128)).save_as(
        content, enforce_file_format=True
    )
    return content.getvalue()
