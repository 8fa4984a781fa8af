"""hilum cxrlearn: the job of cxrlearn by its own flags, and right."""

import logging
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import PositiveFloat, PositiveInt

from hilum.commands import function
from hilum.config import Config
from hilum.errors import ConfigError, MissingError, OutputError, RecordsError
from hilum.records.defects import Defects
from hilum.records.reading import read_text
from hilum.records.splits import split_patients
from hilum.records.table import Records
from hilum.records.writing import write_csv

EXAMPLE = (
    "hilum cxrlearn --train_csv train.csv --val_csv val.csv --test_csv test.csv --path_column Path "
    "--class_columns Edema Effusion --num_classes 2 --model cxr-repair --freeze_backbone True --use_logreg"
)

log = logging.getLogger(__name__)

FILES: dict[str, tuple[str, str]] = {
    "medaug": ("medaug_{pretrained_on}_{arch}.pth.tar", "moco_cxr"),
    "mococxr": ("moco-cxr_{arch}.pth.tar", "moco_cxr"),
    "cxr-repair": ("chexzero.pt", "chexzero"),
    "refers": ("refers_checkpoint.pth", "refers"),
    "convirt": ("convirt_chest_mimic.pt", "convirt"),
    "gloria": ("gloria_chexpert_{arch}.ckpt", "gloria"),
    "s2mts2": ("s2mts2-chexpert.pth.tar", "s2mts2"),
}
"""The weights file of each model in the folder of weights, and whose it is."""


class Settings(Config):
    """Fits findings of your CSVs on one of cxrlearn's eight encoders, by its flags and hyper-parameters.

    What was wrong there is right here: without a test file it scored the validation films as test; its
    logistic regression read the outputs of a head of random weights; BatchNorm of a frozen encoder drifted;
    its cosine was never stepped, so the rate is constant here too; an unreadable film shifted all labels
    after it. Its documented `--freeze_backbone True` is understood.
    """

    train_csv: Path
    """Films to learn from."""
    val_csv: Path | None = None
    """Films for choosing the epoch and thresholds; without it a seventh of the training patients."""
    test_csv: Path | None = None
    """Films that nothing is chosen on; needed."""
    path_column: str
    """The column of image files, relative to each CSV."""
    class_columns: list[str]
    """The columns of findings, 1 or 0; or one column of classes, numbered from 0."""
    num_classes: PositiveInt
    """How many findings or classes there are."""
    patient_column: str = ""
    """The column of patients, which cxrlearn had not; empty: every film counts as a patient of its own."""
    name: str = "data_default"
    """Of the run."""
    out: Path = Path("cxrlearn")
    """Folder of the runs."""
    model: Literal["medaug", "mococxr", "cxr-repair", "refers", "convirt", "gloria", "s2mts2", "resnet"] = (
        "convirt"
    )
    """The encoder; resnet is torchvision's ResNet-50 with ImageNet's weights (needs a network)."""
    pretrained_dir: Path = Path("pretrained")
    """The folder of weights files, named as cxrlearn names them."""
    arch: Literal["resnet50", "resnet18"] = "resnet50"
    """medaug, mococxr, gloria: which of their encoders."""
    pretrained_on: Literal["mimic-cxr", "chexpert"] = "mimic-cxr"
    """medaug: which of its weights."""
    preprocessing: Literal["clip", "own"] = "clip"
    """clip: 224 pixels squeezed and CLIP's normalisation for all, as there. own: as each was trained."""
    freeze_backbone: bool = False
    """Train a head alone."""
    use_logreg: bool = False
    """Logistic regression on frozen features."""
    batch_size: PositiveInt = 32
    """Films per step."""
    lr: PositiveFloat = 1e-3
    """Learning rate of SGD."""
    num_epochs: PositiveInt = 100
    """Passes over the training films."""
    momentum: float = 0.9
    """Of SGD."""
    fewshot_perclass: int = 0
    """Positives and negatives of each finding that are used; 0: all films."""
    store: Path = Path("~/.cache/hilum")
    """Where decoded radiographs are kept."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes a GPU where there is one."""


