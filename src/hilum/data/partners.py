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
from hilum.images.chance import uniforms
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
                group = _groups([self._patients, *self._same, *chosen])
                number = np.bincount(group, weights=self._known).astype(np.int64)
                counts = counts + np.where(self._known, (-1) ** size * number[group], 0)
        return counts


def laterality_of(views: pd.Series) -> pd.Series:
    """Frontal or lateral, of the words that data sets use for projections; empty where it is neither.

    A decubitus film (LLD, RLD) is frontal: the patient lies on a side, the beam goes from front to back.

    >>> laterality_of(pd.Series(["AP", "LATERAL", "pa", "LL", "AP RLD", "LPO", ""])).tolist()
    ['frontal', 'lateral', 'frontal', 'lateral', 'frontal', '', '']
    """
    words = views.str.strip().str.lower().str.replace(r"[\s_-]+", " ", regex=True)
    return words.map(_LATERALITY).fillna("")


_LATERALITY = {
    **dict.fromkeys(("ap", "pa", "ap pa", "frontal", "front", "ap supine", "ap horizontal"), "frontal"),
    **dict.fromkeys(
        ("antero posterior", "anteroposterior", "postero anterior", "posteroanterior"), "frontal"
    ),
    **dict.fromkeys(("lld", "rld", "ap lld", "ap rld", "pa lld", "pa rld", "ap axial"), "frontal"),
    **dict.fromkeys(("lateral", "lat", "l", "ll", "rl", "left lateral", "right lateral"), "lateral"),
    **dict.fromkeys(("xtable", "xtable lateral", "cross table lateral"), "lateral"),
}
"""MIMIC-CXR, CheXpert, NIH and PadChest, and DICOM's own codes; blanks, hyphens and underscores are one."""


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


def _groups(codes: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """A number for each different combination of codes, by pairs, so that no row of all is ever made."""
    group = codes[0]
    for code in codes[1:]:
        group = pd.factorize(group * (code.max() + 2) + code)[0].astype(np.int64)
    return group


def _labels(records: Records) -> NDArray[np.int64]:
    if not records.findings:
        raise RecordsError(
            "positives with the same findings need labels; the table has no column of findings"
        )
    labels = records.labels
    present = np.packbits(labels == 1, axis=1).astype(np.int64)
    return np.where(np.isnan(labels).any(1), -1, _groups(list(present.T)))
