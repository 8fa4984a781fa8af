"""The table of a CSV: every column read as text, checked, and made what it plays."""

import gc
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.records.cells import ages, split_of
from hilum.records.checks import Checks
from hilum.records.columns import PARTS, Plan, plan
from hilum.records.defects import Defects, listed
from hilum.records.labels import Column, Labels
from hilum.records.ordinal import Grades
from hilum.records.reading import Chunk, TextFile, refuse_repeated
from hilum.records.uncertain import Changed, Policies, soft_labels


@dataclass(frozen=True)
class Gathered:
    """A table with its findings, and what became of labels that were uncertain."""

    table: pd.DataFrame
    findings: tuple[str, ...] = ()
    soft: NDArray[np.float32] | None = None
    """Soft labels, NaN where a label is none; rows by findings. None: there are none."""
    changed: tuple[Changed, ...] = ()
    others: pd.DataFrame | None = None
    """The columns that play no part, as text; None: they were not asked for."""


def gather(
    path: Path,
    *,
    findings: Sequence[str],
    ordinal: Sequence[str],
    uncertain: Policies,
    columns: Mapping[str, str],
    root: Path,
    check_files: bool | Literal["beside others"],
    labels: bool,
    keep_others: bool,
    patients: bool,
    defects: Defects,
) -> Gathered:
    """The table of a file; where anything is added to the defects, it is empty."""
    file = TextFile.open(path)
    refuse_repeated(file, defects)
    roles = plan(
        file.header,
        findings=findings,
        ordinal=ordinal,
        columns=columns,
        patients=patients,
        defects=defects,
        line=file.header_line,
    )
    if labels:
        uncertain.check([name for name in file.header if name not in roles.parts.values()], defects)
    else:
        roles = replace(roles, findings=(), candidates=(), ordinal=())
    parts = set(roles.parts.values())
    kept = [name for name in file.header if name and name not in parts] if keep_others else []
    cells = _Cells(roles, str(root), others={name: [] for name in kept})
    with _without_collector():
        for chunk in file.chunks(defects):
            cells.add(chunk, file.header)
    if not cells.rows and not len(defects):
        defects.add("rows", "there are column names but no rows")
    lines = np.concatenate(cells.lines) if cells.lines else np.empty(0, np.int64)
    found = _findings(cells.labels, roles)
    columns_of = {one.finding: _values(one, uncertain, defects, guessed=not findings) for one in found}
    values = {name: cells for columns in columns_of.values() for name, cells in columns.items()}
    checks = Checks(cells.parts, roles.parts, lines, defects)
    checks.cells()
    checks.leaks()
    checks.repeated_images(values)
    if len(defects) if check_files == "beside others" else check_files:
        checks.missing_files(root)
    if len(defects):
        return Gathered(pd.DataFrame())
    table = _texts(cells.parts, cells.rows, roles)
    if values:
        # One block, which is faster to take rows of than a block per column.
        block = np.stack(list(values.values()))
        table = pd.concat([table, pd.DataFrame(block.T, columns=list(values), copy=False)], axis=1)
    soft = _soft(found, uncertain, list(values), table["image"], root)
    changed = tuple(change for one in found for change in one.changed(uncertain[one.finding]))
    others = _others(cells.others, table, {one.finding for one in found}) if keep_others else None
    return Gathered(table, tuple(values), soft, changed, others)


