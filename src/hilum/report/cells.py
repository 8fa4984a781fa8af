"""The runs of a comparison, grouped and on the same radiographs; what does not fit is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from hilum.errors import ConfigError, RecordsError
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.report.budget import Budget
from hilum.report.join import Scored, join
from hilum.report.replicates import Group
from hilum.report.words import counted

FEW = 3
"""Patients that a message names."""


@dataclass(frozen=True)
class Cell:
    """One finished run of a sweep: where it began, what share of the labels it saw, and what it predicted.

    `report` is the content of its report.json; the radiographs it excludes need no prediction. `shots` other
    than 0 says how many films of each finding it saw, in place of a share. `settings` is its config.yaml;
    `parameters` is how many numbers its encoder has, where it says so.
    """

    init: str
    fraction: float
    seed: int
    run: str
    predictions: Predictions
    report: Mapping[str, object]
    shots: int = 0
    settings: Mapping[str, object] = field(default_factory=dict)
    parameters: int | None = None

    @property
    def group(self) -> Group:
        """What it shares with the runs that differ from it in the seed alone."""
        return self.init, Budget(self.fraction, self.shots)


Groups: TypeAlias = dict[Group, list[Cell]]


def grouped(cells: Sequence[Cell], baseline: str) -> Groups:
    """The cells of every run and budget, by seed.

    Raises:
        ConfigError: no cell began from the baseline, or two cells are the same.
    """
    inits = list(dict.fromkeys(cell.init for cell in cells))
    if baseline not in inits:
        raise ConfigError(
            f"baseline: no run began from {baseline!r}; there is {', '.join(sorted(inits)) or 'no run'}"
        )
    groups: Groups = {}
    for cell in sorted(cells, key=lambda c: c.seed):
        members = groups.setdefault(cell.group, [])
        if members and members[-1].seed == cell.seed:
            raise ConfigError(
                f"runs {members[-1].run} and {cell.run} are both {cell.init} with {cell.group[1].words} of "
                f"labels and seed {cell.seed}; keep one"
            )
        members.append(cell)
    return {key: groups[key] for key in sorted(groups, key=lambda k: (inits.index(k[0]), k[1].order))}


def aligned(cells: Sequence[Cell], records: Records) -> tuple[list[Scored], tuple[str, ...]]:
    """Every run on the radiographs that all of them scored, in one order, and what a reader must be told.

    Records without a split get that of the runs.

    Raises:
        RecordsError: predictions and records do not fit, runs predict different findings, were scored on no
            common radiograph, or one was trained on patients that another is tested on.
    """
    _refuse_other_splits(cells, records)
    records = _split_as_predicted(cells, records)
    notes = dict.fromkeys(_changed_records(cells))
    scored = []
    for cell in cells:
        excluded = cell.report.get("excluded")
        try:
            joined = join(
                cell.predictions, records, excluded=excluded if isinstance(excluded, Mapping) else {}
            )
        except RecordsError as error:
            raise RecordsError(f"{cell.run}: {error}") from None
        notes.update(dict.fromkeys(joined.notes))
        scored.append(joined.test)
        if scored[0].findings != scored[-1].findings:
            raise RecordsError(
                f"{cell.run} predicts {', '.join(scored[-1].findings)}, {cells[0].run} predicts "
                f"{', '.join(scored[0].findings)}; runs are compared on equal findings"
            )
    common = set(scored[0].images).intersection(*(s.images for s in scored))
    lost = len(set().union(*(s.images for s in scored))) - len(common)
    if lost:
        notes[f"Left out of all: {counted(lost, 'radiographs')} that not every run scored."] = None
    if not common:
        raise RecordsError("no radiograph was scored by every run; compare runs on one test split")
    return [s.rows(np.array([image in common for image in s.images])) for s in scored], tuple(notes)


def _refuse_other_splits(cells: Sequence[Cell], records: Records) -> None:
    """A patient on whom one run is tested must be a test patient of all others, or unread by them."""
    owner = dict(zip(records.table["image"], records.table["patient"], strict=True))
    first, tested = None, frozenset[str]()
    for cell in cells:
        table = cell.predictions.table
        ours = frozenset(table["patient"][table["split"] == "test"])
        excluded = cell.report.get("excluded") or {}
        assert isinstance(excluded, Mapping)
        unread = {owner[image] for image in excluded if image in owner}
        if first is None:
            first, tested, first_unread = cell, ours, unread
            continue
        for one, other, only in (
            (first, cell, tested - ours - unread),
            (cell, first, ours - tested - first_unread),
        ):
            if only:
                named = ", ".join(map(repr, sorted(only)[:FEW])) + (" …" if len(only) > FEW else "")
                raise RecordsError(
                    f"{one.run} is tested on {len(only):,} patients ({named}) that are no test patients of "
                    f"{other.run}, which may have been trained on them; compare runs of one split "
                    "(`hilum records split` writes one into the table)"
                )


def _split_as_predicted(cells: Sequence[Cell], records: Records) -> Records:
    """Transfer splits a table that has no split by itself; its predictions say how."""
    if set(records.table["split"]) != {""}:
        return records
    table = cells[0].predictions.table
    if set(table["split"]) == {""}:
        return records
    known = dict(zip(table["image"], table["split"], strict=True))
    split = [known.get(image, "train") for image in records.table["image"]]
    return replace(records, table=records.table.assign(split=split))


def _changed_records(cells: Sequence[Cell]) -> list[str]:
    said = [cell.report.get("provenance") for cell in cells]
    hashes = {facts.get("records_sha256") for facts in said if isinstance(facts, Mapping)} - {None}
    if len(hashes) < 2:
        return []
    return [
        "The table of records was changed between the runs (its hash differs): they were trained on "
        "different tables, and are all scored on the labels that it has now."
    ]
