"""The same finding under two names: a model's, and those of the table that it is tested on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hilum.errors import ConfigError
from hilum.find import did_you_mean
from hilum.records.defects import listed
from hilum.records.table import Records

SYNONYMS = (
    ("active tuberculosis", "active tb"),
    ("atelectasis", "atelectases"),
    ("calcification", "calcifications"),
    ("cardiomegaly", "enlarged heart"),
    ("consolidation", "lung consolidation", "pulmonary consolidation"),
    ("covid-19", "covid"),
    ("edema", "oedema", "pulmonary edema", "pulmonary oedema", "lung edema", "lung oedema"),
    ("effusion", "pleural effusion", "pleural effusions"),
    ("emphysema", "pulmonary emphysema"),
    ("endotracheal tube", "ett"),
    ("enlarged pulmonary artery", "enlarged pa"),
    ("fibrosis", "pulmonary fibrosis", "lung fibrosis"),
    ("fracture", "fractures"),
    ("ground glass opacity", "ground glass opacities", "ground glass pattern", "ggo"),
    ("hiatal hernia", "hiatus hernia"),
    ("infiltration", "infiltrate", "infiltrates"),
    ("interstitial lung disease", "ild"),
    ("latent tuberculosis", "latent tb"),
    ("lung lesion", "lung lesions", "pulmonary lesion", "pulmonary lesions"),
    ("lung metastasis", "lung metastases", "pulmonary metastasis", "pulmonary metastases"),
    ("lung opacity", "lung opacities", "pulmonary opacity", "pulmonary opacities"),
    ("lung tumor", "lung tumour"),
    ("mass", "lung mass", "pulmonary mass"),
    ("nasogastric tube", "ng tube", "nsg tube"),
    ("no finding", "no findings"),
    ("nodule", "lung nodule", "pulmonary nodule"),
    ("pneumothorax", "pneumothoraces"),
    ("rib fracture", "rib fractures"),
    ("support devices", "support device"),
    ("tuberculosis", "tb", "pulmonary tuberculosis"),
    ("vertebral fracture", "vertebral fractures"),
)
"""Names of one meaning on a chest radiograph.

A wider or narrower finding is none (lung opacity and consolidation, fracture and rib fracture), and neither
is what datasets define differently (normal and no finding, mass and nodule/mass): for those there is
`--match`.
"""


@dataclass(frozen=True)
class Matching:
    """Which of the labelled names is which of the predicted ones, and what was left over on both sides."""

    names: Mapping[str, str]
    """From predicted to labelled."""
    predicted_only: tuple[str, ...]
    labelled_only: tuple[str, ...]

    @property
    def renamed(self) -> dict[str, str]:
        """The pairs whose names differ."""
        return {ours: theirs for ours, theirs in self.names.items() if ours != theirs}


def match(
    predicted: Sequence[str], labelled: Sequence[str], *, chosen: Mapping[str, str] | None = None
) -> Matching:
    """Pairs the names: those chosen first, then equal ones, equal but for case and signs, then synonyms.

    >>> match(["Effusion", "Pleural_Thickening"], ["pleural thickening", "Pleural Effusion"]).names
    {'Effusion': 'Pleural Effusion', 'Pleural_Thickening': 'pleural thickening'}

    Raises:
        ConfigError: a chosen name is unknown or taken twice, or one name has several that are as near.
    """
    names = _chosen(predicted, labelled, chosen or {})
    for likeness in (str, plain, meaning):
        ours = [name for name in predicted if name not in names]
        theirs = [name for name in labelled if name not in names.values()]
        for name in ours:
            near = [other for other in theirs if likeness(other) == likeness(name)]
            rivals = [other for other in ours if near and likeness(other) == likeness(name)]
            if len(near) > 1 or len(rivals) > 1:
                raise ConfigError(
                    f"findings: {listed(rivals)} of the predictions could be {listed(near)} of the records; "
                    f"say which with --match {_quoted(f'{rivals[0]}={near[0]}')}"
                )
            if near:
                names[name] = near[0]
    return Matching(
        {name: names[name] for name in predicted if name in names},
        tuple(name for name in predicted if name not in names),
        tuple(name for name in labelled if name not in names.values()),
    )


def matched(
    records: Records, predicted: Sequence[str], *, chosen: Mapping[str, str] | None = None
) -> tuple[Records, tuple[str, ...]]:
    """The records with the model's names for the findings that both have, and notes on which were renamed.

    What has no partner keeps its name; whoever joins predictions and records says so.

    Raises:
        ConfigError: as `match`.
    """
    found = match(predicted, records.findings, chosen=chosen)
    if not found.renamed:
        return records, ()
    other = {theirs: ours for ours, theirs in found.renamed.items()}
    # A name that was given to another column by --match must not come twice.
    lost = [name for name in found.labelled_only if name in found.renamed]
    findings = tuple(other.get(name, name) for name in records.findings if name not in lost)
    pairs = ", ".join(f"{ours} is {theirs}" for ours, theirs in found.renamed.items())
    notes = [f"Findings of other names, the model's first, then the records': {pairs}."]
    if lost:
        notes.append(f"Not scored, since --match gives their names to other columns: {', '.join(lost)}.")
    kept = [name not in lost for name in records.findings]
    soft = None if records.soft is None else records.soft[:, kept]
    table = records.table.drop(columns=lost).rename(columns=other)
    return replace(records, table=table, findings=findings, soft=soft), tuple(notes)


def meaning(name: str) -> str:
    """What names of one meaning have in common: the first of their synonyms, letters and digits alone.

    >>> meaning("Pleural_Effusion"), meaning("Kerley lines")
    ('effusion', 'kerleylines')
    """
    letters = plain(name)
    return _MEANINGS.get(letters, letters)


def _chosen(predicted: Sequence[str], labelled: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
    for name, known, where in (
        *((ours, predicted, "the predictions") for ours in chosen),
        *((theirs, labelled, "the records") for theirs in chosen.values()),
    ):
        if name not in known:
            near = did_you_mean(name, known) or f"; there are {listed(known)}"
            raise ConfigError(f"--match: {where} have no finding {name!r}{near}")
    twice = sorted({name for name in chosen.values() if list(chosen.values()).count(name) > 1})
    if twice:
        raise ConfigError(f"--match: {listed(twice)} of the records is given to two findings; keep one")
    return dict(chosen)


def plain(name: str) -> str:
    """A name without what people spell differently: its letters and digits, in small.

    >>> plain("ChestX-ray14")
    'chestxray14'
    """
    return "".join(letter for letter in name.lower() if letter.isalnum())


_MEANINGS = {plain(name): plain(names[0]) for names in SYNONYMS for name in names}


def _quoted(text: str) -> str:
    return f'"{text}"' if " " in text else text
