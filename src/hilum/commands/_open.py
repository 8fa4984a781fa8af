"""What most commands begin with: the table, the pixels, the encoder, and where they all came from."""

import hashlib
import json
import logging
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from hilum.config import EncoderConfig, RecordsConfig, ScoringConfig, StoreConfig
from hilum.errors import MissingError, RecordsError
from hilum.find import did_you_mean
from hilum.images.spec import InputSpec
from hilum.images.store import Store, build_store
from hilum.models.architectures import PIXELS
from hilum.models.encoder import Encoder
from hilum.models.pooling import Pooling
from hilum.models.weights import load_encoder
from hilum.records.groups import read_groups
from hilum.records.overlap import datasets_in, shared_films
from hilum.records.table import Records
from hilum.run import Run

log = logging.getLogger(__name__)

TRAINED_ON = "trained_on.json"
LATE = "late"
"""Folder of a run with its weights after late epochs."""
FEW = 5
"""Unreadable files that a line of the log names; `predict` and the reports of fits list all."""
DATASETS = "datasets"
"""Its entry of the data sets trained on: for each, hashes of patients who were held out then."""


def open_records(
    config: RecordsConfig,
    *,
    labels: bool = True,
    patients: bool = True,
    check_files: bool | Literal["beside others"] = True,
    keep_others: bool = False,
) -> Records:
    """The table as the settings say; no finding is read without `labels`, no patient needed without these."""
    return Records.read(
        config.records,
        findings=config.findings,
        ordinal=config.ordinal,
        uncertain=config.uncertain,
        columns=config.columns,
        root=config.root,
        labels=labels,
        patients=patients,
        check_files=check_files,
        keep_others=keep_others,
    )


def open_groups(config: ScoringConfig, path: Path, records: Records) -> pd.DataFrame | None:
    """The groups of radiographs that are scored apart; `records` are the whole table at `path`."""
    if config.subgroups == ["none"]:
        return None
    return read_groups(records, path, columns=config.subgroups, age_bands=config.age_bands)


def open_store(config: StoreConfig, records: Records) -> tuple[Records, Store]:
    """The decoded pixels, and the table without the radiographs that were excluded as unreadable."""
    store = build_store(
        records.table["image"].tolist(),
        folder=config.store.expanduser() / "images",
        size=config.store_size,
        exclude_unreadable=config.exclude_unreadable,
    )
    unreadable = records.table["image"].isin(list(store.excluded))
    if unreadable.any():
        why = [reason_of(image, store) for image in records.table["image"][unreadable][:FEW]]
        more = f"\n  and {unreadable.sum() - FEW} more" if unreadable.sum() > FEW else ""
        log.warning(
            "%d of %d radiographs are unreadable and left out\n  %s%s",
            unreadable.sum(),
            len(records),
            "\n  ".join(why),
            more,
        )
        records = records.take(~unreadable.to_numpy())
    return records, store


def reason_of(image: str, store: Store) -> str:
    """Why a film was left out as unreadable, behind the name of its file."""
    name = Path(image).name
    return f"{name}: {store.excluded[image].removeprefix(f'{image}: ')}"


def open_encoder(init: str, config: EncoderConfig, *, seed: int) -> Encoder:
    """An encoder from random numbers, from timm's weights, from a file or a run, or the film's own pixels.

    Raises:
        MissingError: there is no such file or run; the message names the nearest that there is.
    """
    spec = input_spec(config)
    torch.manual_seed(seed)
    if init == "pixels":
        return Encoder(f"{PIXELS}32", spec)
    pooling = pooling_of(config)
    if init in ("random", "imagenet"):
        return Encoder(
            config.arch,
            spec,
            pretrained=init == "imagenet",
            options=config.arch_options,
            **asdict(pooling or Pooling()),
        )
    told = type(config).model_fields["init"].description or ""
    words = [word for word in ("random", "imagenet", "pixels") if word in told]  # not all commands take all
    if not Path(init).exists() and (near := did_you_mean(init, words)):
        raise MissingError(f"{init}: no such weights file{near}")
    return load_encoder(
        Path(init),
        arch=config.arch,
        input_spec=spec,
        options=config.arch_options,
        pooling=pooling,
        family=config.family,
        preprocessing=config.preprocessing,
    )


def pooling_of(config: EncoderConfig) -> Pooling | None:
    """How the settings pool; None: as the weights have it."""
    return None if config.pool == "auto" else Pooling(config.pool, config.top_k, config.combine)


def input_spec(config: EncoderConfig) -> InputSpec:
    """What an encoder that is not read from one of our files will see."""
    return InputSpec(side=config.image_size, fit=config.image_fit, mean=config.mean, std=config.std)


