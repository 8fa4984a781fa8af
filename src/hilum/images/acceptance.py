"""Which DICOM files are chest radiographs, and the reason why another one is not.

A reason may quote a header only where the value stands in a list of this module or in pydicom's dictionary of
UIDs: any other text in a header can be a patient's.
"""

import re

from hilum.errors import ImageError
from hilum.images.header import Header, Tag

# DR is no defined term but common; OT and an absent modality come from converters
_RADIOGRAPHY = frozenset({"CR", "DX", "RG", "DR", "OT", ""})
_OTHER_MODALITIES = {
    "AU": "audio",
    "BMD": "bone densitometry",
    "CT": "computed tomography",
    "DOC": "a document",
    "ECG": "an electrocardiogram",
    "EPS": "electrophysiology",
    "ES": "endoscopy",
    "GM": "general microscopy",
    "HD": "haemodynamics",
    "IO": "intra-oral radiography",
    "IVUS": "intravascular ultrasound",
    "KO": "a key object selection",
    "MG": "mammography",
    "MR": "magnetic resonance",
    "NM": "nuclear medicine",
    "OCT": "optical coherence tomography",
    "OP": "ophthalmic photography",
    "PR": "a presentation state",
    "PT": "positron emission tomography",
    "PX": "panoramic radiography",
    "REG": "a registration",
    "RF": "fluoroscopy",
    "RTDOSE": "a radiotherapy dose",
    "RTIMAGE": "a radiotherapy image",
    "RTPLAN": "a radiotherapy plan",
    "RTSTRUCT": "a radiotherapy structure set",
    "SC": "a secondary capture",
    "SEG": "a segmentation",
    "SM": "slide microscopy",
    "SR": "a structured report",
    "US": "ultrasound",
    "XA": "angiography",
    "XC": "photography",
}
_PHOTOMETRIC = frozenset(
    {
        "PALETTE COLOR",
        "RGB",
        "YBR_FULL",
        "YBR_FULL_422",
        "YBR_PARTIAL_420",
        "YBR_ICT",
        "YBR_RCT",
        "HSV",
        "ARGB",
        "CMYK",
    }
)
# ribs, sternum, heart and free text are let pass: only what names another part of the body is refused
_OTHER_PARTS = re.compile(
    "ABDOMEN|ABDOMENPELVIS|ANKLE|ARM|BLADDER|BRAIN|BREAST|CALCANEUS|CAROTID|CERVIX|CLAVICLE|COCCYX|COLON|"
    "CSPINE|CTSPINE|EAR|ELBOW|EXTREMITY|EYE|FEMUR|FINGER|FOOT|FOREARM|HAND|HEAD|HEADNECK|HIP|HIPJOINT|"
    "HUMERUS|JAW|KIDNEY|KNEE|LEG|LIVER|LSPINE|LSSPINE|MANDIBLE|MAXILLA|NECK|NOSE|ORBIT|PATELLA|PELVIS|"
    "PROSTATE|RADIUS|RADIUSULNA|SCAPULA|SCROTUM|SELLA|SHOULDER|SIJOINT|SINUS|SKULL|SPINE|SSPINE|STOMACH|"
    "TEETH|TESTIS|THIGH|THUMB|TIBIA|TIBIAFIBULA|TLSPINE|TMJ|TOE|TOOTH|TSPINE|ULNA|UTERUS|WHOLEBODY|WRIST|"
    "ZYGOMA"
)


def require_chest_radiograph(header: Header) -> None:
    """Refuses what is no single grey radiograph of a chest.

    Raises:
        ImageError: with the reason.
    """
    modality = header.text(Tag.MODALITY)
    if not (header.has(Tag.PIXEL_DATA) or header.elements.fragments is not None):
        raise ImageError(f"it has no pixels: {_kind(header, modality)}")
    if modality not in _RADIOGRAPHY:
        found = f"{modality} ({_OTHER_MODALITIES[modality]})" if modality in _OTHER_MODALITIES else "unknown"
        raise ImageError(f"Modality is {found}; expected a radiograph: CR, DX or RG")
    part = re.sub("[^A-Z]", "", header.text(Tag.BODY_PART_EXAMINED))
    if _OTHER_PARTS.fullmatch(part):
        raise ImageError(f"BodyPartExamined is {part}; expected CHEST")
    frames = header.integer(Tag.NUMBER_OF_FRAMES)
    if frames is not None and frames > 1:
        raise ImageError(f"it has {frames:,} frames; a radiograph has one")
    _require_grey(header)


def _require_grey(header: Header) -> None:
    photometric = header.text(Tag.PHOTOMETRIC_INTERPRETATION)
    samples = header.integer(Tag.SAMPLES_PER_PIXEL)
    if photometric in ("MONOCHROME1", "MONOCHROME2") and samples in (None, 1):
        return
    named = photometric if photometric in _PHOTOMETRIC | {"MONOCHROME1", "MONOCHROME2"} else "unknown"
    colour = "it is a colour image: " if photometric in _PHOTOMETRIC or (samples or 1) > 1 else ""
    raise ImageError(
        f"{colour}PhotometricInterpretation is {named} with {samples or 1} samples per pixel; "
        "expected MONOCHROME1 or MONOCHROME2 with one"
    )


def _kind(header: Header, modality: str) -> str:
    """What a file without pixels is, from the standard's own dictionary."""
    if header.has(Tag.FLOAT_PIXEL_DATA) or header.has(Tag.DOUBLE_FLOAT_PIXEL_DATA):
        return "it holds a map of floating-point numbers"
    known = uid_name(header.text(Tag.SOP_CLASS))
    return f"its type is {known}" if known else f"it is {_OTHER_MODALITIES.get(modality, 'no image')}"


def uid_name(uid: str) -> str:
    """The standard's name of a UID; empty for one that it does not know, which must not be quoted."""
    from pydicom.uid import UID

    # validation would quote the value in a warning
    known = UID(uid, validation_mode=0)
    return "" if known.name == uid else known.name
