"""The table of a CSV: every column read as text, checked, and made what it plays."""

import gc
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.records.cells import ages, box_problem, places_where, split_of
from hilum.records.columns import PARTS, Plan, plan
from hilum.records.defects import SHOWN, Defects, listed, quote
from hilum.records.files import meant, missing, probable_root
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
    defects: Defects,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table and its findings; where anything is added to the defects, the table is not to be used."""
    file = TextFile.open(path)
    refuse_repeated(file, defects)
    roles = plan(file.header, findings=findings, columns=columns, defects=defects, line=file.header_line)
    cells = _Cells(roles, str(root))
    with _without_collector():
        for chunk in file.chunks(defects):
            cells.add(chunk, file.header)
    if not cells.rows and not len(defects):
        defects.add("rows", "there are column names but no rows")
    lines = np.concatenate(cells.lines) if cells.lines else np.empty(0, np.int64)
    labels = _findings(cells.labels, roles)
    values = np.empty((len(labels), cells.rows), np.float32)
    for place, one in enumerate(labels):
        values[place] = one.values(uncertain, defects, guessed=not findings)
    names = tuple(one.finding for one in labels)
    _check(cells.parts, roles, lines, defects)
    _refuse_repeated_images(
        cells.parts.get("image", []), lines, dict(zip(names, values, strict=True)), defects
    )
    if check_files:
        _refuse_missing(cells.parts.get("image", []), roles, lines, root, defects)
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


def _check(parts: Mapping[str, list[str]], roles: Plan, lines: NDArray[np.int64], defects: Defects) -> None:
    for part in ("image", "patient"):
        cells = parts.get(part, [])
        for place in places_where(cells, lambda cell: not cell) if "" in cells else []:
            name = roles.parts.get(part, part)
            defects.add(
                f"rows without {part}", "the cell is empty; fill it", line=int(lines[place]), column=name
            )
    for part, expected in (("split", "expected train, val, test or empty"), ("boxes", "")):
        cells = parts.get(part, [])
        wrong = (lambda cell: split_of(cell) is None) if part == "split" else _bad_boxes
        for place in places_where(cells, wrong):
            problem = expected or box_problem(cells[place])
            found = f"found {quote(cells[place])}; {problem}"
            defects.add(f"cells of {part}", found, line=int(lines[place]), column=roles.parts.get(part, part))
    if "split" in parts and "patient" in parts:
        _refuse_leaks(parts["patient"], parts["split"], roles, lines, defects)


def _bad_boxes(cell: str) -> bool:
    return bool(cell.strip()) and bool(box_problem(cell))


def _refuse_leaks(
    patients: list[str], splits: list[str], roles: Plan, lines: NDArray[np.int64], defects: Defects
) -> None:
    """A patient in two splits would be learnt from and tested on."""
    patient, names = pd.factorize(np.array(patients, object))
    known = {split: split_of(split) or "" for split in set(splits)}
    number = {"": 0, "train": 1, "val": 2, "test": 3}
    split = np.array([number[known[cell]] for cell in splits], np.int64)
    used = (split > 0) & (np.array(patients, object) != "")
    pairs, first = np.unique(patient[used] * 4 + split[used], return_index=True)
    first = np.flatnonzero(used)[first]
    leaking = np.flatnonzero(np.bincount(pairs // 4, minlength=len(names)) > 1)
    shown = []
    for one in leaking[:SHOWN].tolist():
        rows = [int(row) for row in first[pairs // 4 == one]]
        where = ", ".join(f"{known[splits[row]]} (line {lines[row]})" for row in rows)
        problem = f"patient {quote(names[one])} is in {where}; keep all films of a patient in one split"
        shown.append((int(lines[max(rows)]), problem))
    defects.add_many("patients in two splits", shown, len(leaking), column=roles.parts.get("split", "split"))


def _refuse_repeated_images(
    images: list[str],
    roles: Plan,
    lines: NDArray[np.int64],
    values: Mapping[str, NDArray[np.float32]],
    defects: Defects,
) -> None:
    column = pd.Series(images, dtype=object)
    again = np.flatnonzero((column.duplicated() & (column != "")).to_numpy())
    shown = []
    for place in again[:SHOWN].tolist():
        before = images.index(images[place])
        other = [
            name
            for name, one in values.items()
            if not np.array_equal(one[before], one[place], equal_nan=True)
        ]
        differs = f" with another label of {listed(other)}" if other else ""
        problem = f"{quote(images[place])} is already in line {lines[before]}{differs}; keep one of the rows"
        shown.append((int(lines[place]), problem))
    defects.add_many("repeated images", shown, len(again), column=roles.parts.get("image", "image"))


def _refuse_missing(
    images: list[str], roles: Plan, lines: NDArray[np.int64], root: Path, defects: Defects
) -> None:
    lost = [place for place in missing(images) if images[place]]
    shown = [
        (int(lines[place]), f"{quote(images[place])} is not there{meant(images[place])}")
        for place in lost[:SHOWN]
    ]
    defects.add_many("missing files", shown, len(lost), column=roles.parts.get("image", "image"))
    if lost and (other := probable_root(images[lost[0]].removeprefix(f"{root}/"), root)):
        defects.add("settings", f"image paths seem to start elsewhere; try --root {other}")


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
