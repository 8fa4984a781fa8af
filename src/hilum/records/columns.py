"""Which column of a file plays which part."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hilum.find import did_you_mean
from hilum.records.defects import Defects, listed
from hilum.records.ordinal import SIGN

PARTS: dict[str, tuple[str, ...]] = {
    "image": (
        "image", "path", "imagepath", "file", "filename", "filepath", "imagefile", "imagename", "imageindex",
        "dicom", "dicompath", "dicomfile", "img", "imgpath", "fullpath",
    ),
    "patient": ("patient", "patientid", "subjectid", "subject", "patientcode"),
    "split": ("split",),
    "study": ("study", "studyid", "accession", "accessionnumber"),
    "view": ("view", "viewposition", "projection"),
    "sex": ("sex", "gender", "patientsex", "patientgender"),
    "age": ("age", "patientage"),
    "site": ("site", "hospital", "institution"),
    "text": ("text", "report", "impression"),
    "boxes": ("boxes",),
}  # fmt: skip
"""The parts of a table, and the names they are recognised by, best first; only letters and digits count."""


@dataclass(frozen=True)
class Plan:
    """The column of each part, and the columns that are, or may be, findings."""

    parts: dict[str, str]
    findings: tuple[str, ...]
    candidates: tuple[str, ...]
    """Columns that are findings if their cells are labels; only where none were named."""
    ordinal: tuple[str, ...]
    """Columns of grades, which are among the findings or the candidates too."""
    own_patient: str
    """Why each radiograph is its own patient; empty where it is not."""


def plan(
    header: Sequence[str],
    *,
    findings: Sequence[str],
    columns: Mapping[str, str],
    defects: Defects,
    ordinal: Sequence[str] = (),
    patients: bool = True,
    line: int = 1,
) -> Plan:
    """Finds the columns by the settings, then by their names; what is missing or unknown becomes a defect.

    Without `patients` a column of these may lack.
    """
    names = [name for name in dict.fromkeys(header) if name]
    own_patient = columns.get("patient") == "image"
    parts = _chosen(
        names, {k: v for k, v in columns.items() if not (k == "patient" and own_patient)}, defects
    )
    for part, aliases in PARTS.items():
        if part not in columns and part not in parts:
            needed = part in ("image", "patient")
            free = [name for name in names if needed or name not in (*findings, *ordinal)]
            _recognise(part, aliases, free, parts)
    own_patient = own_patient or ("image" in parts and parts.get("patient") == parts["image"])
    why = "as asked by --columns patient" if own_patient else ""
    if "image" not in parts and "image" not in columns:
        problem = f"no column of image files; name it with --columns image=NAME. Columns are {listed(names)}"
        defects.add("columns", problem, line=line)
    if "patient" not in parts and "patient" not in columns and not patients:
        why = "since no column names patients"
    elif "patient" not in parts and "patient" not in columns:
        defects.add(
            "columns",
            "no column of patients, without which films of one patient could be both trained and tested on; "
            "name it with --columns patient=NAME, or say --columns patient=image where each film has its own",
            line=line,
        )
    free = [name for name in names if name not in parts.values()]
    _refuse_findings("findings", findings, names, parts, free, defects)
    _refuse_findings("ordinal", ordinal, names, parts, free, defects)
    graded = tuple(name for name in dict.fromkeys(ordinal) if name in free)
    for name in (name for name in names for one in graded if name.startswith(f"{one}{SIGN}")):
        problem = (
            "--ordinal makes a finding of this name; rename the column, or name it in --findings instead"
        )
        defects.add("columns", problem, line=line, column=name)
    named = tuple(name for name in dict.fromkeys((*findings, *graded) if findings else ()) if name in free)
    if not findings:
        for name in sorted(set(free) & set(PARTS)):
            _log().warning("column %r is not used, because the %s is %r", name, name, parts.get(name))
    candidates = () if findings else tuple(name for name in free if name not in PARTS)
    return Plan(parts, named, candidates, graded, why)


def _chosen(names: list[str], columns: Mapping[str, str], defects: Defects) -> dict[str, str]:
    parts = {}
    by_lower = {name.lower(): name for name in reversed(names)}
    for part, name in columns.items():
        if part not in PARTS:
            known = ", ".join(PARTS)
            near = did_you_mean(part, PARTS)
            defects.add(
                "settings", f"--columns {part}={name}: there is no part {part!r}{near or '.'} Parts: {known}"
            )
        elif name in names or name.lower() in by_lower:
            parts[part] = name if name in names else by_lower[name.lower()]
        else:
            near = did_you_mean(name, names) or f"; columns are {listed(names)}"
            defects.add("settings", f"--columns {part}={name}: there is no column {name!r}{near}")
    return parts


def _recognise(part: str, aliases: Sequence[str], names: list[str], parts: dict[str, str]) -> None:
    taken = set() if part == "image" else set(parts.values())  # the image's column may be the patient's too
    found = {_plain(name): name for name in reversed(names) if name not in taken}
    known = [found[alias] for alias in aliases if alias in found]
    if known:
        parts[part] = known[0]
        if known[0] != part:
            others = (
                f" ({listed(known[1:])} could be too; choose with --columns {part}=NAME)" if known[1:] else ""
            )
            _log().info("%s is column %r%s", part, known[0], others)


def _refuse_findings(
    setting: str,
    findings: Sequence[str],
    names: list[str],
    parts: Mapping[str, str],
    free: list[str],
    defects: Defects,
) -> None:
    for name in dict.fromkeys(findings):
        if name in PARTS or name in parts.values():
            defects.add(
                "settings", f"--{setting} {name}: that is the name of a part of the table, so no finding's"
            )
        elif name not in names:
            near = did_you_mean(name, free) or f"; columns are {listed(free)}"
            defects.add("settings", f"--{setting} {name}: there is no column {name!r}{near}")


def _plain(name: str) -> str:
    """A column's name without what people spell differently.

    >>> _plain("Patient_ID"), _plain("Image Index")
    ('patientid', 'imageindex')
    """
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _log() -> logging.Logger:
    return logging.getLogger(__name__)
