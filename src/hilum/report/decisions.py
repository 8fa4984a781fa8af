"""What was decided about each radiograph: counts of right and wrong, and the worst mistakes."""

import numpy as np
from jaxtyping import Float

from hilum.errors import RecordsError
from hilum.report.join import Scored
from hilum.report.report import Confusion, WrongFilm
from hilum.report.words import counted

WORST = 3
"""Radiographs shown per finding and kind of mistake."""


def one_finding_each(scored: Scored, notes: list[str]) -> Scored:
    """The radiographs whose one finding is known; a note says how many are left out.

    Raises:
        RecordsError: there is one finding only, or a fully labelled radiograph has none or several.
    """
    if len(scored.findings) < 2:
        raise RecordsError(
            f"records: the only finding is {scored.findings[0]!r}; a choice among exclusive findings needs "
            "two or more. Leave `exclusive` off"
        )
    known = ~np.isnan(scored.truth).any(axis=1)
    wrong = np.flatnonzero(known & (np.nansum(scored.truth, axis=1) != 1))
    if len(wrong):
        first = wrong[0]
        present = [f for f, label in zip(scored.findings, scored.truth[first], strict=True) if label == 1]
        raise RecordsError(
            f"records: {len(wrong)} radiographs do not have exactly one finding (first: "
            f"{scored.images[first]!r} has {', '.join(present) or 'none'}); leave `exclusive` off"
        )
    if not known.any():
        raise RecordsError(
            "records: no radiograph of the test split has all its labels; nothing can be scored"
        )
    if not known.all():
        notes.append(f"Not scored: {counted(int((~known).sum()), 'radiographs')} with an unknown label.")
    return scored.rows(known)


def confusion(scored: Scored, decided: Float[np.ndarray, "N F"], *, exclusive: bool) -> tuple[Confusion, ...]:
    """One table over all findings if they exclude each other, else two by two for each with a threshold."""
    if exclusive:
        return (Confusion("all", scored.findings, _whole(scored.truth.T @ decided)),)
    tables = []
    for column, finding in enumerate(scored.findings):
        known = scored.labelled(column) & ~np.isnan(decided[:, column])
        if known.any():
            truth, choice = scored.truth[known, column], decided[known, column]
            both = [np.stack([1 - a, a]) for a in (truth, choice)]
            tables.append(Confusion(finding, ("absent", "present"), _whole(both[0] @ both[1].T)))
    return tuple(tables)


def _whole(table: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(round(count) for count in row) for row in table)


def worst(scored: Scored, decided: Float[np.ndarray, "N F"], *, exclusive: bool) -> tuple[WrongFilm, ...]:
    """For every finding, the wrong decisions that were surest.

    Those are the negatives called present with the highest probabilities and the positives called absent with
    the lowest; where findings exclude each other, its radiographs whose wrong choice was most probable.
    """
    films: list[WrongFilm] = []
    for column, finding in enumerate(scored.findings):
        if exclusive:
            films += _wrong_choices(scored, decided, column)
            continue
        truth, choice, score = scored.truth[:, column], decided[:, column], scored.score[:, column]
        for label, order in ((0, -score), (1, score)):
            wrong = np.flatnonzero((truth == label) & (choice == 1 - label))
            for row in wrong[np.argsort(order[wrong], kind="stable")][:WORST]:
                words = ("present", "absent") if label == 0 else ("absent", "present")
                films.append(_film(scored, row, finding, words[1], words[0], score[row]))
    return tuple(films)


def _wrong_choices(scored: Scored, decided: np.ndarray, column: int) -> list[WrongFilm]:
    choice = decided.argmax(axis=1)
    sure = scored.score.max(axis=1)
    wrong = np.flatnonzero((scored.truth[:, column] == 1) & (choice != column))
    return [
        _film(
            scored,
            row,
            scored.findings[column],
            scored.findings[column],
            scored.findings[choice[row]],
            sure[row],
        )
        for row in wrong[np.argsort(-sure[wrong], kind="stable")][:WORST]
    ]


def _film(scored: Scored, row: int, finding: str, truth: str, decision: str, probability: float) -> WrongFilm:
    return WrongFilm(
        image=scored.images[row],
        patient=str(scored.patients[row]),
        finding=finding,
        truth=truth,
        decision=decision,
        probability=round(float(probability), 5),
    )
