"""Predictions and records in, a report out: no model, no pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from hilum.metrics.bootstrap import Estimate, bootstrap
from hilum.metrics.classification import youden_threshold
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.report.curves import curves
from hilum.report.decisions import confusion, one_finding_each, worst
from hilum.report.join import Joined, Scored, counts, join
from hilum.report.report import Curve, Floor, Report, Threshold, as_json

__all__ = ["Floor", "Report", "evaluate"]

YOUDEN = "largest sensitivity + specificity (Youden) on the validation split"


def evaluate(
    predictions: Predictions,
    records: Records,
    *,
    exclusive: bool = False,
    replicates: int = 2000,
    seed: int = 0,
    excluded: Mapping[str, str] | None = None,
    floors: Sequence[Floor] = (),
    notes: Sequence[str] = (),
    provenance: Mapping[str, object] | None = None,
) -> Report:
    """Scores the test split against the labels of the records.

    Thresholds are chosen on the validation split and on nothing else. With `exclusive` every radiograph has
    exactly one finding and the decision is the most probable one. `excluded` maps radiographs that could not
    be read to the reason: they need no prediction, and the report lists them.

    Raises:
        RecordsError: predictions and records do not fit: a row of the test split has no prediction, a
            predicted radiograph is not in the records, a probability is missing, or no finding is in both.
    """
    excluded = dict(excluded or {})
    joined = join(predictions, records, excluded=excluded)
    remarks = list(joined.notes)
    test = one_finding_each(joined.test, remarks) if exclusive else joined.test
    thresholds = () if exclusive else _thresholds(joined)
    decided = _decide(test, thresholds, exclusive=exclusive)
    estimates = _ranking(test, replicates, seed)
    estimates += (
        _choices(test, decided, replicates, seed) if exclusive else _at(test, thresholds, replicates, seed)
    )
    return Report(
        findings=test.findings,
        exclusive=exclusive,
        evaluated=joined.evaluated,
        images=len(test.images),
        patients=len(set(test.patients)),
        replicates=replicates,
        seed=seed,
        estimates=tuple(estimates),
        thresholds=thresholds,
        confusion=confusion(test, decided, exclusive=exclusive),
        curves=_curves(test, estimates, seed),
        worst=worst(test, decided, exclusive=exclusive),
        counts=counts(records, test.findings),
        excluded={image: why for image, why in excluded.items() if image not in set(test.images)},
        floors=tuple(floors),
        notes=(*remarks, *notes),
        provenance=as_json(provenance or {}),
    )


def _thresholds(joined: Joined) -> tuple[Threshold, ...]:
    validation = joined.validation
    chosen = []
    for column, finding in enumerate(joined.test.findings):
        if validation is None:
            unsplit = "the records name no test split, so validation rows are among those scored"
            none = "no validation split with predictions to choose a threshold on"
            why = unsplit if joined.evaluated == "unsplit" else none
            chosen.append(Threshold(finding, None, YOUDEN, why))
            continue
        known = validation.labelled(column)
        truth, score = validation.truth[known, column], validation.score[known, column]
        if len(set(truth)) < 2:
            why = f"the validation split has {int(truth.sum())} positives of {len(truth)} known labels"
            chosen.append(Threshold(finding, None, YOUDEN, why))
        else:
            chosen.append(Threshold(finding, float(youden_threshold(truth, score)), YOUDEN))
    return tuple(chosen)


def _decide(test: Scored, thresholds: tuple[Threshold, ...], *, exclusive: bool) -> Float[np.ndarray, "N F"]:
    """1 where a finding is called present, 0 where absent, NaN where it has no threshold."""
    if exclusive:
        chosen: Float[np.ndarray, "N F"] = np.eye(len(test.findings))[test.score.argmax(axis=1)]
        return chosen
    cut = np.array([np.nan if t.value is None else t.value for t in thresholds])
    return np.where(np.isnan(cut), np.nan, (test.score >= cut).astype(float))


def _ranking(test: Scored, replicates: int, seed: int) -> list[Estimate]:
    return [
        estimate
        for metric in ("auroc", "average_precision")
        for estimate in _bootstrap(metric, test, test.score, replicates=replicates, seed=seed)
    ]


def _choices(test: Scored, decided: Float[np.ndarray, "N F"], replicates: int, seed: int) -> list[Estimate]:
    """Accuracy of the choice among all findings, then each finding against the others."""
    half = np.full(len(test.findings), 0.5)
    right = (decided * test.truth).sum(axis=1, keepdims=True)
    whole = Scored(test.images, test.patients, ("all",), np.ones_like(right), right)
    accuracy = _bootstrap("accuracy", whole, right, replicates=replicates, seed=seed, thresholds=half[:1])
    return accuracy + [
        estimate
        for metric in ("sensitivity", "specificity")
        for estimate in _bootstrap(metric, test, decided, replicates=replicates, seed=seed, thresholds=half)
    ]


def _at(test: Scored, thresholds: tuple[Threshold, ...], replicates: int, seed: int) -> list[Estimate]:
    """Metrics of the decisions; a finding without a threshold is undefined and in no mean."""
    columns = [i for i, t in enumerate(thresholds) if t.value is not None]
    without = [t for t in thresholds if t.value is None]
    part = test.only(columns)
    cut = np.array([thresholds[i].value for i in columns], dtype=float)
    found: list[Estimate] = []
    for metric in ("accuracy", "sensitivity", "specificity"):
        some = (
            _bootstrap(metric, part, part.score, replicates=replicates, seed=seed, thresholds=cut)
            if columns
            else []
        )
        known = {estimate.finding: estimate for estimate in some}
        found += [known.get(t.finding) or _undefined(metric, test, t) for t in thresholds]
        if len(thresholds) > 1:
            found.append(_macro(metric, test, known, without))
    return found


def _macro(
    metric: str, test: Scored, known: Mapping[str, Estimate], without: Sequence[Threshold]
) -> Estimate:
    """The mean over the findings that have a threshold."""
    lost = f"without {', '.join(t.finding for t in without)} (no threshold)" if without else ""
    if not known:
        positives = int((test.truth == 1).sum())
        size = (len(test.images), len(set(test.patients)), positives)
        return Estimate(metric, "macro", None, None, None, *size, without[0].note)
    mean = known.get("macro") or replace(next(iter(known.values())), finding="macro")
    return replace(mean, note="; ".join(filter(None, (mean.note, lost))))


def _undefined(metric: str, test: Scored, threshold: Threshold) -> Estimate:
    column = test.findings.index(threshold.finding)
    known = test.labelled(column)
    return Estimate(
        metric=metric,
        finding=threshold.finding,
        value=None,
        low=None,
        high=None,
        images=int(known.sum()),
        patients=len(set(test.patients[known])),
        positives=int((test.truth[known, column] == 1).sum()),
        note=threshold.note,
    )


def _bootstrap(
    metric: str,
    scored: Scored,
    score: Float[np.ndarray, "N F"],
    *,
    replicates: int,
    seed: int,
    thresholds: Float[np.ndarray, " F"] | None = None,
) -> list[Estimate]:
    return bootstrap(
        metric,
        scored.truth,
        score,
        patients=scored.patients,
        findings=scored.findings,
        replicates=replicates,
        seed=seed,
        thresholds=thresholds,
    )


def _curves(test: Scored, estimates: Sequence[Estimate], seed: int) -> tuple[Curve, ...]:
    """Curves of the findings whose AUROC is defined."""
    defined = {e.finding for e in estimates if e.metric == "auroc" and e.value is not None}
    drawn: list[Curve] = []
    for column, finding in enumerate(test.findings):
        if finding in defined:
            known = test.labelled(column)
            drawn += curves(
                finding,
                test.truth[known, column],
                score=test.score[known, column],
                patients=test.patients[known],
                seed=seed,
            )
    return tuple(sorted(drawn, key=lambda curve: curve.kind != "roc"))
