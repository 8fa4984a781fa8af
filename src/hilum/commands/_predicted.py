"""What `hilum predict` says beside its table: films left out, blank films, and each of a few films."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from hilum.commands._open import FEW, reason_of
from hilum.errors import RecordsError
from hilum.images.store import Store
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.records.writing import write_csv
from hilum.report.report import Report

TOLD = 10
"""Films up to which each is told of."""

log = logging.getLogger(__name__)


def list_of_unreadable(out: Path) -> Path:
    """Where the files that were left out are listed, beside the table."""
    return out.with_name(f"{out.stem}-unreadable.csv")


def write_unreadable(out: Path, images: Sequence[str], store: Store) -> None:
    """Lists those of the images that were left out, with the reason of each; writes nothing if none was."""
    lost = [image for image in images if image in store.excluded]
    if lost:
        reasons = [reason_of(image, store).removeprefix(f"{Path(image).name}: ") for image in lost]
        write_csv(pd.DataFrame({"image": lost, "reason": reasons}), list_of_unreadable(out))
        log.info("%s lists what was left out and why", list_of_unreadable(out))


def warn_of_blank(records: Records, store: Store) -> None:
    """Names films of one grey level: they have scores like any other, and show nothing."""
    images = records.table["image"].tolist()
    films = (store[row] for row in store.rows(images).tolist())
    blank = [
        Path(image).name
        for image, film in zip(images, films, strict=True)
        if film[0, 0] == film[-1, -1] and film.min() == film.max()
    ]
    if blank:
        more = f" and {len(blank) - FEW} more" if len(blank) > FEW else ""
        log.warning(
            "%d of %d radiographs are blank, all of one grey level, and are scored as any other: %s%s",
            len(blank),
            len(images),
            ", ".join(blank[:FEW]),
            more,
        )


def thresholds_of_run(model: Path) -> dict[str, float]:
    """The threshold of each finding that has one in the report of a run; none without a report."""
    path = (model if model.is_dir() else model.parent) / "report.json"
    if not path.is_file():
        return {}
    try:
        report = Report.read(path)
    except RecordsError as error:
        log.warning("%s; so probabilities are shown without decisions", error)
        return {}
    return {one.finding: one.value for one in report.thresholds if one.value is not None}


def tell(predictions: Predictions, thresholds: Mapping[str, float], *, exclusive: bool) -> None:
    """Every finding of every film in words, with what the thresholds decide.

    Of exclusive findings the likeliest is decided for, as in the run's report.
    """
    width = max(map(len, predictions.findings))
    for image, scores in zip(predictions.table["image"], predictions.scores, strict=True):
        lines = [Path(image).name]
        for finding, score in zip(predictions.findings, scores.tolist(), strict=True):
            cut = thresholds.get(finding)
            if exclusive:
                decided = "the likeliest" if score == scores.max() else ""
            elif cut is None:
                decided = ""
            else:
                decided = f"present ({cut:.3f} or more)" if score >= cut else f"absent (below {cut:.3f})"
            lines.append(f"  {finding:<{width}}  {score:.3f}  {decided}".rstrip())
        log.info("\n".join(lines))
