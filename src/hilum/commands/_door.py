"""What transfer looks at before it begins: the splits, both classes of every finding, and the encoder."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hilum.commands._fits import FROM_FEATURES, recipe_of, task_of
from hilum.config import flag
from hilum.errors import ConfigError, RecordsError
from hilum.models.encoder import Encoder
from hilum.records.splits import split_patients
from hilum.records.table import Records

if TYPE_CHECKING:
    from hilum.commands.transfer import Settings

log = logging.getLogger(__name__)


def with_split(records: Records, config: "Settings") -> Records:
    """The table with its own split, or with one made by patient where it has none.

    Raises:
        RecordsError: there are no findings, a split is missing, or a finding has one class only in training.
    """
    if not records.findings:
        raise RecordsError(f"{config.records}: no column of findings (1, 0 or empty); transfer needs labels")
    if set(records.table["split"]) == {""}:
        log.info(
            "%s has no split: made one by patient, 70 %% train, 10 %% val, 20 %% test, seed %d",
            config.records,
            config.seed,
        )
        records = split_patients(records, val=0.1, test=0.2, seed=config.seed)
    missing = {"train", "val", "test"} - set(records.table["split"])
    if missing:
        raise RecordsError(
            f"{config.records}: column split has no {', '.join(sorted(missing))} rows; transfer trains on "
            "train, chooses on val and scores on test. `hilum records split` makes all three by patient"
        )
    if lacking := one_class(records.where("train")):
        raise RecordsError(
            f"{config.records}: among the radiographs to train on, {', '.join(lacking)}; nothing can be "
            "learnt of such a finding. Name the others with --findings, or split anew: `hilum records split`"
        )
    return records


def one_class(labelled: Records) -> list[str]:
    """The findings that have positives only, or negatives only, with their numbers."""
    labels = labelled.labels
    counts = zip(labelled.findings, (labels == 1).sum(0), (labels == 0).sum(0), strict=True)
    return [f"{name} has {yes} positive and {no} negative" for name, yes, no in counts if not yes or not no]


def check_encoder(config: "Settings", encoder: Encoder, findings: Sequence[str]) -> None:
    """Refuses what the encoder contradicts, before a run is begun; the encoder cannot be trained after it.

    Raises:
        ConfigError: a setting says something else than the weights, or cannot be had with them.
    """
    if config.init not in ("random", "imagenet", "pixels"):
        spec, defaults = encoder.input, type(config).defaults()
        own = {"arch": encoder.arch, "image_size": spec.side, "image_fit": spec.fit, "mean": spec.mean}
        own |= {"std": spec.std, "arch_options": encoder.options}
        for name, value in own.items():
            if getattr(config, name) not in (defaults[name], value):
                raise ConfigError(
                    f"{flag(name)} is {getattr(config, name)}, but the weights of {config.init} say {value}; "
                    "an encoder sees films as it did in training: leave the setting out"
                )
    if config.init != "pixels" and config.store_size < encoder.input.side:
        raise ConfigError(
            f"--store-size is {config.store_size}, but the encoder sees {encoder.input.side} pixels: films "
            f"would be enlarged again. Give --store-size {encoder.input.side} or more"
        )
    if config.fit not in FROM_FEATURES:
        task_of(config, encoder, findings)
        recipe_of(config, encoder)
