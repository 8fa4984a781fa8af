"""Predictions and records in, a report out: no model, no pixels."""

from collections.abc import Mapping, Sequence

import pandas as pd

from hilum.metrics.bootstrap import Estimate
from hilum.metrics.thresholds import Criterion
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.report.calibration import calibration
from hilum.report.curves import curves
from hilum.report.decisions import confusion, one_finding_each, worst
from hilum.report.join import Scored, counts, join, with_split
from hilum.report.report import Curve, Floor, Report, Threshold, as_json
from hilum.report.severity import severities
from hilum.report.subgroups import subgroups
from hilum.report.thresholds import choices, choose, decide, elsewhere, estimates, given

__all__ = ["Floor", "Report", "evaluate"]


def evaluate(
    predictions: Predictions,
    records: Records,
    *,
    exclusive: bool = False,
    replicates: int = 2000,
    seed: int = 0,
    threshold: str = "youden",
    prevalence: Mapping[str, float] | None = None,
    calibrate: str = "none",
    excluded: Mapping[str, str] | None = None,
    floors: Sequence[Floor] = (),
    notes: Sequence[str] = (),
    provenance: Mapping[str, object] | None = None,
    groups: pd.DataFrame | None = None,
    thresholds: Sequence[Threshold] | None = None,
) -> Report:
    """Scores the test split against the labels of the records.

    The splits are those of the records; where they have none, those of the predictions.
    Thresholds and the correction `calibrate` come from the validation split and from nothing else. With
    `exclusive` every radiograph has exactly one finding and the decision is the most probable one.
    `threshold`, `prevalence` and `calibrate` are as in `hilum.config.ScoringConfig`. `excluded` maps
    radiographs that could not be read to the reason: they need no prediction, and the report lists them.
    `groups` says by image which subgroups each radiograph is in (`hilum.records.groups`). With `thresholds`
    (`hilum.report.external`), one for each predicted finding, none are chosen here.

    Raises:
        RecordsError: predictions and records do not fit: a row of the test split has no prediction, a
            predicted radiograph is not in the records or is in another split there, a probability is missing,
            or no finding is in both; or there is no validation split for `calibrate`.
        ConfigError: `prevalence` names what is no finding.
    """
    excluded = dict(excluded or {})
    records, said = with_split(predictions, records)
    joined = join(predictions, records, excluded=excluded)
    remarks = [*said, *joined.notes]
    test = one_finding_each(joined.test, remarks) if exclusive else joined.test
    chosen: tuple[Threshold, ...] = ()
    if not exclusive:
        chosen = given(thresholds, joined) if thresholds else choose(joined, Criterion.parse(threshold))
    decided = decide(test, chosen, exclusive=exclusive)
    size = {"replicates": replicates, "seed": seed}
    found = choices(test, decided, **size) if exclusive else estimates(test, chosen, **size)
    found += elsewhere(test, decided, chosen, prevalence or {}, **size)
    kappas, grades = severities(test, decided, **size)
    calibrated, fits = calibration(joined, test, method=calibrate, exclusive=exclusive, **size)
    return Report(
        findings=test.findings,
        exclusive=exclusive,
        evaluated=joined.evaluated,
        images=len(test.images),
        patients=len(set(test.patients)),
        replicates=replicates,
        seed=seed,
        estimates=(*found, *kappas),
        thresholds=chosen,
        confusion=confusion(test, decided, exclusive=exclusive),
        curves=_curves(test, found, seed),
        worst=worst(test, decided, exclusive=exclusive),
        counts=counts(records, test.findings),
        excluded={image: why for image, why in excluded.items() if image not in set(test.images)},
        floors=tuple(floors),
        notes=(*remarks, *notes),
        provenance=as_json(provenance or {}),
        subgroups=()
        if groups is None
        else subgroups(test, decided, groups, replicates=replicates, seed=seed),
        prevalence=dict(prevalence or {}),
        calibration=calibrated,
        recalibration=fits,
        grades=grades,
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
