"""What a table may know of a DICOM film: whose it is and of which exam as salted hashes, and what it shows.

The hashes are made here, beside the header, so that no PatientID and no UID ever leaves it.
"""

import hashlib
import hmac
from pathlib import Path

from hilum.errors import ImageError
from hilum.images.dicom import read_header
from hilum.images.elements import is_dicom
from hilum.images.facts import dicom_facts
from hilum.images.header import Header
from hilum.images.limits import Limits, map_bytes

PATIENT_ID = 0x00100020
STUDY_INSTANCE_UID = 0x0020000D
DIGITS = 16
"""Hexadecimal digits of a hash: two of a million patients share one with a chance of 3 in 100 million."""

_NO_LIMITS_GIVEN = Limits()
_LATERAL = frozenset({"LL", "RL", "LAT"})


def film_columns(path: Path, salt: str, *, limits: Limits = _NO_LIMITS_GIVEN) -> dict[str, str]:
    """The columns patient, study, view, sex and age of a DICOM film; what its header does not say is empty.

    Age is in whole years, and 90 stands for 90 and over. Only the header is read from the disk.

    Raises:
        ImageError: it is no DICOM file, damaged, too large, or no single grey radiograph of a chest.
    """
    content = map_bytes(path, limits)
    if not is_dicom(content):
        raise ImageError("it is no DICOM file: its marker is missing")
    header = read_header(content, limits, also=frozenset({PATIENT_ID, STUDY_INSTANCE_UID}))
    facts = dicom_facts(header)
    return {
        "patient": _hashed(header, PATIENT_ID, salt),
        "study": _hashed(header, STUDY_INSTANCE_UID, salt),
        "view": "LATERAL" if facts.view in _LATERAL else facts.view,
        "sex": facts.sex if facts.sex in ("F", "M") else "",
        "age": "" if facts.age is None else str(facts.age),
    }


def _hashed(header: Header, tag: int, salt: str) -> str:
    """A keyed hash of a value: without the salt it cannot be found by trying all values."""
    element = header.elements.values.get(tag)
    value = b"" if element is None else bytes(element.value).strip(b" \0")
    if not value:
        return ""
    return hmac.new(salt.encode(), tag.to_bytes(4, "big") + value, hashlib.sha256).hexdigest()[:DIGITS]
