"""Predictions joined to the labels they are scored against, by image; whatever does not fit is refused."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from hilum.errors import RecordsError
from hilum.records.cells import SPLITS
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.report.report import Count

SHOWN = 5
"""Offending rows named in a message."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scored:
    """Radiographs with labels (NaN: unknown) and probabilities, in the order of the records."""

    images: tuple[str, ...]
    patients: np.ndarray
    findings: tuple[str, ...]
    truth: Float[np.ndarray, "N F"]
    score: Float[np.ndarray, "N F"]

    def labelled(self, column: int) -> Bool[np.ndarray, " N"]:
        """Where the finding's label is known."""
        known: Bool[np.ndarray, " N"] = ~np.isnan(self.truth[:, column])
        return known

    def rows(self, keep: Bool[np.ndarray, " N"]) -> "Scored":
        """These radiographs only."""
        images = tuple(np.array(self.images, dtype=object)[keep])
        return Scored(images, self.patients[keep], self.findings, self.truth[keep], self.score[keep])

    def only(self, columns: Sequence[int]) -> "Scored":
        """These findings only."""
        names = tuple(self.findings[i] for i in columns)
        picked = list(columns)
        return Scored(self.images, self.patients, names, self.truth[:, picked], self.score[:, picked])


@dataclass(frozen=True)
class Joined:
    """What is scored, what thresholds may be chosen on, and what a reader must be told."""

    test: Scored
    validation: Scored | None
    evaluated: Literal["test", "unsplit"]
    notes: tuple[str, ...]


def with_split(predictions: Predictions, records: Records) -> tuple[Records, tuple[str, ...]]:
    """The records with the predictions' own split where they have none of their own, and what was done.

    Raises:
        RecordsError: both say in which split a radiograph is, and not the same.
    """
    predicted = dict(zip(predictions.table["image"], predictions.table["split"], strict=True))
    ours, images = records.table["split"], records.table["image"]
    theirs = pd.Series([predicted.get(image, "") for image in images], ours.index, dtype="str")
    apart = np.flatnonzero(((ours != "") & (theirs != "") & (ours != theirs)).to_numpy())
    if len(apart):
        image, here, there = (str(column.iat[apart[0]]) for column in (images, ours, theirs))
        raise RecordsError(
            f"predictions: {len(apart)} radiographs are in another split than in the records ({image!r} is "
            f"in {there} of the predictions and in {here} of the records); give the records that the "
            "model was trained and predicted with, or correct the column split of one of the two"
        )
    if (ours != "").any() or not (theirs != "").any():
        return records, ()
    counts = ", ".join(f"{int((theirs == s).sum()):,} {s}" for s in SPLITS if (theirs == s).any())
    rest = int((theirs == "").sum())
    said = f"The records have no split; that of the predictions was used ({counts}"
    said += f"; {rest:,} radiographs are in none)." if rest else ")."
    log.info("%s", said)
    return replace(records, table=records.table.assign(split=theirs)), (said,)


def join(predictions: Predictions, records: Records, *, excluded: Mapping[str, str]) -> Joined:
    """The test split (all rows when there is none) and the validation split, with their predictions.

    Raises:
        RecordsError: a scored row has no prediction, a predicted radiograph is not in the records, an image
            is predicted twice, a probability is missing, or no finding is in both.
    """
    notes: list[str] = []
    findings = _findings(predictions, records, notes)
    scores = _scores(predictions, records, findings)
    splits = records.table["split"].to_numpy(dtype=object)
    evaluated: Literal["test", "unsplit"] = "test" if (splits == "test").any() else "unsplit"
    wanted = splits == "test" if evaluated == "test" else np.ones(len(splits), dtype=bool)
    test = _scored(records, scores, wanted, findings=findings, excluded=excluded, complete=True)
    if evaluated == "unsplit":
        notes.append(
            "The records name no test split: every radiograph was scored, those the model may have been "
            "trained on too."
        )
        return Joined(test, None, evaluated, tuple(notes))
    held = splits == "val"
    validation = _scored(records, scores, held, findings=findings, excluded=excluded, complete=False)
    if validation.images and len(validation.images) < held.sum():
        notes.append(
            f"Thresholds were chosen on {len(validation.images):,} of the {held.sum():,} radiographs of the "
            "validation split; the others have no prediction."
        )
    return Joined(test, validation if validation.images else None, evaluated, tuple(notes))


