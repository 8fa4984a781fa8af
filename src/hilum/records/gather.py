"""The table of a CSV: every column read as text, checked, and made what it plays."""

import gc
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.records.cells import ages, split_of
from hilum.records.checks import Checks
from hilum.records.columns import PARTS, Plan, plan
from hilum.records.defects import Defects, listed
from hilum.records.labels import Labels, Uncertain
from hilum.records.reading import Chunk, TextFile, refuse_repeated


def gather(
    path: Path,
    *,
    findings: Sequence[str],
    uncertain: Uncertain,
    columns: Mapping[str, str],
    root: Path,
    check_files: bool,
    labels: bool,
    defects: Defects,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table and its findings; where anything is added to the defects, the table is not to be used."""
    file = TextFile.open(path)
    refuse_repeated(file, defects)
    roles = plan(file.header, findings=findings, columns=columns, defects=defects, line=file.header_line)
    roles = roles if labels else replace(roles, findings=(), candidates=())
    cells = _Cells(roles, str(root))
    with _without_collector():
        for chunk in file.chunks(defects):
            cells.add(chunk, file.header)
    if not cells.rows and not len(defects):
        defects.add("rows", "there are column names but no rows")
    lines = np.concatenate(cells.lines) if cells.lines else np.empty(0, np.int64)
    found = _findings(cells.labels, roles)
    values = np.empty((len(found), cells.rows), np.float32)
    for place, one in enumerate(found):
        values[place] = one.values(uncertain, defects, guessed=not findings)
    names = tuple(one.finding for one in found)
    checks = Checks(cells.parts, roles.parts, lines, defects)
    checks.cells()
    checks.leaks()
    checks.repeated_images(dict(zip(names, values, strict=True)))
    if check_files:
        checks.missing_files(root)
    if len(defects):
        return pd.DataFrame(), ()
    table = _texts(cells.parts, cells.rows, roles)
    if names:
        table = pd.concat([table, pd.DataFrame(values.T, columns=list(names), copy=False)], axis=1)
    return table, names


@dataclass
class _Cells:
    """Columns as they grow, chunk by chunk; equal short texts are kept once."""

    roles: Plan
    root: str
    rows: int = 0
    lines: list[NDArray[np.int64]] = field(default_factory=list)
    parts: dict[str, list[str]] = field(default_factory=dict)
    labels: dict[str, Labels] = field(default_factory=dict)
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
            self.labels.setdefault(name, Labels(name)).add(by_name[name], chunk.lines)
        self.lines.append(chunk.lines)
        self.rows += len(chunk.lines)


def _absolute(image: str, root: str) -> str:
    if not image:
        return ""
    whole = image if image.startswith("/") else f"{root}/{image}"
    return os.path.normpath(whole) if "//" in whole or "/." in whole else whole


def _findings(labels: Mapping[str, Labels], roles: Plan) -> list[Labels]:
    if not roles.candidates:
        return list(labels.values())
    found = [one for one in labels.values() if one.looks_like_finding()]
    _log().info("findings are %s", listed(one.finding for one in found) or "none")
    unused = [name for name in roles.candidates if name not in {one.finding for one in found}]
    if unused:
        _log().info("columns that are not used: %s", listed(unused))
    return found


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
        _log().warning("every radiograph counts as a patient of its own, as asked by --columns patient")
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
