"""Thresholds from the validation split, and what is decided with them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Float

from hilum.errors import ConfigError
from hilum.find import did_you_mean
from hilum.metrics.bootstrap import DECISIONS, RANKING, Estimate, bootstrap_all
from hilum.metrics.prevalence import at_prevalence
from hilum.metrics.thresholds import Criterion
from hilum.report.join import Joined, Scored
from hilum.report.report import Threshold


def choose(joined: Joined, criterion: Criterion) -> tuple[Threshold, ...]:
    """A threshold for each finding, chosen on the validation split and on nothing else."""
    words = f"{criterion.words} on the validation split"
    return tuple(
        _choose(joined, column, finding, criterion, words)
        for column, finding in enumerate(joined.test.findings)
    )


def _choose(joined: Joined, column: int, finding: str, criterion: Criterion, words: str) -> Threshold:
    if joined.validation is None:
        return Threshold(finding, None, words, f"{no_validation(joined)} to choose a threshold on")
    known = joined.validation.labelled(column)
    truth, score = joined.validation.truth[known, column], joined.validation.score[known, column]
    if len(set(truth)) < 2:
        why = f"the validation split has {int(truth.sum())} positives of {len(truth)} known labels"
        return Threshold(finding, None, words, why)
    found = criterion.threshold(truth, score)
    if np.isnan(found):
        why = f"no threshold reaches {criterion.name} {criterion.target:g} on the validation split"
        return Threshold(finding, None, words, why)
    return Threshold(finding, float(found), words)


def no_validation(joined: Joined) -> str:
    """Why there is nothing to choose or to fit on."""
    if joined.evaluated == "unsplit":
        return "the records name no test split, so there is no split apart from what is scored"
    return "no validation split with predictions"


def given(thresholds: Sequence[Threshold], joined: Joined) -> tuple[Threshold, ...]:
    """Thresholds chosen elsewhere, in the order of the findings."""
    known = {threshold.finding: threshold for threshold in thresholds}
    return tuple(known[finding] for finding in joined.test.findings)


def decide(test: Scored, thresholds: Sequence[Threshold], *, exclusive: bool) -> Float[np.ndarray, "N F"]:
    """1 where a finding is called present, 0 where absent, NaN where it has no threshold."""
    if exclusive:
        chosen: Float[np.ndarray, "N F"] = np.eye(len(test.findings))[test.score.argmax(axis=1)]
        return chosen
    cut = _cuts(thresholds)
    return np.where(np.isnan(cut), np.nan, (test.score >= cut).astype(float))


def estimates(test: Scored, thresholds: Sequence[Threshold], *, replicates: int, seed: int) -> list[Estimate]:
    """Metrics of the ranking with all averages, and of the decisions at the thresholds."""
    found = bootstrap_all(
        (*RANKING, *DECISIONS),
        test.truth,
        test.score,
        patients=test.patients,
        findings=test.findings,
        replicates=replicates,
        seed=seed,
        thresholds=_cuts(thresholds),
        averages=True,
    )
    return [_explained(estimate, thresholds) for estimate in found]


def choices(test: Scored, decided: Float[np.ndarray, "N F"], *, replicates: int, seed: int) -> list[Estimate]:
    """Of exclusive findings: the ranking, the accuracy of the choice, then each against the others."""
    scores = partial(bootstrap_all, patients=test.patients, replicates=replicates, seed=seed)
    ranking = scores(RANKING, test.truth, test.score, findings=test.findings, averages=True)
    half = np.full(len(test.findings), 0.5)
    right = (decided * test.truth).sum(axis=1, keepdims=True)
    accuracy = scores(("accuracy",), np.ones_like(right), right, findings=("all",), thresholds=half[:1])
    each = [metric for metric in DECISIONS if metric != "accuracy"]
    others = scores(each, test.truth, decided, findings=test.findings, thresholds=half)
    return [*ranking, *accuracy, *others]


def elsewhere(
    test: Scored,
    decided: Float[np.ndarray, "N F"],
    thresholds: Sequence[Threshold],
    prevalence: Mapping[str, float],
    *,
    replicates: int,
    seed: int,
) -> list[Estimate]:
    """Predictive values of the decisions at another prevalence.

    Raises:
        ConfigError: `prevalence` names what is no finding.
    """
    for finding in prevalence:
        if finding not in test.findings:
            raise ConfigError(
                f"--prevalence {finding}={prevalence[finding]:g}: no finding that is scored has this name"
                + (did_you_mean(finding, test.findings) or f"; there are {', '.join(test.findings)}")
            )
    if not prevalence:
        return []
    # A decision is 1 or 0; without a threshold it is NaN, which is no score, and so is its cut.
    found = at_prevalence(
        test.truth,
        np.nan_to_num(decided),
        patients=test.patients,
        findings=test.findings,
        thresholds=np.where(np.isnan(decided).any(axis=0), np.nan, 0.5),
        prevalence=prevalence,
        replicates=replicates,
        seed=seed,
    )
    return [_explained(estimate, thresholds) for estimate in found]


def _cuts(thresholds: Sequence[Threshold]) -> Float[np.ndarray, " F"]:
    return np.array([np.nan if t.value is None else t.value for t in thresholds], dtype=float)


def _explained(estimate: Estimate, thresholds: Sequence[Threshold]) -> Estimate:
    """The estimate with the reason for which there is no threshold, where that is why it is undefined."""
    without = [t for t in thresholds if t.value is None]
    if estimate.metric in RANKING or not without:
        return estimate
    if estimate.finding == "macro":
        if len(without) == len(thresholds):
            return replace(estimate, note=without[0].note)
        return estimate
    note = next((t.note for t in without if t.finding == estimate.finding), "")
    return replace(estimate, note=note) if note else estimate
