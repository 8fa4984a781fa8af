"""Data sets that hold films of one another, often under other names of patients and other pixels.

Many public sets were made by labelling a part of another: all films of the RSNA challenge are
ChestX-ray14's. A test on the one of what was trained on the other is no test, and neither names of
patients nor hashes of pixels show it, since both were changed. So the names of data sets are compared,
which the column `site` has.

Object-CXR is not here: its films were collected anew, in township hospitals
(https://jfhealthcare.github.io/object-CXR/). VinDr-PCXR shares none with VinDr-CXR: it has children where
that has adults.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from hilum.records.matching import plain
from hilum.records.table import Records

NIH, RSNA, MIMIC, CHEXPERT = "NIH ChestX-ray14", "RSNA Pneumonia", "MIMIC-CXR", "CheXpert"
PADCHEST, VINDR, KERMANY = "PadChest", "VinDr-CXR", "Kermany pneumonia"
SHENZHEN, MONTGOMERY, TBX11K = "Shenzhen", "Montgomery", "TBX11K"

NAMES: dict[str, tuple[str, ...]] = {
    NIH: ("nih", "cxr14", "cxr8", "chestxray8", "chestxray14", "nihcxr14", "nihcxr8", "nihchestxray"),
    RSNA: ("rsna", "rsnapneumonia", "rsnapneumoniadetectionchallenge", "rsna2018"),
    "Google NIH labels": ("googlenih", "nihgoogle", "googlecxr14"),
    "NIH BBox": ("nihbbox", "nihboxes", "bboxlist2017"),
    "NIH-CXR-LT": (),
    "SIIM-ACR Pneumothorax": ("siim", "siimacr", "siimptx"),
    "RANZCR CLiP": ("ranzcr",),
    "ChestX-Det": ("chestxdet10",),
    "ChestMNIST": (),
    "SLAKE": (),
    MIMIC: ("mimic", "mimiccxrjpg"),
    "REFLACX": (),
    "MS-CXR": (),
    "Chest ImaGenome": ("imagenome",),
    "MIMIC-CXR edema severity": ("edemaseverity", "mimicedema", "mimiccxredema"),
    "Eye Gaze": ("eyegaze", "egdcxr"),
    "CXR-LT": (),
    CHEXPERT: ("chexpertsmall",),
    "CheXlocalize": (),
    "CheXpert Plus": (),
    "CheXphoto": (),
    PADCHEST: (),
    "PadChest-GR": (),
    VINDR: ("vindr",),
    "VinBigData": ("vinbigdatachestxray",),
    "VinDr-PCXR": (),
    SHENZHEN: ("tuberculosisshenzhen", "shenzhentb"),
    MONTGOMERY: ("montgomerycounty", "montgomerytb"),
    TBX11K: (),
    KERMANY: ("kermany", "chestxraypneumonia", "paediatricpneumonia", "pediatricpneumonia"),
    "PneumoniaMNIST": (),
    "COVID-19 Radiography": ("covid19radiographydatabase", "covidradiography"),
    "COVIDx": ("covidxcxr",),
    "BRAX": (),
    "Open-i": ("indiana", "indianauniversity", "iuxray"),
    "JSRT": (),
    "TB Portals": (),
}
"""Data sets, and other names for them; only letters and digits count. Each that has a source is here, also
where it shares films with none: by its name `hilum records read` fills the column `site`."""


class Overlap(NamedTuple):
    """One data set that has films of another."""

    part: str
    whole: str
    why: str
    source: str
    """Where that stands."""


_MEDMNIST = "https://doi.org/10.1038/s41597-022-01721-8"
_QATAR = "https://doi.org/10.1016/j.compbiomed.2021.104319"
_TBX = "https://arxiv.org/abs/2307.02848"

OVERLAPS = (
    Overlap(RSNA, NIH, "its 30,000 films were chosen from it", "https://doi.org/10.1148/ryai.2019180041"),
    Overlap("Google NIH labels", NIH, "new labels for it", "https://doi.org/10.1148/radiol.2019191293"),
    Overlap("NIH BBox", NIH, "boxes for 984 of its films", "https://arxiv.org/abs/1705.02315"),
    Overlap("NIH-CXR-LT", NIH, "more labels and another split", "https://arxiv.org/abs/2208.13365"),
    Overlap(
        "SIIM-ACR Pneumothorax", NIH, "masks for its films", "https://doi.org/10.1007/s10278-019-00299-9"
    ),
    Overlap(
        "RANZCR CLiP", NIH, "labels of tubes for its films", "https://doi.org/10.1038/s41597-021-01066-8"
    ),
    Overlap("ChestX-Det", NIH, "boxes for 3,578 of its films", "https://arxiv.org/abs/2104.10326"),
    Overlap("ChestMNIST", NIH, "its films made small", _MEDMNIST),
    Overlap("SLAKE", NIH, "179 of its chest films are from there", "https://arxiv.org/abs/2102.09542"),
    Overlap("REFLACX", MIMIC, "gaze on 2,616 of its films", "https://doi.org/10.1038/s41597-022-01441-z"),
    Overlap("MS-CXR", MIMIC, "boxes of phrases for its films", "https://arxiv.org/abs/2204.09817"),
    Overlap("Chest ImaGenome", MIMIC, "scene graphs of its films", "https://arxiv.org/abs/2108.00316"),
    Overlap("MIMIC-CXR edema severity", MIMIC, "grades for its films", "https://arxiv.org/abs/2008.05975"),
    Overlap("Eye Gaze", MIMIC, "gaze on 1,083 of its films", "https://doi.org/10.1038/s41597-021-00863-5"),
    Overlap("CXR-LT", MIMIC, "more labels for it", "https://arxiv.org/abs/2310.16112"),
    Overlap(
        "CheXlocalize", CHEXPERT, "masks for its val and test", "https://doi.org/10.1038/s42256-022-00536-x"
    ),
    Overlap("CheXpert Plus", CHEXPERT, "its films with reports", "https://arxiv.org/abs/2405.19538"),
    Overlap("CheXphoto", CHEXPERT, "photographs of its films", "https://arxiv.org/abs/2007.06199"),
    Overlap("PadChest-GR", PADCHEST, "boxes for 4,555 of its studies", "https://arxiv.org/abs/2411.05085"),
    Overlap("VinBigData", VINDR, "a challenge on it", "https://vindr.ai/datasets/cxr"),
    Overlap(TBX11K, SHENZHEN, "its films are among the older ones that it takes in", _TBX),
    Overlap(TBX11K, MONTGOMERY, "its films are among the older ones that it takes in", _TBX),
    Overlap("PneumoniaMNIST", KERMANY, "its films made small", _MEDMNIST),
    Overlap("COVID-19 Radiography", RSNA, "8,851 normal films and 6,012 with opacity are from there", _QATAR),
    Overlap(
        "COVID-19 Radiography", KERMANY, "1,341 normal films and 1,345 of pneumonia are from there", _QATAR
    ),
    Overlap("COVIDx", RSNA, "its films without COVID-19 are from there", "https://arxiv.org/abs/2003.09871"),
)
"""What is known to share films. What is not here may do so too."""


def dataset_of(name: str) -> str | None:
    """The data set that a name means; None for what is none of them, such as a hospital.

    Of a name such as `nih/A`, which some tables have, the first part that means one counts.

    >>> dataset_of("ChestX-ray14"), dataset_of("merged/rsna"), dataset_of("St Mary")
    ('NIH ChestX-ray14', 'RSNA Pneumonia', None)
    """
    return next((_KNOWN[plain(part)] for part in name.split("/") if plain(part) in _KNOWN), None)


def datasets_in(records: Records) -> tuple[str, ...]:
    """The data sets that a table's column `site` names."""
    sites = records.table["site"].unique() if "site" in records.table else ()
    return tuple(sorted({found for site in sites if (found := dataset_of(site))}))