def environment(records: Records, store: Store | None) -> dict[str, Any]:
    """Versions, commit, machine and the hashes of what went in."""
    packages = (
        "hilum",
        "torch",
        "torchvision",
        "timm",
        "numpy",
        "pandas",
        "opencv-python-headless",
        "pydicom",
    )
    return {
        "versions": {name: metadata.version(name) for name in packages}
        | {"python": platform.python_version()},
        "commit": _commit(),
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "argv": sys.argv,
        "records_sha256": records.sha256,
        "uncertain_labels": {one.finding: f"{one.labels} by {one.policy}" for one in records.changed},
        "store": store.digest if store else None,
        "excluded_unreadable": sorted(Path(p).name for p in store.excluded) if store else [],
    }


def _commit() -> str | None:
    root = Path(__file__).resolve().parents[3]
    if not (root / "pyproject.toml").exists() or shutil.which("git") is None:
        return None  # installed as a package: its version says what it is
    done = subprocess.run(
        ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() if done.returncode == 0 else None


def fingerprints(records: Records, store: Store) -> dict[str, list[str]]:
    """Hashes of patients and of films, by which a later test notices that it was trained on."""
    rows = store.rows(records.table["image"].tolist())
    return {
        "patients": sorted({_hash(name.encode()) for name in records.table["patient"]}),
        "images": sorted({store.hash(row) for row in rows.tolist()}),
    }


def refuse_overlap(init: Path, test: Records, store: Store, *, allow: bool) -> int:
    """How many patients of a test split an encoder was trained on.

    Raises:
        RecordsError: there are any, or it was trained on another data set that has films of this one, and
            these patients were not held out then; unless that is allowed.
    """
    path = _trained_on(init)
    if not path.is_file():
        return 0
    seen, now = json.loads(path.read_text()), fingerprints(test, store)
    patients = len(set(seen["patients"]) & set(now["patients"]))
    images = len(set(seen["images"]) & set(now["images"]))
    if (patients or images) and not allow:
        alike = "" if images else " Patients of two data sets who only have the same name must be renamed."
        raise RecordsError(
            f"{init}: was trained on {patients} patients and {images} films of this test split. Its scores "
            f"there would mean nothing.{alike} Pretrain again with --hold-out this table, or say "
            "--allow-overlap, which a report of the run repeats"
        )
    kept_out = seen.get(DATASETS, {})
    trained = [name for name in kept_out if not set(now["patients"]) <= set(kept_out[name])]
    if why := shared_films(trained, datasets_in(test)):
        if not allow:
            raise RecordsError(
                f"{init}: was trained on {', '.join(trained)}. {why} Their patients have other names, so "
                "that nothing here shows which films these are. Give the patients the names that the other "
                "set gives them and pretrain again with --hold-out this table, or say --allow-overlap"
            )
        log.warning("%s Scores on this test split can mean little", why)
    return patients


def write_trained_on(
    run: Run, records: Records, store: Store, init: str, *, hold_out: Sequence[Path] = ()
) -> None:
    """Leaves in a run what it, and the run that it started from, were trained on.

    `hold_out` are tables of which patients were found among the records, and left out.
    """
    ours = fingerprints(records, store)
    kept_out = {_hash(name.encode()) for name in to_hold_out(hold_out)[0]}
    datasets = dict.fromkeys(datasets_in(records), kept_out)
    before = _trained_on(Path(init))
    if before.is_file():
        theirs = json.loads(before.read_text())
        ours = {key: sorted({*ours[key], *theirs[key]}) for key in ours}
        for name, patients in theirs.get(DATASETS, {}).items():
            datasets[name] = datasets.get(name, set(patients)) & set(patients)
    run.write_json(TRAINED_ON, ours | {DATASETS: {name: sorted(datasets[name]) for name in datasets}})


def _trained_on(init: Path) -> Path:
    folder = init.absolute() if init.is_dir() else init.absolute().parent
    return (folder.parent if folder.name == LATE else folder) / TRAINED_ON


def held_out(records: Records, tables: Sequence[Path]) -> Records:
    """The records without every patient that another table has in its validation or test split."""
    patients, images = to_hold_out(tables)
    out = records.table["patient"].isin(patients) | records.table["image"].isin(images)
    if tables:
        log.info(
            "held out: %d radiographs of %d patients", out.sum(), records.table["patient"][out].nunique()
        )
    return records.take(~out.to_numpy())


def to_hold_out(tables: Sequence[Path]) -> tuple[set[str], set[str]]:
    """The patients and images that tables have in their validation and test splits."""
    patients: set[str] = set()
    images: set[str] = set()
    for path in tables:
        other = Records.read(path, labels=False, check_files=False)
        kept = other.table[other.table["split"].isin(["val", "test"])]
        if kept.empty:
            raise RecordsError(
                f"{path}: has no val or test split to hold out; make one with `hilum records split`"
            )
        patients |= set(kept["patient"])
        images |= set(kept["image"])
    return patients, images


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]
