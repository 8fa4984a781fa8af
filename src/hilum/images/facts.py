"""What may be known of a film besides its pixels."""

import re
from dataclasses import dataclass
from typing import Literal, TypeVar

from hilum.images.grey import Lut
from hilum.images.header import Header, Tag

_Text = TypeVar("_Text", bound=str)

_VIEWS = ("PA", "AP", "LL", "RL", "LAT", "LATERAL", "LLD", "RLD", "LLO", "RLO", "LPO", "RPO", "LAO", "RAO")
_SEXES: tuple[Literal["F", "M", "O"], ...] = ("F", "M", "O")
_SIDES: tuple[Literal["L", "R", "B", "U"], ...] = ("L", "R", "B", "U")
_INTENTS: tuple[Literal["FOR PRESENTATION", "FOR PROCESSING"], ...] = ("FOR PRESENTATION", "FOR PROCESSING")
_ANSWERS: tuple[Literal["YES", "NO"], ...] = ("YES", "NO")
# at 90 and over an age can identify (HIPAA's Safe Harbor, 45 CFR 164.514)
_OLDEST = 90
_PER_YEAR = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}


@dataclass(frozen=True)
class FilmFacts:
    """What may be known of a film besides its pixels; no other value of its header ever leaves the file."""

    format: Literal["png", "jpeg", "dicom"]
    height: int
    """As stored, before a JPEG's EXIF orientation."""
    width: int
    bits: int
    """Bits of a stored sample."""
    photometric: str = ""
    """MONOCHROME1 or MONOCHROME2."""
    window: Literal["", "table", "window", "percentiles", "none"] = ""
    """What makes a DICOM film's contrast; none: 8-bit values as they are."""
    view: str = ""
    """Projection: PA, AP, LL (left lateral), RL and the like."""
    sex: Literal["", "F", "M", "O"] = ""
    age: int | None = None
    """Whole years; 90 stands for 90 and over."""
    laterality: Literal["", "L", "R", "B", "U"] = ""
    intent: Literal["", "FOR PRESENTATION", "FOR PROCESSING"] = ""
    """A film for processing was not yet made for the eye: its contrast can differ from the others'."""
    burned_in: Literal["", "YES", "NO"] = ""
    """Whether writing in the picture names the patient and the day, as the header has it."""


def dicom_facts(header: Header) -> FilmFacts:
    """The facts of a DICOM film; what is in none of the lists above counts as absent."""
    height, width = header.shape
    bits = header.bits[1]
    voi = header.voi
    window: Literal["table", "window", "percentiles", "none"] = "percentiles" if bits > 8 else "none"
    if voi is not None:
        window = "table" if isinstance(voi, Lut) else "window"
    return FilmFacts(
        "dicom",
        height,
        width,
        bits,
        photometric=header.text(Tag.PHOTOMETRIC_INTERPRETATION),
        window=window,
        view=_listed(header.text(Tag.VIEW_POSITION), _VIEWS),
        sex=_listed(header.text(Tag.PATIENT_SEX), _SEXES),
        age=_years(header.text(Tag.PATIENT_AGE)),
        laterality=_listed(header.text(Tag.IMAGE_LATERALITY) or header.text(Tag.LATERALITY), _SIDES),
        intent=_listed(header.text(Tag.PRESENTATION_INTENT_TYPE), _INTENTS),
        burned_in=_listed(header.text(Tag.BURNED_IN_ANNOTATION), _ANSWERS),
    )


def _listed(found: str, allowed: tuple[_Text, ...]) -> _Text | Literal[""]:
    return next((text for text in allowed if text == found), "")


def _years(age: str) -> int | None:
    """Whole years of an age string such as 045Y or 018M."""
    matched = re.fullmatch(r"([0-9]{1,3})([DWMY])", age)
    if matched is None:
        return None
    return min(int(int(matched[1]) / _PER_YEAR[matched[2]]), _OLDEST)
