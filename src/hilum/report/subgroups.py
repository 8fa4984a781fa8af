"""How well the findings are told in women and men, young and old, view by view: who pays for the mistakes.

A missed positive is underdiagnosis; where the finding is the absence of all others ("No Finding"), it is the
false positive that is (Seyyed-Kalantari and others, Nature Medicine 27, 2176, 2021,
https://doi.org/10.1038/s41591-021-01595-0).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from hilum.metrics.groups import Gap, GroupDifference, GroupScore, Subgroups, Verdict
from hilum.metrics.subgroups import METRICS, NO_THRESHOLD, each_finding, score_groups
from hilum.records.groups import in_order
from hilum.report.join import Scored
from hilum.report.replicates import holm
from hilum.report.report import LEVEL, Report
from hilum.report.subgroup_figure import by_group
from hilum.report.words import interval, probability, signed

ALPHA = 1 - LEVEL

NAMES = {"auroc": "AUROC", "sensitivity": "sensitivity", "specificity": "specificity"}

GAPS = {
    "auroc": "AUROC gap",
    "sensitivity": "true-positive-rate gap",
    "specificity": "false-positive-rate gap",
}

GAPS = {
    "auroc": "AUROC gap",
    "sensitivity": "true-positive-rate gap",
    "specificity": "false-positive-rate gap",
}


def subgroups(
    scored: Scored,
    decided: Float[np.ndarray, "N F"],
    groups: pd.DataFrame,
    *,
    replicates: int,
    seed: int,
) -> tuple[Subgroups, ...]:
    """Every finding in the groups of every column, and how they differ.

    `groups` says by image which group each radiograph is in (`hilum.records.groups`); `decided` is 1 where a
    finding is called present, 0 where absent, NaN where it has no threshold. The p values of a column's
    differences in one metric are corrected together, over its groups and findings; so are those of its gaps.
    """
    return tuple(
        _column(
            column,
            groups.loc[list(scored.images), column].to_numpy(object),
            scored,
            decided,
            replicates,
            seed,
        )
        for column in map(str, groups.columns)
    )


def _column(
    column: str,
    group: np.ndarray,
    scored: Scored,
    decided: Float[np.ndarray, "N F"],
    replicates: int,
    seed: int,
) -> Subgroups:
    names = in_order(column, group.tolist())
    sizes = tuple(
        (name, int((group == name).sum()), len(set(scored.patients[group == name]))) for name in names
    )
    unknown = int((group == "").sum())
    if len(names) < 2:
        only = f"all that is known is {names[0]!r}" if names else "it is known of no radiograph"
        return Subgroups(column, sizes, unknown, (), (), (), f"{column}: {only}; there is nothing to compare")
    scores: list[GroupScore] = []
    differences: list[GroupDifference] = []
    gaps: list[Gap] = []
    for metric in METRICS:
        compared: list[GroupDifference] = []
        widest: list[Gap] = []
        for cells in each_finding(
            metric,
            scored.truth,
            scored.score if metric == "auroc" else decided,
            patients=scored.patients,
            group=group,
            findings=scored.findings,
        ):
            found, against, gap = score_groups(cells, names, replicates=replicates, seed=seed)
            scores += found
            compared += against
            widest += gap
        differences += _judged(compared)
        gaps += _judged_gaps(widest)
    return Subgroups(column, sizes, unknown, tuple(scores), tuple(differences), tuple(gaps))


def _judged(family: Sequence[GroupDifference]) -> Iterator[GroupDifference]:
    """With Holm's p values and the words that they allow."""
    for one, p in zip(family, holm([one.p for one in family]), strict=True):
        verdict: Verdict = "higher" if one.value > 0 else "lower"
        yield replace(one, p_holm=p, verdict=verdict if p < ALPHA else "no evidence of a difference")


def _judged_gaps(family: Sequence[Gap]) -> Iterator[Gap]:
    for one, p in zip(family, holm([one.p for one in family]), strict=True):
        yield replace(one, p_holm=p, verdict="differ" if p < ALPHA else "no evidence of a difference")


def section(report: Report) -> dict[str, list[dict[str, object]]]:
    """What the page shows: every column with its gaps, then every finding group by group."""
    scored = [one for one in report.subgroups if one.scores]
    findings = list(dict.fromkeys(score.finding for one in scored for score in one.scores))
    return {
        "columns": [_shown(one, findings) for one in report.subgroups],
        "findings": [
            {
                "name": finding,
                "figure": by_group(
                    f"fig-groups-{place}",
                    scored,
                    finding,
                    overall={m: e.value for m in METRICS if (e := report.estimate(m, finding))},
                ),
                "differences": [
                    _row(one, d) for one in scored for d in one.differences if d.finding == finding
                ],
            }
            for place, finding in enumerate(findings)
        ],
    }


def _shown(one: Subgroups, findings: Sequence[str]) -> dict[str, object]:
    return {
        "name": one.column,
        "note": one.note,
        "unknown": one.unknown,
        "sizes": [(name, f"{films:,}", f"{patients:,}") for name, films, patients in one.groups],
        "evidence": _evidence(one),
        "gaps": [_gap_row(one, finding) for finding in findings],
    }


def _evidence(one: Subgroups) -> list[str]:
    """The differences that there is evidence of, in words; the gap between two groups is their difference."""
    return [
        f"{NAMES[d.metric]} of {d.finding} is {d.verdict} in {d.group} than in {d.against} "
        f"({signed(d.value)}, {signed(d.low)} to {signed(d.high)})"
        for d in one.differences
        if d.verdict in ("higher", "lower")
    ] + [
        f"{GAPS[gap.metric]} of {gap.finding} is {interval(gap.value, gap.low, gap.high)}"
        for gap in one.gaps
        if gap.verdict == "differ" and len(one.groups) > 2
    ]


def _gap_row(one: Subgroups, finding: str) -> tuple[str, ...]:
    gaps = {gap.metric: gap for gap in one.gaps if gap.finding == finding}
    return (finding, *(_gap_words(gaps.get(m)) or _why_no_gap(one, finding, m) for m in METRICS))


def _gap_words(gap: Gap | None) -> str:
    if gap is None:
        return ""
    ends = f"{gap.highest} over {gap.lowest}"
    if gap.metric == "specificity":
        ends = f"{gap.lowest} over {gap.highest}"  # the fewer true negatives, the more false positives
    value = interval(gap.value, gap.low, gap.high)
    return f"{value}, {ends}, p {probability(gap.p_holm)}: {_words(gap.verdict)}"


def _why_no_gap(one: Subgroups, finding: str, metric: str) -> str:
    scores = [score for score in one.scores if (score.finding, score.metric) == (finding, metric)]
    if scores and all(score.note == NO_THRESHOLD for score in scores):
        return "no threshold was chosen"
    enough = [score.group for score in scores if score.value is not None]
    return f"too few patients in {f'all groups but {enough[0]}' if enough else 'every group'}"


def _row(one: Subgroups, found: GroupDifference) -> tuple[str, ...]:
    return (
        f"{one.column}: {found.group} against {found.against}",
        NAMES[found.metric],
        f"{signed(found.value)} ({signed(found.low)} to {signed(found.high)})",
        probability(found.p),
        probability(found.p_holm),
        _words(found.verdict),
    )


def _words(verdict: Verdict) -> str:
    return {"differ": "the groups differ"}.get(verdict, verdict)
