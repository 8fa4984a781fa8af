"""The doctor: what is wrong with the pixels of a table, within films, between them, and across splits."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hilum.errors import ImageError
from hilum.records.cells import SPLITS
from hilum.records.looks import THUMB, Look, look
from hilum.records.table import Records
from hilum.records.twins import find_twins

Severity = Literal["error", "warning"]
_AT_ONCE = 16
"""Films per worker that are in memory at a time."""
_DECLARED = (
    "writing",
    "its header says that writing in the picture names the patient (BurnedInAnnotation is YES)",
    "look at it; blacken that in a copy of the file, or leave the row out",
)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and what to do about it."""

    severity: Severity
    kind: str
    """missing, corrupt, constant, inverted, scale, shape, small, writing, boxes, duplicate, near duplicate,
    overlap, near overlap, patient or classes."""
    row: int
    """Row of the table, from 0; -1 is the table as a whole."""
    image: str
    what: str
    cure: str


@dataclass(frozen=True)
class SplitCount:
    """How much there is of everything in one split (an empty name: in no split)."""

    split: str
    radiographs: int
    patients: int
    positives: dict[str, int]
    """Radiographs per finding."""
    negatives: dict[str, int]
    unknown: dict[str, int]


@dataclass(frozen=True)
class Diagnosis:
    """All that was found, and the counts."""

    problems: tuple[Problem, ...]
    counts: tuple[SplitCount, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that make results wrong."""
        return tuple(problem for problem in self.problems if problem.severity == "error")


def inspect(
    records: Records,
    read: Callable[[str], NDArray[np.uint8 | np.uint16]],
    *,
    burned_in: Callable[[str], bool] | None = None,
    lost: Mapping[int, str] | None = None,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Diagnosis:
    """Looks at every radiograph once; memory does not grow with their size, and little with their number.

    Args:
        records: the table.
        read: gives the grey levels of a file in the full range of their type, or raises ImageError.
        burned_in: whether a file says of itself that writing in its picture names its patient.
        lost: rows whose file is known not to be there, with what to do about it.
        workers: threads that read.
        progress: is told how many radiographs are done.
    """
    count = len(records)
    problems = list(_table_problems(records))
    digests: dict[bytes, list[int]] = {}
    lost = lost or {}
    hashes = np.zeros(count, np.uint64)
    usable = np.zeros(count, bool)
    with tempfile.TemporaryFile() as file:
        shape = (max(count, 1), THUMB, THUMB)
        thumbs = np.memmap(
            file, np.uint8, mode="w+", shape=shape
        )  # pages of a file: a million films need 1 GB
        for row, found in enumerate(_looks(list(records.table["image"]), read, burned_in, workers)):
            if row in lost:
                problems.append(_problem(records, row, "error", "missing", "is not there", lost[row]))
            elif isinstance(found, ImageError):
                cure = "replace the file, or leave the row out"
                problems.append(
                    _problem(records, row, "error", "corrupt", _reason(records, row, found), cure)
                )
            else:
                problems.extend(_own_problems(records, row, found))
                copies = digests.setdefault(found.sha256, [])
                copies.append(row)
                hashes[row], thumbs[row] = found.perceptual, found.thumb
                usable[row] = not found.constant and len(copies) == 1
            if progress is not None:
                progress(row + 1)
        problems.extend(_duplicates(records, [rows for rows in digests.values() if len(rows) > 1]))
        rows = np.flatnonzero(usable)
        problems.extend(_near_duplicates(records, rows, hashes[rows], thumbs))
    problems.sort(key=lambda one: (one.severity, one.row))
    return Diagnosis(tuple(problems), count_splits(records))


def count_splits(records: Records) -> tuple[SplitCount, ...]:
    """Radiographs, patients and labels per split, in the order train, val, test, none."""
    counts = []
    for split in (*SPLITS, ""):
        part = records.where(split)
        if not len(part):
            continue
        labels = part.labels
        by_state = [(labels == 1).sum(axis=0), (labels == 0).sum(axis=0), np.isnan(labels).sum(axis=0)]
        numbers = [dict(zip(records.findings, state.tolist(), strict=True)) for state in by_state]
        counts.append(SplitCount(split, len(part), len(set(part.patients)), *numbers))
    return tuple(counts)


def lines(diagnosis: Diagnosis, *, shown: int = 20) -> list[str]:
    """The diagnosis as text: counts, then problems by kind with at most `shown` each."""
    text = []
    for count in diagnosis.counts:
        text.append(
            f"{count.split or 'no split'}: {count.radiographs:,} radiographs, {count.patients:,} patients"
        )
        for finding, positive in count.positives.items():
            negative, unknown = count.negatives[finding], count.unknown[finding]
            text.append(f"  {finding}: {positive:,} positive, {negative:,} negative, {unknown:,} unknown")
    by_kind: dict[tuple[str, str], list[Problem]] = {}
    for problem in diagnosis.problems:
        by_kind.setdefault((problem.severity, problem.kind), []).append(problem)
    for (severity, kind), some in by_kind.items():
        text.append(f"{severity}: {kind}: {len(some):,}")
        text += [f"  {(one.image + ': ') * bool(one.image)}{one.what}; {one.cure}" for one in some[:shown]]
        if len(some) > shown:
            text.append(f"  and {len(some) - shown:,} more")
    if not diagnosis.problems:
        text.append("no problems found")
    return text


def _looks(
    images: list[str],
    read: Callable[[str], NDArray[np.uint8 | np.uint16]],
    burned_in: Callable[[str], bool] | None,
    workers: int,
) -> Iterator[Look | ImageError]:
    def one(image: str) -> Look | ImageError:
        try:
            found = look(read(image))
            if burned_in is None or not burned_in(image):
                return found
            return replace(found, problems=(*found.problems, _DECLARED))
        except ImageError as error:
            return error

    if workers <= 1:
        yield from map(one, images)
        return
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(images), workers * _AT_ONCE):
            yield from pool.map(one, images[start : start + workers * _AT_ONCE])


def _problem(records: Records, row: int, severity: Severity, kind: str, what: str, cure: str) -> Problem:
    return Problem(severity, kind, row, str(records.table["image"].iat[row]), what, cure)


def _reason(records: Records, row: int, error: ImageError) -> str:
    return str(error).removeprefix(
        f"{records.table['image'].iat[row]}: "
    )  # the problem names its image itself


def _own_problems(records: Records, row: int, found: Look) -> Iterator[Problem]:
    for kind, what, cure in found.problems:
        yield _problem(records, row, "warning", kind, what, cure)
    cell = str(records.table["boxes"].iat[row]) if "boxes" in records.table else ""
    for box in json.loads(cell) if cell.strip() else []:
        if box[3] > found.width or box[4] > found.height:
            what = f"{box} reaches beyond the {found.width} x {found.height} pixels"
            yield _problem(records, row, "error", "boxes", what, "give boxes in pixels of this file")


def _table_problems(records: Records) -> Iterator[Problem]:
    placed = records.table[records.table["split"] != ""]
    splits = placed.groupby("patient", sort=True)["split"].unique()
    for patient, some in splits[splits.map(len) > 1].items():
        what = f"patient {patient!r} is in {' and '.join(sorted(some))}"
        yield Problem("error", "patient", -1, "", what, "keep all films of a patient in one split")
    for count in count_splits(records):
        for finding in records.findings:
            for name, number in (("positive", count.positives), ("negative", count.negatives)):
                if not number[finding]:
                    what = f"{finding!r} has no {name} radiograph in {count.split or 'the table'}"
                    cure = "split anew, add radiographs, or leave the finding out"
                    yield Problem("warning", "classes", -1, "", what, cure)


def _duplicates(records: Records, groups: list[list[int]]) -> Iterator[Problem]:
    splits, images = records.table["split"].tolist(), records.table["image"].tolist()
    for rows in groups:
        for place, row in enumerate(rows[1:], 1):
            apart = [other for other in rows[:place] if _apart(splits[other], splits[row])]
            if apart:
                what = (
                    f"has the pixels of {images[apart[0]]}, and is in {splits[row]}, not {splits[apart[0]]}"
                )
                yield _problem(records, row, "error", "overlap", what, "keep one of the two, in one split")
            else:
                yield _problem(
                    records, row, "warning", "duplicate", f"has the pixels of {images[rows[0]]}", "keep one"
                )


def _near_duplicates(
    records: Records, rows: NDArray[np.int64], hashes: NDArray[np.uint64], thumbs: NDArray[np.uint8]
) -> Iterator[Problem]:
    splits, images = records.table["split"].tolist(), records.table["image"].tolist()
    for twins in find_twins(hashes, thumbs, rows):
        turned = [word for word, true in (("mirrored", twins.mirrored), ("inverted", twins.inverted)) if true]
        what = f"looks like a {' and '.join(turned)}{' ' * bool(turned)}copy of {images[twins.first]}"
        kind, cure = "near duplicate", "look at both; keep one"
        if _apart(splits[twins.first], splits[twins.second]):
            kind = "near overlap"
            what += f", and is in {splits[twins.second]}, not {splits[twins.first]}"
            cure += ", or put both patients in one split"
        yield _problem(records, twins.second, "warning", kind, what, cure)


def _apart(one: str, other: str) -> bool:
    return bool(one and other and one != other)
