"""Which other film of a patient makes a pair with a film: positives by metadata.

Vu et al. 2021 (MedAug), https://arxiv.org/abs/2102.10663; Sowrirajan et al. 2021 (MoCo-CXR),
https://arxiv.org/abs/2010.05352
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.errors import RecordsError
from hilum.images.warp import uniforms
from hilum.records.table import Records

Alike = Literal["any", "same", "different"]

_PLACE = 2**29  # of its random number: shares no bits with any view


class Partners:
    """For each radiograph, the others of its patient that fit.

    A radiograph of which a rule's cell is not known has no partner and is none.

    Args:
        records: the radiographs.
        study: whether a partner is of the same exam (column `study`), of another, or of any.
        laterality: whether both are frontal or both lateral (column `view`), one of each, or any.
        same_findings: whether a partner has the same labels.

    Raises:
        RecordsError: a column that a rule reads is missing.
    """

    def __init__(
        self,
        records: Records,
        *,
        study: Alike = "any",
        laterality: Alike = "any",
        same_findings: bool = False,
    ) -> None:
        rules: list[tuple[Alike, NDArray[np.int64]]] = []
        if study != "any":
            rules.append((study, _codes(_column(records, "study", "exams"))))
        if laterality != "any":
            rules.append((laterality, _codes(laterality_of(_column(records, "view", "projections")))))
        if same_findings:
            rules.append(("same", _labels(records)))
        self._patients = _codes(records.table["patient"])
        self._same = np.array([code for mode, code in rules if mode == "same"]).reshape(-1, len(records))
        self._different = np.array([code for mode, code in rules if mode == "different"]).reshape(
            -1, len(records)
        )
        self._known = np.asarray((self._same >= 0).all(0) & (self._different >= 0).all(0))
        self._order = np.argsort(self._patients, kind="stable")
        self._ends = np.cumsum(np.bincount(self._patients))
        self.missing = int((self._counts() == 0).sum())
        """How many radiographs have no partner."""

    def candidates(self, row: int) -> NDArray[np.int64]:
        """The rows that may make a pair with a row, itself excluded."""
        patient = self._patients[row]
        begin = self._ends[patient - 1] if patient else 0
        others = self._order[begin : self._ends[patient]]
        fit = (self._same[:, others] == self._same[:, row, None]).all(0)
        fit &= (self._different[:, others] != self._different[:, row, None]).all(0)
        fit &= self._known[others] & self._known[row] & (others != row)
        chosen: NDArray[np.int64] = others[fit]
        return chosen

    def of(self, rows: NDArray[np.int64], epochs: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
        """A partner for each row, drawn anew in each epoch; the row itself where it has none."""
        luck = uniforms(seed, epochs, rows, view=_PLACE, count=1)[:, 0]
        chosen = rows.copy()
        for place, row in enumerate(rows.tolist()):
            fit = self.candidates(row)
            if len(fit):
                chosen[place] = fit[int(luck[place] * len(fit))]
        return chosen

    def _counts(self) -> NDArray[np.int64]:
        """How many partners each row has: inclusion and exclusion over what must be different."""
        counts = np.where(self._known, -int(not len(self._different)), 0)  # no row is its own partner
        for size in range(len(self._different) + 1):
            for chosen in combinations(self._different, size):
                keys = np.array([self._patients, self._known, *self._same, *chosen])
                _, group, number = np.unique(keys, axis=1, return_inverse=True, return_counts=True)
                counts = counts + np.where(self._known, (-1) ** size * number[group.ravel()], 0)
        return counts


def laterality_of(views: pd.Series) -> pd.Series:
    """Frontal or lateral, of the words that data sets use for projections; empty where it is neither.

    >>> laterality_of(pd.Series(["AP", "LATERAL", "pa", "LL", ""])).tolist()
    ['frontal', 'lateral', 'frontal', 'lateral', '']
    """
    words = dict.fromkeys(("ap", "pa", "frontal", "front", "antero-posterior", "ap supine"), "frontal")
    words |= dict.fromkeys(("lateral", "ll", "lat", "l", "lld", "rl", "left lateral", "xtable"), "lateral")
    return views.str.strip().str.lower().map(words).fillna("")


def _column(records: Records, name: str, what: str) -> pd.Series:
    if name not in records.table:
        raise RecordsError(
            f"positives by {what} need the column {name!r}, which the table lacks; if it is there under "
            f"another name, say --columns {name}=NAME"
        )
    return records.table[name]


def _codes(cells: pd.Series | Sequence[str]) -> NDArray[np.int64]:
    cells = pd.Series(cells)
    return pd.factorize(cells.where(cells != "", None))[0].astype(np.int64)


def _labels(records: Records) -> NDArray[np.int64]:
    if not records.findings:
        raise RecordsError(
            "positives with the same findings need labels; the table has no column of findings"
        )
    labels = records.labels
    codes = np.unique(np.nan_to_num(labels, nan=2), axis=0, return_inverse=True)[1].ravel()
    return np.where(np.isnan(labels).any(1), -1, codes)
