"""The fits of a run of transfer, each scored, and set side by side."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.commands._door import one_class
from hilum.commands._elsewhere import Elsewhere, score_elsewhere
from hilum.commands._fits import (
    FROM_FEATURES,
    Cell,
    Nearest,
    fit_by_gradient,
    fit_from_features,
    predictions_of,
)
from hilum.commands._open import write_trained_on
from hilum.commands.compare import cells_of
from hilum.images.store import Store
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.models.weights import MODEL_FILE, to_bytes
from hilum.records.table import Records
from hilum.report.compare import compare as compare_cells
from hilum.report.evaluate import Report, evaluate
from hilum.report.provenance import run_title
from hilum.report.summary import headline
from hilum.report.words import counted
from hilum.run import Run

if TYPE_CHECKING:
    from hilum.commands.transfer import Settings

log = logging.getLogger(__name__)


class Given(NamedTuple):
    """What all cells start from."""

    records: Records
    store: Store
    encoder: Encoder
    """As `init` has it, for fits from features; gradient descent opens its own."""
    facts: dict[str, Any]
    groups: pd.DataFrame | None
    elsewhere: Elsewhere | None
    drawn: Mapping[Cell, NDArray[np.bool_]]
    """The training radiographs that each cell learns from which is not finished yet."""

    @property
    def parameters(self) -> int:
        """How many numbers the encoder has."""
        return sum(weight.numel() for weight in self.encoder.parameters())


def folder_of(cell: Cell, out: Path) -> Path:
    """Where a cell of a run with several is written."""
    return out / "cells" / cell.name


def fit_grid(config: "Settings", given: Given, run: Run) -> None:
    """Fits every cell in a folder of its own, and compares all that the run has."""
    together = fit_together(config, list(given.drawn), given)
    for cell in given.drawn:
        folder = folder_of(cell, run.path)
        one = config.model_copy(
            update={"label_fraction": [cell.fraction], "seeds": [cell.seed], "out": folder}
        )
        with Run.open(folder, one, given.facts) as inner:
            # One encoder serves all cells that are fitted from features; copies of it would fill the disk.
            report = fit_cell(one, cell, given, inner, together, keep_model=not together)
            inner.finish(cell._asdict() | {"parameters": given.parameters})
            log.info("%s: %s", cell.name, headline(report))
    name = run.path.resolve().name
    side_by_side = compare_cells(cells_of(run.path, name), given.records, baseline=name)
    side_by_side.write(run.path / "comparison.json")
    title = run_title("transfer", name, config.model_dump(mode="json"))
    side_by_side.write_page(run.path / "compare.html", title=title)


def fit_together(config: "Settings", cells: list[Cell], given: Given) -> dict[Cell, Classifier | Nearest]:
    """Those cells that need the features of an encoder alone; none where the fit is by gradient descent."""
    if config.fit not in FROM_FEATURES or not cells:
        return {}
    drawn = {cell: given.drawn[cell] for cell in cells}
    return fit_from_features(config, drawn, given.encoder, given.records, given.store)


def fit_cell(
    config: "Settings",
    cell: Cell,
    given: Given,
    run: Run,
    together: dict[Cell, Classifier | Nearest],
    *,
    keep_model: bool = True,
) -> Report:
    """Fits a cell, unless it is among those fitted together, and writes all of it but its page."""
    records, store = given.records, given.store
    train = records.where("train")
    labelled = train.take(given.drawn[cell])
    fitted = together.get(cell) or fit_by_gradient(
        config, cell.seed, labelled, records.where("val"), store, run
    )
    scored = records.take(records.table["split"].isin(["val", "test"]).to_numpy())
    predictions = predictions_of(fitted, config, scored, store)
    report = evaluate(
        predictions,
        records,
        exclusive=config.exclusive,
        replicates=config.replicates,
        threshold=config.threshold,
        prevalence=config.prevalence,
        calibrate=config.calibrate,
        groups=given.groups,
        excluded=store.excluded,
        notes=_notes(given, labelled),
        provenance=given.facts | {"settings": config.model_dump(mode="json")},
    )
    predictions.write(run.path / "predictions.csv")
    report.write(run.path / "report.json")
    if given.elsewhere:
        score_elsewhere(fitted, config, given.elsewhere, report, run.path / "external")
    if keep_model and isinstance(fitted, Classifier):
        run.write(MODEL_FILE, to_bytes(fitted, parent=config.init))
        write_trained_on(run, train, store, config.init)
    return report


def _notes(given: Given, labelled: Records) -> list[str]:
    seen, notes = given.facts["test_patients_trained_on"], []
    if seen:
        notes.append(f"The encoder was trained on {seen} of the test patients: these scores mean little.")
    if lacking := one_class(labelled):
        notes.append(
            f"Of the {counted(len(labelled), 'radiographs')} that labels are of, {', '.join(lacking)}: "
            "its scores mean nothing, and draw the mean towards one half."
        )
        log.warning("%s", notes[-1])
    return notes
