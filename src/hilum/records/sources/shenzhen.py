"""Shenzhen: 662 films of No. 3 People's Hospital in Shenzhen, 336 of them with signs of tuberculosis.

Jaeger et al. 2014, https://doi.org/10.3978/j.issn.2223-4292.2014.11.20 (National Library of Medicine).
Free to use with attribution: cite Jaeger et al. 2014 and Candemir et al. 2014. Expected below the root, as
the archive unpacks (the root may be ChinaSet_AllFiles or the folder above):
ChinaSet_AllFiles/CXR_png/CHNCXR_0001_0.png and ChinaSet_AllFiles/ClinicalReadings/CHNCXR_0001_0.txt.

The last digit of a name is the label: 0 normal, 1 signs of tuberculosis. The number before it is the
patient: one film each. The first line of a reading is sex and age, as in "male 45yrs", with oddities (femal,
"Female, 28yrs", 16month, 64days); the rest is the text. No official split. All films are PA, by the
article. Lung masks that others drew (`*_mask.png`) are left out where they lie beside films.
TBX11K's folder `extra` holds these films, too: never train on one and test on the other.
"""

import logging
import re
from pathlib import Path

from hilum.config import Config
from hilum.records.sources._more import age_in_years, nlm_films, sex_of
from hilum.records.table import Records


class Settings(Config):
    """Settings of the Shenzhen set: it needs none."""


_FIRST_LINE = re.compile(
    r"\s*(?:(?P<sex>males?|fem[a-z]{1,4}|[fm])(?![a-z]))?[\s,.;:]*"
    r"(?:(?P<age>\d+)\s*(?P<unit>(?:y|mo|w)[a-z]*|days?)?(?![a-z])(?:\s+old)?)?[\s,.;:]*",
    re.IGNORECASE,
)

log = logging.getLogger(__name__)


def read(root: Path) -> Records:
    """All films with tuberculosis or not, and their readings.

    Raises:
        MissingError: a folder is not there.
        RecordsError: a file's name or reading has defects; all of them are in the message.
    """
    return nlm_films(root, ("ChinaSet_AllFiles/", ""), "CHNCXR", _parts, log)


def _parts(reading: str) -> tuple[str, str, str]:
    r"""Sex, age and text: what of the first line is neither sex nor age belongs to the text.

    >>> _parts("femal 32yrs\nbilateral PTB")
    ('F', '32', 'bilateral PTB')
    """
    first, _, rest = reading.strip().partition("\n")
    matched = _FIRST_LINE.match(first)
    assert matched is not None, "every part of the pattern may be missing"
    if not matched["sex"] and not matched["unit"]:
        return "", "", reading.strip()  # a number alone may count findings
    text = "\n".join(part for part in (first[matched.end() :].strip(), rest.strip()) if part)
    return sex_of(matched["sex"] or ""), age_in_years(matched["age"] or "", matched["unit"] or ""), text
