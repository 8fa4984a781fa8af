"""What a run of detect starts from: the films that were looked at, and the share that is trained on."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hilum.commands._columns import cells_of
from hilum.commands._open import environment, open_records, open_store, refuse_overlap
from hilum.errors import ConfigError, RecordsError
from hilum.images.store import Store
from hilum.records.boxes import (
    asked,
    boxed_findings,
    boxes_of,
    refuse_contradictions,
    require_boxes,
    unplaced,
)
from hilum.records.defects import Defects
from hilum.records.reading import read_text
from hilum.records.splits import split_patients
from hilum.records.table import Records

if TYPE_CHECKING:
    from hilum.commands.detect import Settings

log = logging.getLogger(__name__)


class Given(NamedTuple):
    """What all detectors of a run start from."""

    records: Records
    """Films that were looked at."""
    store: Store
    sizes: dict[str, tuple[int, int]]
    """Height and width of their files, by image."""
    findings: tuple[str, ...]
    classes: tuple[str, ...]
    told: dict[str, str]
    """The class of each film, by image; empty where it is unknown."""
    facts: dict[str, Any]
    never_asked: int
    """Test films that were left out."""
    unplaced: int
    """Those of them that show a finding; no box says where."""
    notes: tuple[str, ...]


def open_films(config: "Settings") -> Given:
    """The films of a table of which it is known where the findings are, with their splits and classes.

    Raises:
        RecordsError: there are no boxes, or none in a split that is needed, or something contradicts them.
        ConfigError: the settings name classes of films that there are not.
    """
    read = open_records(config)
    findings = tuple(config.boxes or boxed_findings(read))
    if not findings:
        raise RecordsError(
            f"{config.records}: no cell of the column boxes has a box; it holds a JSON list such as "
            '[["Nodule", 10, 20, 30, 40]], x1, y1, x2, y2 in pixels of the file, and [] on a film that was '
            "looked at and has none"
        )
    for finding in findings:
        require_boxes(read, finding, where=str(config.records))
    _refuse_unread_labels(config, read, findings)
    records, store = open_store(config, read)
    records = _with_splits(config, records, findings)
    known, bare = asked(records, findings), unplaced(records, findings)
    tested = (records.table["split"] == "test").to_numpy()
    counts = int((~known & tested).sum()), int((bare & ~known & tested).sum())
    if not known.all():
        log.info(
            "%d of %d films are left out: %d show %s and no box says where, the others were never looked at",
            int((~known).sum()),
            len(known),
            int((bare & ~known).sum()),
            " or ".join(findings),
        )
    records = records.take(known)
    _refuse_empty(config, records)
    told = cells_of(config, read, [config.film_column])[config.film_column] if config.film_column else {}
    classes = tuple(sorted({told[image] for image in records.table["image"] if told} - {""}))
    named = [*(("--gate", name) for name in config.gate)]
    named += [("--boxed-classes", name) for name in config.boxed_classes]
    strangers = [(setting, name) for setting, name in named if name not in classes]
    if strangers:
        setting, name = strangers[0]
        raise ConfigError(
            f"{setting} names {name!r}; it takes values of --film-column"
            + (f": {', '.join(classes)}" if classes else ", and none was given")
        )
    images = records.table["image"].tolist()
    sizes = [store.source_size(int(row)) for row in store.rows(images)]
    refuse_contradictions(
        records,
        findings,
        sizes,
        path=Path(config.records),
        gate=config.gate,
        boxed=config.boxed_classes,
        told=told,
    )
    _refuse_cropped(config, records, findings, sizes)
    if told and not config.boxed_classes:
        _warn_of_mixed_classes(records, findings, told)
    overlap = refuse_overlap(Path(config.init), records.where("test"), store, allow=config.allow_overlap)
    notes = []
    if overlap:
        notes.append(f"The encoder was trained on {overlap} of the test patients: these scores mean little.")
    facts = environment(records, store) | {"test_patients_trained_on": overlap}
    of_image = dict(zip(images, sizes, strict=True))
    return Given(records, store, of_image, findings, classes, told, facts, *counts, tuple(notes))


def _refuse_unread_labels(config: "Settings", records: Records, findings: tuple[str, ...]) -> None:
    """Without its labels a film with boxes of other findings would count as a negative."""
    path = config.records.expanduser()
    if not config.findings or not path.is_file():
        return
    columns = read_text(path, Defects(path))[1]
    left = [name for name in findings if name in columns and name not in records.findings]
    if left:
        raise ConfigError(
            f"--findings leaves out {left[0]!r}, the column that says which films show it and which do not; "
            "name it too, or leave --findings out"
        )


def _refuse_cropped(
    config: "Settings", records: Records, findings: tuple[str, ...], sizes: list[tuple[int, int]]
) -> None:
    """A box whose middle the crop cuts off would make a negative of its film."""
    if config.image_fit != "crop":
        return
    lost = np.zeros(len(records), np.int64)
    for finding in findings:
        for row, (boxes, size) in enumerate(zip(boxes_of(records, finding), sizes, strict=True)):
            middle = (boxes[:, :2] + boxes[:, 2:]) / 2 - np.array(size[::-1]) / 2
            lost[row] += (np.abs(middle) > min(size) / 2).any(1).sum()
    if lost.any():
        first = Path(records.table["image"].iloc[int(lost.argmax())]).name
        raise ConfigError(
            f"{config.records}: the middles of {lost.sum()} boxes on {(lost > 0).sum()} films, as {first}, "
            "are beyond the square that --image-fit crop shows; give --image-fit pad, or squash"
        )


def _warn_of_mixed_classes(records: Records, findings: tuple[str, ...], told: dict[str, str]) -> None:
    """Classes of films of which some have boxes and some have none: one of the two may be a mistake."""
    own = pd.Series([told.get(image, "") for image in records.table["image"]])
    for name, some in pd.Series(has_boxes(records, findings)).groupby(own):
        if name and some.any() and not some.all():
            log.warning(
                "%s: %d films with boxes and %d without; --boxed-classes says which classes have them, and "
                "refuses what contradicts it",
                name,
                some.sum(),
                (~some).sum(),
            )


def _with_splits(config: "Settings", records: Records, findings: tuple[str, ...]) -> Records:
    """The films that are in a split; in one of three by patient where the table has none."""
    splits = records.table["split"]
    if set(splits) == {""}:
        log.info("%s has no split: made one by patient, seed %d", config.records, config.seed)
        made = split_patients(with_boxes_as_labels(records, findings), val=0.15, test=0.25, seed=config.seed)
        return replace(records, table=records.table.assign(split=made.table["split"]))
    if (splits == "").any():
        log.warning("%d of %d films are in no split and are left out", (splits == "").sum(), len(splits))
    return records.take((splits != "").to_numpy())


def _refuse_empty(config: "Settings", records: Records) -> None:
    for split in ("test",) if config.folds else ("train", "test"):
        if not len(records.where(split)):
            raise RecordsError(
                f"{config.records}: no film of the {split} split was looked at for boxes; a film that was "
                "has a box, or [] for none, or a label 0. `hilum records split` makes other splits"
            )


def trained_on(
    config: "Settings", train: Records, findings: tuple[str, ...], fraction: float, seed: int
) -> Records:
    """The labelled share of the training films, with as many negatives as asked."""
    drawn = with_boxes_as_labels(train, findings).share(fraction, seed=seed).table["image"]
    share = train.take(train.table["image"].isin(drawn).to_numpy())
    boxed = has_boxes(share, findings)
    if not boxed.any():
        raise RecordsError(
            f"{config.records}: none of the {len(share)} films of {fraction:g} of the training patients has "
            "a box; give a larger --label-fraction or another seed"
        )
    if not config.negatives:
        return share
    wanted = round(config.negatives * boxed.sum())
    others = np.flatnonzero(~boxed)
    chosen = np.random.default_rng(seed).permutation(others)[:wanted]
    kept = boxed.copy()
    kept[chosen] = True
    return share.take(kept)


def has_boxes(records: Records, findings: tuple[str, ...]) -> np.ndarray:
    """Which films have a box of any of the findings."""
    parts = zip(*(boxes_of(records, finding) for finding in findings), strict=True)
    return np.array([any(map(len, boxes)) for boxes in parts], bool)


def with_classes(records: Records, given: Given) -> Records:
    """The films with their classes as labels: 1 for its own, 0 for the others, NaN where it is unknown."""
    table = records.table[["image", "patient", "split"]]
    own = np.array([given.told.get(image, "") for image in table["image"]], object)
    labels = {name: np.where(own == "", np.nan, own == name).astype(np.float32) for name in given.classes}
    return Records(pd.concat([table, pd.DataFrame(labels, index=table.index)], axis=1), given.classes)


def with_boxes_as_labels(records: Records, findings: tuple[str, ...]) -> Records:
    """The same with a label for findings that have none, 1 on films with a box, by which shares are drawn."""
    new = [finding for finding in findings if finding not in records.findings]
    labels = {name: has_boxes(records, (name,)).astype(np.float32) for name in new}
    table = pd.concat([records.table, pd.DataFrame(labels, index=records.table.index)], axis=1)
    return Records(table, (*records.findings, *new))