def counts(records: Records, findings: tuple[str, ...]) -> tuple[Count, ...]:
    """Radiographs, patients and labels of every finding in every split, in the order train, val, test."""
    table = records.table
    known = ("train", "val", "test")
    names = sorted(set(table["split"]), key=lambda s: (known.index(s) if s in known else 3, s))
    rows = []
    for split in names:
        part = table[table["split"] == split]
        for finding in findings:
            label = part[finding].to_numpy(dtype=float)
            rows.append(
                Count(
                    split=split,
                    finding=finding,
                    images=len(part),
                    patients=int(part["patient"].nunique()),
                    positives=int((label == 1).sum()),
                    negatives=int((label == 0).sum()),
                    unknown=int(np.isnan(label).sum()),
                )
            )
    return tuple(rows)


def _findings(predictions: Predictions, records: Records, notes: list[str]) -> tuple[str, ...]:
    both = tuple(f for f in predictions.findings if f in records.findings)
    if not both:
        raise RecordsError(
            f"predictions: findings are {_few(predictions.findings)}, the records have "
            f"{_few(records.findings)}; none is in both. Pair them with --match"
        )
    for names, where, lack in (
        (predictions.findings, "predicted", "the records have no such column"),
        (records.findings, "labelled", "the model does not predict it"),
    ):
        alone = [f for f in names if f not in both]
        if alone:
            notes.append(f"Not scored, {where} only ({lack}): {', '.join(alone)}.")
    return both


def _scores(predictions: Predictions, records: Records, findings: tuple[str, ...]) -> pd.DataFrame:
    table = predictions.table
    twice = table["image"][table["image"].duplicated()].tolist()
    if twice:
        raise RecordsError(
            f"predictions: {len(twice)} radiographs are predicted more than once ({_few(twice)}); "
            "keep one row of each"
        )
    unknown = table["image"][~table["image"].isin(records.table["image"])].tolist()
    if unknown:
        raise RecordsError(
            f"predictions: {len(unknown)} radiographs are not in the records ({_few(unknown)}); "
            + _cure(unknown[0], records.table["image"].tolist())
        )
    scores = table.set_index("image")[list(findings)].astype(float)
    holes = scores.index[~np.isfinite(scores.to_numpy()).all(axis=1)].tolist()
    if holes:
        raise RecordsError(
            f"predictions: {len(holes)} radiographs have a probability that is empty or not finite "
            f"({_few(holes)}); predict them again"
        )
    return scores


def _scored(
    records: Records,
    scores: pd.DataFrame,
    wanted: np.ndarray,
    *,
    findings: tuple[str, ...],
    excluded: Mapping[str, str],
    complete: bool,
) -> Scored:
    part = records.table[wanted]
    twice = part["image"][part["image"].duplicated()].tolist()
    if twice:
        raise RecordsError(
            f"records: {len(twice)} radiographs are listed twice ({_few(twice)}); keep one row"
        )
    has = part["image"].isin(scores.index)
    missing = part["image"][~has & ~part["image"].isin(list(excluded))].tolist()
    if missing and complete:
        raise RecordsError(
            f"predictions: {len(missing)} of the {len(part)} radiographs to be scored have no prediction "
            f"({_few(missing)}); predict them, or name the reason in `excluded`"
        )
    part = part[has]
    if complete and not len(part):
        raise RecordsError("records: no radiograph is left to be scored; all of them are excluded")
    return Scored(
        images=tuple(part["image"]),
        patients=part["patient"].to_numpy(dtype=str),
        findings=findings,
        truth=part[list(findings)].to_numpy(dtype=float),
        score=scores.loc[part["image"]].to_numpy(dtype=float),
    )


def _cure(image: str, images: Sequence[str]) -> str:
    """What to do about a path that is not among the records: they may have been moved."""
    parts = PurePath(image).parts
    alike = [other for other in images if other.rpartition("/")[2] == parts[-1]]
    if not alike:
        return (
            f"no file of the records has the name {parts[-1]!r} (they are such as {images[0]!r}); "
            "give the records that the predictions were made from"
        )
    shared, nearest = max((_shared_end(parts, PurePath(other).parts), other) for other in alike)
    old, new = (PurePath(*PurePath(path).parts[:-shared]) for path in (image, nearest))
    return (
        f"the nearest of the records by its file name is {nearest!r}. If the folder was moved from "
        f"{str(old)!r} to {str(new)!r}, name its old place: --root with the folder that the records'"
        " relative paths started from then. It need not be there any more. Else give the records that the"
        " predictions were made from"
    )


def _shared_end(one: Sequence[str], other: Sequence[str]) -> int:
    """How many parts two paths have in common at their ends."""
    return sum(one[-size:] == other[-size:] for size in range(1, min(len(one), len(other)) + 1))


def _few(names: Iterable[str]) -> str:
    listed = [str(name) for name in names]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(map(repr, listed[:SHOWN])) + more
