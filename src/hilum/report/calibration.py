"""Calibration on the test split, of the probabilities as predicted and as corrected on validation."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from hilum.errors import RecordsError
from hilum.metrics.calibration import calibration_error
from hilum.metrics.calibration_intervals import reliability
from hilum.metrics.calibration_null import null_error
from hilum.metrics.recalibration import FITS, Isotonic, Platt, SoftmaxTemperature, Temperature
from hilum.report.decisions import one_finding_each
from hilum.report.join import Joined, Scored
from hilum.report.report import Calibration, Recalibration
from hilum.report.thresholds import no_validation

PREDICTED = "as predicted"
"""The version that was not recalibrated."""

Fitted = Temperature | Platt | Isotonic | SoftmaxTemperature


def calibration(
    joined: Joined, test: Scored, *, method: str, exclusive: bool, replicates: int, seed: int
) -> tuple[tuple[Calibration, ...], tuple[Recalibration, ...]]:
    """Calibration on the test split, before and after a correction, and that correction (method "none": no).

    Raises:
        RecordsError: a correction is asked for and there is no validation split to fit it on, or exclusive
            findings are to be corrected one by one.
    """
    before = _versions(test, PREDICTED, exclusive=exclusive, replicates=replicates, seed=seed)
    if method == "none":
        return before, ()
    corrected, fits = _corrected(joined, test, method, exclusive=exclusive)
    after = _versions(corrected, method, exclusive=exclusive, replicates=replicates, seed=seed)
    failed = {fit.finding for fit in fits if not fit.parameters}
    return before + tuple(one for one in after if one.finding not in failed), fits


def _versions(
    scored: Scored, version: str, *, exclusive: bool, replicates: int, seed: int
) -> tuple[Calibration, ...]:
    """Every finding; where they exclude each other, first the choice: is it right as often as it is sure?"""
    truth, value, names = scored.truth, scored.score, scored.findings
    if exclusive:
        right = np.take_along_axis(truth, value.argmax(axis=1)[:, None], axis=1)
        truth, value = np.hstack([right, truth]), np.hstack([value.max(axis=1, keepdims=True), value])
        names = ("all", *names)
    found = reliability(
        truth, value, patients=scored.patients, findings=names, replicates=replicates, seed=seed
    )
    nulls = null_error(truth, value, patients=scored.patients, seed=seed)
    made = []
    for column, (name, part, null) in enumerate(zip(names, found, nulls, strict=True)):
        known = ~np.isnan(truth[:, column])
        labels = truth[known, column], value[known, column]
        made.append(
            Calibration(
                finding=name,
                version=version,
                error=calibration_error(*labels) if null else None,
                error_width=calibration_error(*labels, equal="width") if null else None,
                null_mean=null.mean if null else None,
                null_high=null.high if null else None,
                estimates=part.estimates,
                bins=part.bins,
                note="" if null else "undefined: no label is known",
            )
        )
    return tuple(made)


def _corrected(
    joined: Joined, test: Scored, method: str, *, exclusive: bool
) -> tuple[Scored, tuple[Recalibration, ...]]:
    if joined.validation is None:
        raise RecordsError(
            f"--calibrate {method}: {no_validation(joined)} to fit it on, and the test split must not be. "
            "`hilum records split` makes splits by patient; leave --calibrate off to see how calibrated the "
            "probabilities are"
        )
    if not exclusive:
        return _one_by_one(joined.validation, test, method)
    if method != "temperature":
        raise RecordsError(
            f"--calibrate {method} corrects findings one by one, and exclusive findings must sum to 1; use "
            "--calibrate temperature"
        )
    validation = one_finding_each(joined.validation, [])
    fitted = SoftmaxTemperature.fit(validation.truth, validation.score)
    return _with(test, fitted(test.score)), (Recalibration("all", method, _parameters(fitted)),)


def _one_by_one(validation: Scored, test: Scored, method: str) -> tuple[Scored, tuple[Recalibration, ...]]:
    score, fits = test.score.copy(), []
    for column, finding in enumerate(test.findings):
        known = validation.labelled(column)
        truth = validation.truth[known, column]
        if len(set(truth)) < 2:
            why = f"the validation split has {int(truth.sum())} positives of {len(truth)} known labels"
            fits.append(Recalibration(finding, method, {}, why))
            continue
        fitted = FITS[method](truth, validation.score[known, column])
        score[:, column] = fitted(test.score[:, column])
        fits.append(Recalibration(finding, method, _parameters(fitted)))
    return _with(test, score), tuple(fits)


def _parameters(fitted: Fitted) -> dict[str, tuple[float, ...]]:
    return {
        name: tuple(value) if isinstance(value, Sequence) else (float(value),)
        for name, value in vars(fitted).items()
    }


def _with(scored: Scored, score: Float[np.ndarray, "N F"]) -> Scored:
    return Scored(scored.images, scored.patients, scored.findings, scored.truth, score)
