"""The radiographs of another dataset, for a model that is fitted in this run: external validation."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hilum.commands._fits import Nearest, predictions_of
from hilum.commands._open import environment, fingerprints, open_records, open_store, refuse_overlap
from hilum.config import RecordsConfig, StoreConfig
from hilum.errors import RecordsError
from hilum.images.store import Store
from hilum.models.classifier import Classifier
from hilum.records.overlap import datasets_in, shared_films
from hilum.records.table import Records
from hilum.report.external import evaluate_elsewhere
from hilum.report.page import write_page
from hilum.report.provenance import run_title
from hilum.report.report import Report

if TYPE_CHECKING:
    from hilum.commands.transfer import Settings


class Elsewhere(NamedTuple):
    """What another dataset tests on: its test split, or all of it where it has no split."""

    records: Records
    store: Store
    overlap: int
    """Patients of it that the model was trained or chosen on."""

    @property
    def notes(self) -> list[str]:
        """What a report of it must repeat."""
        words = (
            f"The model was trained or chosen on {self.overlap} of these patients: these scores mean little."
        )
        return [words] * bool(self.overlap)


def open_elsewhere(
    table: RecordsConfig,
    store_config: StoreConfig,
    *,
    known: Records,
    known_store: Store,
    init: Path,
    allow_overlap: bool,
) -> Elsewhere:
    """Reads and decodes another table.

    `known` are all radiographs of the table that the model is fitted on: their training and validation splits
    may hold no patient and no film of the other's. So may what the encoder `init` was trained on.

    Raises:
        RecordsError: they do, and that is not allowed.
    """
    records, store = open_store(store_config, open_records(table))
    if set(records.table["split"]) == {""}:
        records = replace(records, table=records.table.assign(split="test"))
    records = records.where("test")
    if not len(records):
        raise RecordsError(
            f"{table.records}: column split has no test rows; leave the column out to test on all"
        )
    learnt = known.take(known.table["split"].isin(["train", "val"]).to_numpy())
    ours, theirs = fingerprints(learnt, known_store), fingerprints(records, store)
    patients, images = (len(set(ours[key]) & set(theirs[key])) for key in ("patients", "images"))
    if (patients or images) and not allow_overlap:
        raise RecordsError(
            f"{table.records}: {patients} of its patients and {images} of its films are in the training or "
            "validation split too. Scores there would mean nothing. Rename patients that only have the same "
            "name, take the films out, or say --allow-overlap, which the report repeats"
        )
    why = shared_films(datasets_in(learnt), datasets_in(records))
    if why and not allow_overlap:
        raise RecordsError(
            f"{table.records}: {why} Nothing here shows which films these are. Take them out and rename the "
            "site, or say --allow-overlap"
        )
    before = refuse_overlap(init, records, store, allow=allow_overlap)
    return Elsewhere(records, store, max(patients, before))


def score_elsewhere(
    fitted: Classifier | Nearest, config: "Settings", elsewhere: Elsewhere, home: Report, folder: Path
) -> None:
    """Writes predictions, report.json and report.html of the other dataset, with the thresholds of `home`."""
    predictions = predictions_of(fitted, config, elsewhere.records, elsewhere.store)
    report = evaluate_elsewhere(
        predictions,
        elsewhere.records,
        home=home,
        name=config.out.resolve().name,
        match=config.match,
        replicates=config.replicates,
        excluded=elsewhere.store.excluded,
        notes=elsewhere.notes,
        provenance=environment(elsewhere.records, elsewhere.store),
    )
    report.write(folder / "report.json")
    where = Path(config.test_records or "").name
    title = run_title("transfer", config.out.resolve().name, config.model_dump(mode="json"))
    write_page(report, folder / "report.html", title=f"{title}, tested on {where}")
    predictions.write(folder / "predictions.csv")