def cxrlearn(config: Settings) -> Path:
    """Joins the CSVs, fits, scores, and returns the run.

    Raises:
        ConfigError: a flag contradicts another, or there is no test file.
        MissingError: a file is not there.
        RecordsError: the CSVs have defects.
    """
    if config.use_logreg and not config.freeze_backbone:
        raise ConfigError("--use_logreg fits a head on frozen features; give --freeze_backbone with it")
    if config.test_csv is None:
        raise ConfigError(
            "there is no --test_csv: cxrlearn then scored the validation films as test, by which the epoch "
            "was chosen too. Split your films by patient with `hilum records split`"
        )
    run = config.out / config.name
    table = config.out / f"{config.name}.csv"
    joined, exclusive = _joined(config)
    if not table.exists():
        config.out.mkdir(parents=True, exist_ok=True)
        write_csv(joined, table)
    elif joined.to_csv(index=False) != pd.read_csv(table, dtype=str, keep_default_na=False).to_csv(
        index=False
    ):
        raise OutputError(f"{table}: holds other films than these CSVs; give another --name or --out")
    fit = "finetune" if not config.freeze_backbone else "logistic" if config.use_logreg else "linear"
    settings: dict[str, Any] = {"penalty": 0.316 if exclusive else 0.0327} if fit == "logistic" else {
        "views": "plain", "optimizer": "sgd", "lr": config.lr, "momentum": config.momentum, "weight_decay": 0,
        "schedule": "constant", "warmup": 0, "epochs": config.num_epochs, "batch_size": config.batch_size,
    }  # fmt: skip
    log.info("%s, %s, %d films; as cxrlearn, but for what is right here", config.model, fit, len(joined))
    transfer = function("transfer")
    done: Path = transfer(
        records=table, findings=list(joined)[3:], exclusive=exclusive, fit=fit, out=run, store=config.store,
        shots=config.fewshot_perclass, device=config.device, **_encoder(config), **settings,
    )  # fmt: skip
    return done


def _encoder(config: Settings) -> dict[str, Any]:
    if config.model == "resnet":
        clip = {"image_fit": "squash", "mean": 0.449, "std": 0.226}
        return {"init": "imagenet", "arch": "resnet50", **clip}
    name, family = FILES[config.model]
    path = config.pretrained_dir / name.format(arch=config.arch, pretrained_on=config.pretrained_on)
    if not path.is_file():
        raise MissingError(f"{path}: not there; --pretrained_dir is the folder of cxrlearn's weights files")
    size = {"store_size": 320} if config.preprocessing == "own" else {}
    return {"init": str(path), "family": family, "preprocessing": config.preprocessing, **size}


def _joined(config: Settings) -> tuple[pd.DataFrame, bool]:
    """The films of all CSVs in one table, and whether their classes exclude each other."""
    parts = []
    for split, path in (("train", config.train_csv), ("val", config.val_csv), ("test", config.test_csv)):
        if path is None:
            continue
        defects = Defects(path)
        _, columns = read_text(path, defects)
        wanted = [
            config.path_column,
            *config.class_columns,
            *([config.patient_column] * bool(config.patient_column)),
        ]
        for name in wanted:
            if name not in columns:
                defects.add("columns", f"there is no column {name!r}; columns are {', '.join(columns)}")
        defects.check()
        films = pd.Series(columns[config.path_column], dtype="str")
        part = pd.DataFrame({"image": [str((path.parent / film).absolute()) for film in films]})
        part["patient"] = columns[config.patient_column] if config.patient_column else part["image"]
        part["split"] = split
        parts.append(part.assign(**{name: columns[name] for name in config.class_columns}))
    table = pd.concat(parts, ignore_index=True)
    if config.val_csv is None:
        bare = Records(
            table[table["split"] == "train"].reset_index(drop=True)[["image", "patient", "split"]], ()
        )
        drawn = split_patients(bare, val=1 / 7, test=0).table
        chosen = set(drawn.loc[drawn["split"] == "val", "image"])
        table.loc[table["image"].isin(chosen), "split"] = "val"
    overlap = table.groupby("patient")["split"].nunique()
    if (overlap > 1).any():
        raise RecordsError(
            f"{(overlap > 1).sum()} patients (or films) are in more than one CSV, as {overlap.idxmax()!r}; "
            "cxrlearn did not notice. Remove them from all but one"
        )
    if len(config.class_columns) > 1 or config.num_classes == 1:
        if len(config.class_columns) != config.num_classes:
            raise ConfigError(
                f"--num_classes {config.num_classes}, but {len(config.class_columns)} --class_columns"
            )
        return table, False
    (name,) = config.class_columns
    classes = sorted(set(table[name]))
    if len(classes) != config.num_classes:
        raise ConfigError(
            f"--num_classes {config.num_classes}, but {name} has {len(classes)} classes: {classes[:8]}"
        )
    for one in classes:
        table[f"{name} {one}"] = (table[name] == one).astype(int).astype(str)
    return table.drop(columns=name), True
