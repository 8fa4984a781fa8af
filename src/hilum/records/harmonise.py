"""The labels of one table in the ontology's words: findings renamed, parents filled, contradictions found.

A label has one of four states, as in the file: 1 positive, 0 negative, -1 uncertain, empty not mentioned. To
keep the uncertain ones apart, read the table with `uncertain="soft"`; `Records.write` writes -1 from them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Int8

from hilum.errors import ConfigError, RecordsError
from hilum.find import did_you_mean
from hilum.records.defects import listed
from hilum.records.ontology import NOTHING, ancestors, canonical, contradicts_nothing
from hilum.records.table import Records

_EXAMPLES = 5
"""Films of a contradiction that are named; the rest are counted."""


class State(IntEnum):
    """What a label says of a film."""

    POSITIVE = 1
    NEGATIVE = 0
    UNCERTAIN = -1
    NOT_MENTIONED = -2


@dataclass(frozen=True)
class Contradiction:
    """Two labels that cannot both be true, on the same films."""

    finding: str
    """Positive."""
    against: str
    """A wider finding that is negative, or one that says that there is none, and is positive."""
    films: int
    examples: tuple[str, ...]
    """The first images."""

    @property
    def text(self) -> str:
        """Both in one line."""
        state = "positive" if self.against in NOTHING else "negative"
        return f"{self.finding} is positive and {self.against} {state} on {self.films:,} films"


def states(records: Records) -> Int8[np.ndarray, "N F"]:
    """The state of every label."""
    labels = records.labels
    found = np.where(np.isnan(labels), State.NOT_MENTIONED, np.nan_to_num(labels)).astype(np.int8)
    if records.soft is not None:
        found[np.isnan(labels) & ~np.isnan(records.soft)] = State.UNCERTAIN
    return found


def renamed(records: Records, chosen: Mapping[str, str] | None = None) -> tuple[Records, dict[str, str]]:
    """The records with canonical names of findings, in the columns and in the boxes, and which they replace.

    Args:
        records: the table; a finding that the ontology does not have keeps its name.
        chosen: names that the user gives to findings, before the ontology does; others are passed over.

    Raises:
        RecordsError: two findings would get one name.
    """
    given = chosen or {}
    names = {name: _name(name, given) for name in records.findings}
    for new in dict.fromkeys(names.values()):
        same = [name for name in names if names[name] == new]
        if len(same) > 1 or (new not in names and new in records.table):
            both = same if len(same) > 1 else [*same, new]
            raise RecordsError(
                f"findings: columns {listed(both)} would both be {new!r}; leave one out of the table, "
                f"or give one another name with --match"
            )
    table = records.table.rename(columns=names)
    if "boxes" in table:
        cells = {cell: _renamed_boxes(cell, given) for cell in set(table["boxes"])}
        table["boxes"] = table["boxes"].map(cells).astype("str")
    changed = {old: new for old, new in names.items() if old != new}
    return replace(records, table=table, findings=tuple(names.values())), changed


def fill_parents(records: Records, *, complete: Sequence[str] = ()) -> tuple[Records, dict[str, int]]:
    """The records with wider findings filled in where they are unknown, and how many labels of each.

    A positive finding makes all wider ones positive that are columns of the table and uncertain or not
    mentioned there. Negative findings make nothing negative, since a film without edema may have another
    opacity; only where the readers were asked for everything that makes up a wider finding may it be negative
    where all of that is: all the narrower findings of which the table says anything.

    Args:
        records: the table, with canonical names.
        complete: wider findings, of which that is so.

    Raises:
        ConfigError: one of these is not in the table, or nothing below it is.
    """
    found, names = states(records), list(records.findings)
    filled = np.zeros(found.shape, bool)
    for wide in names:
        below = [place for place, name in enumerate(names) if wide in ancestors(name)]
        unknown = found[:, names.index(wide)] < 0
        filled[:, names.index(wide)] = unknown & (found[:, below] == State.POSITIVE).any(axis=1)
    labels = np.where(filled, np.float32(1), records.labels)
    for wide in sorted(complete, key=lambda name: -len(ancestors(name))):  # the widest last
        below = _below(wide, names, asked=(found != State.NOT_MENTIONED).any(axis=0))
        column = names.index(wide)
        none = (found[:, below] == State.NEGATIVE).all(axis=1)
        none &= found[:, column] == State.NOT_MENTIONED
        labels[none, column] = found[none, column] = 0
        filled[none, column] = True
    soft = None if records.soft is None else np.where(filled, np.float32(np.nan), records.soft)
    table = records.table.assign(**dict(zip(names, labels.T, strict=True)))
    counts = {name: int(count) for name, count in zip(names, filled.sum(axis=0), strict=True) if count}
    return replace(records, table=table, soft=soft), counts


def contradictions(records: Records) -> tuple[Contradiction, ...]:
    """Pairs of labels that cannot both be true: a case of a wider finding that is negative, or of none."""
    found, names, images = states(records), list(records.findings), records.table["image"]
    pairs = []
    for name, there in zip(names, found.T, strict=True):
        for other, beside in zip(names, found.T, strict=True):
            both = np.zeros(len(records), bool)
            if other in ancestors(name):
                both = (there == State.POSITIVE) & (beside == State.NEGATIVE)
            elif other in NOTHING and contradicts_nothing(name):
                both = (there == State.POSITIVE) & (beside == State.POSITIVE)
            if both.any():
                first = images[both].head(_EXAMPLES)
                pairs.append(Contradiction(name, other, int(both.sum()), tuple(first)))
    return tuple(pairs)


def _below(wide: str, names: list[str], *, asked: Bool[np.ndarray, " F"]) -> list[int]:
    """The places of the findings that make up a wider one, as far as anything is said of them."""
    if wide not in names:
        near = did_you_mean(wide, names) or f"; there are {listed(names)}"
        raise ConfigError(f"--complete {wide}: there is no finding {wide!r}{near}")
    below = [place for place, name in enumerate(names) if wide in ancestors(name) and asked[place]]
    if not below:
        raise ConfigError(f"--complete {wide}: no finding of the table is a case of {wide!r}")
    return below


def _name(name: str, chosen: Mapping[str, str]) -> str:
    given = chosen.get(name, name)
    return canonical(given) or given


def _renamed_boxes(cell: str, chosen: Mapping[str, str]) -> str:
    if not cell.strip():
        return cell
    boxes = json.loads(cell)
    again = [[_name(finding, chosen), *sides] for finding, *sides in boxes]
    return cell if again == boxes else json.dumps(again)