def of_dataset(records: Records, name: str) -> Records:
    """With the data set in the column `site`, before sites that a table has already, as in `TB Portals/x`.

    Nothing changes where the name is no data set's, or all sites name one themselves.
    """
    dataset = dataset_of(name)
    own = records.table["site"].tolist() if "site" in records.table else [""] * len(records)
    if dataset is None or all(map(dataset_of, own)):
        return records
    sites = [f"{dataset}/{site}" if site else dataset for site in own]
    table = records.table.drop(columns="site", errors="ignore")
    table.insert(3, "site", pd.Series(sites, index=table.index, dtype="str"))
    return replace(records, table=table)


def overlap(one: str, other: str) -> tuple[Overlap, ...]:
    """Why two data sets share films, or can: one has films of the other, or both of a third; else nothing.

    >>> [(step.part, step.whole) for step in overlap("COVIDx", "nih")]
    [('COVIDx', 'RSNA Pneumonia'), ('RSNA Pneumonia', 'NIH ChestX-ray14')]
    """
    first, second = dataset_of(one), dataset_of(other)
    if first is None or second is None or first == second:
        return ()
    ours, theirs = _above(first), _above(second)
    common = sorted(set(ours) & set(theirs), key=lambda name: len(ours[name]) + len(theirs[name]))
    return (*ours[common[0]], *theirs[common[0]]) if common else ()


def shared_films(trained: Iterable[str], tested: Iterable[str]) -> str:
    """A sentence on the first two data sets that share films, or can; empty where none do."""
    for one in trained:
        for other in tested:
            if steps := overlap(one, other):
                why = "; ".join(
                    f"{step.part} has films of {step.whole} ({step.why}, {step.source})" for step in steps
                )
                return f"{one} and {other} share films, or can: {why}."
    return ""


def _above(name: str) -> dict[str, tuple[Overlap, ...]]:
    """The data sets that one has films of, itself too, and the way to each."""
    ways: dict[str, tuple[Overlap, ...]] = {name: ()}
    for found in (todo := [name]):
        for step in OVERLAPS:
            if step.part == found and step.whole not in ways:
                ways[step.whole] = (*ways[found], step)
                todo.append(step.whole)
    return ways


_KNOWN = {plain(word): name for name, words in NAMES.items() for word in (name, *words)}
