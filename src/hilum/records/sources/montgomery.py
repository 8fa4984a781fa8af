"""Montgomery: 138 films of a tuberculosis programme in Maryland, 58 of them with signs of tuberculosis.

Jaeger et al. 2014, https://doi.org/10.3978/j.issn.2223-4292.2014.11.20 (National Library of Medicine).
Free to use with attribution: cite Jaeger et al. 2014 and Candemir et al. 2014. Expected below the root, as
the archive unpacks (the root may be MontgomerySet or a folder above):
NLM-MontgomeryCXRSet/MontgomerySet/CXR_png/MCUCXR_0001_0.png, ClinicalReadings/MCUCXR_0001_0.txt beside
CXR_png, and ManualMask/leftMask and rightMask with masks of lungs, which are never read as films.

The last digit of a name is the label: 0 normal, 1 signs of tuberculosis. The number before it is the
patient: one film each. A reading is "Patient's Sex: F", "Patient's Age: 027Y", and the text. No official
split. All films are PA, by the article. TBX11K's folder `extra` holds these films, too: never train on one
and test on the other.
"""

import logging
import re
from pathlib import Path

from hilum.config import Config
from hilum.records.sources._more import age_in_years, nlm_films, sex_of
from hilum.records.table import Records


class Settings(Config):
    """Settings of the Montgomery set: it needs none."""


_LINE = re.compile(r"\s*patient.?s\s+(?P<what>sex|age)\s*:\s*(?P<value>.*?)\s*", re.IGNORECASE)
_AGE = re.compile(r"0*(?P<number>\d+)\s*(?P<unit>[a-z]*)", re.IGNORECASE)

log = logging.getLogger(__name__)


def read(root: Path) -> Records:
    """All films with tuberculosis or not, and their readings.

    Raises:
        MissingError: a folder is not there.
        RecordsError: a file's name or reading has defects; all of them are in the message.
    """
    return nlm_films(
        root, ("NLM-MontgomeryCXRSet/MontgomerySet/", "MontgomerySet/", ""), "MCUCXR", _parts, log
    )


def _parts(reading: str) -> tuple[str, str, str]:
    r"""Sex, age and text.

    >>> _parts("Patient's Sex: F \nPatient's Age: 027Y\nnormal")
    ('F', '27', 'normal')
    """
    sex, age, text = "", "", []
    for line in reading.splitlines():
        matched = _LINE.fullmatch(line)
        if matched is None:
            text.append(line.strip())
        elif matched["what"].lower() == "sex":
            sex = sex_of(matched["value"])
        elif years := _AGE.match(matched["value"]):
            age = age_in_years(years["number"], years["unit"])
    return sex, age, "\n".join(line for line in text if line)