@dataclass
class _Cells:
    """Columns as they grow, chunk by chunk; equal short texts are kept once."""

    roles: Plan
    root: str
    rows: int = 0
    lines: list[NDArray[np.int64]] = field(default_factory=list)
    parts: dict[str, list[str]] = field(default_factory=dict)
    labels: dict[str, Column] = field(default_factory=dict)
    others: dict[str, list[str]] = field(default_factory=dict)
    _kept: dict[str, str] = field(default_factory=dict)

    def add(self, chunk: Chunk, header: Sequence[str]) -> None:
        keep = self._kept.setdefault
        by_name = dict(zip(header, chunk.columns, strict=True))
        for part, name in self.roles.parts.items():
            cells = by_name[name]
            grown = self.parts.setdefault(part, [])
            if part == "image":
                grown.extend(_absolute(cell.strip(), self.root) for cell in cells)
            elif part in ("text", "boxes"):
                grown.extend(cells)
            else:
                grown.extend([keep(cell, cell) for cell in map(str.strip, cells)])
        if self.roles.own_patient and "image" in self.roles.parts and "patient" not in self.roles.parts:
            cells = by_name[self.roles.parts["image"]]
            self.parts.setdefault("patient", []).extend(cell.strip() for cell in cells)
        for name in (*self.roles.findings, *self.roles.candidates):
            new = Grades(name) if name in self.roles.ordinal else Labels(name)
            self.labels.setdefault(name, new).add(by_name[name], chunk.lines)
        for name, grown in self.others.items():
            grown.extend(by_name[name])
        self.lines.append(chunk.lines)
        self.rows += len(chunk.lines)


def _absolute(image: str, root: str) -> str:
    if not image:
        return ""
    whole = image if image.startswith("/") else f"{root}/{image}"
    return os.path.normpath(whole) if "//" in whole or "/." in whole else whole


def _values(
    column: Column, uncertain: Policies, defects: Defects, *, guessed: bool
) -> dict[str, NDArray[np.float32]]:
    policy = uncertain[column.finding]
    if isinstance(column, Grades):
        return column.values(policy, defects)
    assert isinstance(column, Labels)
    return {column.finding: column.values(policy, defects, guessed=guessed)}


def _soft(
    found: Sequence[Column], uncertain: Policies, findings: Sequence[str], images: pd.Series, root: Path
) -> NDArray[np.float32] | None:
    softened = [one for one in found if uncertain[one.finding] == "soft" and one.uncertain]
    if not softened:
        return None
    # By paths below the root, so that they are the same wherever the files lie.
    names = [image.removeprefix(f"{root}/") for image in images]
    soft = np.full((len(names), len(findings)), np.nan, np.float32)
    for one in softened:
        rows = one.uncertain_rows()
        soft[rows, findings.index(one.finding)] = soft_labels((names[row] for row in rows), one.finding)
    return soft


def _findings(labels: Mapping[str, Column], roles: Plan) -> list[Column]:
    if not roles.candidates:
        return list(labels.values())
    found = [one for one in labels.values() if not isinstance(one, Labels) or one.looks_like_finding()]
    _log().info("findings are %s", listed(one.finding for one in found) or "none")
    unused = [name for name in roles.candidates if name not in {one.finding for one in found}]
    if unused:
        _log().info("columns that are not used: %s", listed(unused))
    return found


def _others(cells: Mapping[str, list[str]], table: pd.DataFrame, findings: set[str]) -> pd.DataFrame:
    """What is neither a part nor a finding; under another name where a part of the table has its own."""
    texts = {}
    for name in cells:
        if name in findings:
            continue
        new = name
        while new in table or (new != name and new in cells):
            new = f"original_{new}"
        if new != name:
            _log().warning("column %r plays no part and is kept as %r", name, new)
        texts[new] = pd.Series(cells[name], dtype="str")
    return pd.DataFrame(texts, index=table.index)


def _texts(parts: Mapping[str, list[str]], rows: int, roles: Plan) -> pd.DataFrame:
    texts = {"image": parts["image"], "patient": parts["patient"], "split": [""] * rows}
    for part in PARTS:
        if part in parts:
            texts[part] = parts[part]
    known = {split: split_of(split) or "" for split in set(texts["split"])}
    texts["split"] = [known[split] for split in texts["split"]]
    if "age" in texts:
        texts["age"] = ages(texts["age"])
    if roles.own_patient:
        _log().warning("every radiograph counts as a patient of its own, %s", roles.own_patient)
    return pd.DataFrame({part: pd.Series(cells, dtype="str") for part, cells in texts.items()})


@contextmanager
def _without_collector() -> Iterator[None]:
    """Rows make no cycles, and looking for some among millions of lists doubles the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _log() -> logging.Logger:
    return logging.getLogger(__name__)
