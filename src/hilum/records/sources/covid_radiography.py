"""COVID-19 Radiography Database: 21,165 films in four classes, gathered from several collections.

Chowdhury et al. 2020, https://doi.org/10.1109/ACCESS.2020.3010287; Rahman et al. 2021,
https://doi.org/10.1016/j.compbiomed.2021.104319. For research; the collections that it was made of keep
their own terms.

Expected below the root, as downloaded (the root is the folder of the classes or one above it):
COVID-19_Radiography_Dataset/ with COVID/, Lung_Opacity/, Normal/ and Viral Pneumonia/, each of images/ and
masks/ with files of the same names, .png of 299 x 299 pixels, and CLASS.metadata.xlsx, which is not read.

Labels: a film is 1 for its class and 0 for the other three. Masks of lungs lie beside the films under the
same names: they are never read, and counted. The very first version had no images/ in the classes and is
refused.

There is no official split and there are no patients: every film counts as its own, which is said, so that
two films of one patient may be in train and in test. Pitfall: each class comes from other hospitals (Normal
and Lung Opacity mostly from the RSNA challenge, Viral Pneumonia from children), so that a classifier needs
to see no disease to tell them apart.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from hilum.config import Config
from hilum.records.defects import Defects
from hilum.records.sources._places import files_below, start_of
from hilum.records.sources._tables import records_of
from hilum.records.table import Records


class Settings(Config):
    """Settings of the COVID-19 Radiography Database."""

    disease_only: bool = False
    """One finding, Abnormal, 0 on films of Normal and 1 on all others, in place of the four classes."""


CLASSES = {
    "COVID": "COVID",
    "Lung_Opacity": "Lung Opacity",
    "Normal": "Normal",
    "Viral Pneumonia": "Viral Pneumonia",
}
"""What each folder's films have."""

log = logging.getLogger(__name__)


def read(root: Path, *, disease_only: bool) -> Records:
    """The films of the four classes.

    Raises:
        MissingError: the folders are not there.
        RecordsError: the folders have defects; all of them are in the message.
    """
    base = start_of(root, "COVID")
    defects = Defects(base)
    images: list[str] = []
    names: list[str] = []
    kinds: list[str] = []
    masks = 0
    for folder in CLASSES:
        if not (base / folder).is_dir():
            defects.add("classes", f"{folder}/ is not there; expected all of {', '.join(CLASSES)}")
            continue
        films = 0
        for name, path in sorted(files_below(base / folder).items()):
            place = name.split("/")
            if len(place) == 2 and place[0] == "images":
                images.append(str(path.absolute()))
                names.append(path.stem)
                kinds.append(folder)
                films += 1
            elif "masks" in place[:-1]:
                masks += 1
            else:
                problem = f"{folder}/{name} is neither in images/ nor in masks/; move or delete it"
                defects.add("files elsewhere", problem)
        if not films:
            defects.add("classes", f"{folder}/images/ holds no film")
    defects.check()
    if masks:
        log.info("%d masks are not read: they are no films", masks)
    log.warning("the folders name no patients, so each of %d films is its own patient", len(images))
    table = pd.DataFrame({"image": images, "patient": names}, dtype="str")
    own = np.array(kinds)
    if disease_only:
        return records_of(table, {"Abnormal": (own != "Normal").astype(np.float64)})
    return records_of(table, {name: (own == folder).astype(np.float64) for folder, name in CLASSES.items()})
