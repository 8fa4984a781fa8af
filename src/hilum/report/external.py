"""A model tested where it was not made: findings of other names, thresholds from home."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from hilum.errors import ConfigError
from hilum.records.matching import matched
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.report.evaluate import evaluate
from hilum.report.report import Report, Threshold


def evaluate_elsewhere(
    predictions: Predictions,
    records: Records,
    *,
    home: Report,
    name: str,
    match: Mapping[str, str],
    replicates: int,
    seed: int = 0,
    excluded: Mapping[str, str] | None = None,
    groups: pd.DataFrame | None = None,
    notes: Sequence[str] = (),
    provenance: Mapping[str, object] | None = None,
) -> Report:
    """Scores predictions on radiographs of another dataset; thresholds are those of `home`, called `name`.

    Raises:
        ConfigError: as `match` and `thresholds_of`.
        RecordsError: as `evaluate`.
    """
    renamed, pairs = matched(records, predictions.findings, chosen=match)
    return evaluate(
        predictions,
        renamed,
        exclusive=home.exclusive,
        replicates=replicates,
        seed=seed,
        excluded=excluded,
        groups=groups,
        notes=(*pairs, *notes),
        provenance=provenance,
        thresholds=None if home.exclusive else thresholds_of(home, predictions.findings, name=name),
    )


def thresholds_from(path: Path, findings: Sequence[str]) -> tuple[Threshold, ...]:
    """The thresholds of a report.json; see `thresholds_of`.

    Raises:
        MissingError: there is no such file.
        RecordsError: it is no report.
        ConfigError: as `thresholds_of`.
    """
    return thresholds_of(Report.read(path), findings, name=f"{path.absolute().parent.name}/{path.name}")


def thresholds_of(home: Report, findings: Sequence[str], *, name: str) -> tuple[Threshold, ...]:
    """The thresholds that the report `home`, called `name`, chose on its own validation split.

    A finding that it has no threshold of gets none, with the reason.

    Raises:
        ConfigError: it has no threshold of any of the findings.
    """
    known = {threshold.finding: threshold for threshold in home.thresholds}
    if not any(finding in known and known[finding].value is not None for finding in findings):
        why = (
            "its findings exclude each other, so it chose none"
            if home.exclusive
            else f"it has {', '.join(f for f, one in known.items() if one.value is not None) or 'none'}"
        )
        raise ConfigError(
            f"--thresholds {name}: no threshold of {', '.join(findings)}; {why}. Give the report.json of the "
            "run that made the predictions"
        )
    return tuple(_from_home(finding, known.get(finding), name) for finding in findings)


def _from_home(finding: str, threshold: Threshold | None, name: str) -> Threshold:
    if threshold is None:
        return Threshold(finding, None, "", f"{name} has no threshold of it")
    criterion = f"{threshold.criterion}, as {name} chose it"
    return Threshold(finding, threshold.value, criterion, threshold.note and f"{name}: {threshold.note}")
