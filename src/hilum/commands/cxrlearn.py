"""hilum cxrlearn: the job of cxrlearn by its own flags, and right."""

import logging
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
import torchvision
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from hilum.commands import function
from hilum.commands._cxrlearn_films import joined_films
from hilum.config import Config
from hilum.errors import ConfigError, DependencyError, MissingError, OutputError
from hilum.records.writing import write_csv
from hilum.report.report import Report
from hilum.report.words import interval

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
DIMS = {"resnet50": 2048, "resnet18": 512}
WORDS = {
    "logistic": "a logistic regression on frozen features",
    "linear": "a linear head on a frozen encoder, by gradient descent",
    "finetune": "everything is trained",
}


class Settings(Config):
    """Fits findings of your CSVs on one of cxrlearn's eight encoders, by its flags and hyper-parameters.

    What was wrong there is right here: `--test_csv` was not read, and the validation films were scored as
    test; the logistic regression read the outputs of a head of random weights, and not features; BatchNorm
    of a frozen encoder drifted; one column of classes could not be fitted by its command; an unreadable film
    shifted all labels after it; the cache outlived the CSV; a film in two CSVs was not noticed. Its cosine
    was never stepped, so the rate is constant here too. Different here: features are standardised before
    `--use_logreg`, so that its C of 0.0327 (0.316 for classes) means the same for all encoders; `resnet`
    heeds `--freeze_backbone`; the best epoch is that of the mean AUROC, not weighted by positives.
    `--freeze_backbone True`, which its README has, is understood.
    """

    train_csv: Path
    """Films to learn from."""
    val_csv: Path | None = None
    """Films for choosing the epoch and thresholds; without it a seventh of the training patients."""
    test_csv: Path | None = None
    """Films that nothing is chosen on; needed."""
    path_column: str
    """The column of image files, relative to their CSV, or to the working folder as there."""
    class_columns: list[str]
    """The columns of findings, 1, 0 or empty (unknown); or one column of classes."""
    num_classes: PositiveInt
    """How many findings or classes there are."""
    patient_column: str = ""
    """The column of patients, which cxrlearn had not; empty: every film counts as a patient of its own."""
    name: str = "data_default"
    """What the runs on these CSVs are called; the model and the fit come after it: name-gloria-linear."""
    chk_dir: Path = Path("pt-finetune")
    """Folder of the runs: weights, predictions, report."""
    datapt_dir: Path = Path("~/.cache/hilum")
    """Where decoded radiographs are kept, by what is in them; the same for all commands."""
    model: Literal["medaug", "mococxr", "cxr-repair", "refers", "convirt", "gloria", "s2mts2", "resnet"] = (
        "convirt"
    )
    """The encoder; resnet is torchvision's ResNet-50 with its first weights of ImageNet, which are downloaded
    where they are not there."""
    pretrained_dir: Path = Path("pretrained")
    """The folder of weights files, named as cxrlearn names them; for resnet as torchvision does."""
    arch: Literal["resnet50", "resnet18"] = "resnet50"
    """medaug, mococxr, gloria: which of their encoders."""
    cxr_repair_layer_dim: Literal[512, 768] = 512
    """cxr-repair: numbers of its features; 512 after CLIP's projection, 768 before it."""
    gloria_layer_dim: Literal[0, 512, 2048] = 0
    """gloria: numbers of its features, which follow from arch: 2048 for resnet50, 512 for resnet18. 0: those;
    anything else is refused."""
    pretrained_on: Literal["mimic-cxr", "chexpert"] = "mimic-cxr"
    """medaug: which of its weights."""
    preprocessing: Literal["clip", "own"] = "clip"
    """clip: 224 pixels squeezed and CLIP's normalisation for all, as there. own: as each was trained."""
    freeze_backbone: bool = False
    """Train a head alone."""
    use_logreg: bool = False
    """Logistic regression on frozen features; needs freeze_backbone."""
    max_iter: PositiveInt = 500
    """Iterations of the logistic regression at most."""
    batch_size: PositiveInt = 32
    """Films per step."""
    lr: PositiveFloat = 1e-3
    """Learning rate of SGD."""
    num_epochs: PositiveInt = 100
    """Passes over the training films."""
    momentum: float = 0.9
    """Of SGD."""
    fewshot_perclass: NonNegativeInt = 0
    """Positives and negatives of each finding that are used; 0: all films. Its functions had this, its
    command had not; they drew so many of each combination of labels, with replacement, without a seed."""
    gpu_ids: str = "auto"
    """The number of one GPU (the CPU where there is none, which is said), or -1 for the CPU. auto: a GPU
    where there is one."""


def cxrlearn(config: Settings) -> Path:
    """Joins the CSVs, fits, scores, and returns the run.

    Raises:
        ConfigError: a flag contradicts another, or there is no test file.
        MissingError: a file is not there.
        DependencyError: ImageNet's weights could not be downloaded.
        RecordsError: the CSVs have defects.
    """
    _check(config)
    encoder, device = _encoder(config), _device(config.gpu_ids)
    fit = "finetune" if not config.freeze_backbone else "logistic" if config.use_logreg else "linear"
    run = config.chk_dir / f"{config.name}-{config.model}-{fit}"
    table = config.chk_dir / f"{config.name}.csv"
    joined, exclusive = joined_films(config)
    if not table.exists():
        config.chk_dir.mkdir(parents=True, exist_ok=True)
        write_csv(joined, table)
    elif joined.to_csv(index=False) != pd.read_csv(table, dtype=str, keep_default_na=False).to_csv(
        index=False
    ):
        raise OutputError(f"{table}: holds other films than these CSVs; give another --name or --chk_dir")
    settings: dict[str, Any] = {
        "penalty": 0.316 if exclusive else 0.0327, "max_iter": config.max_iter,
    } if fit == "logistic" else {
        "views": "plain", "optimizer": "sgd", "lr": config.lr, "momentum": config.momentum, "weight_decay": 0,
        "schedule": "constant", "warmup": 0, "epochs": config.num_epochs, "batch_size": config.batch_size,
    }  # fmt: skip
    sizes = ", ".join(f"{(joined['split'] == split).sum()} {split}" for split in ("train", "val", "test"))
    log.info("%s of %s: %s; %d films (%s)", config.model, encoder["init"], WORDS[fit], len(joined), sizes)
    if not config.patient_column:
        log.warning(
            "without --patient_column every film counts as a patient of its own: films of one patient in two "
            "of the CSVs are not noticed, and intervals are too narrow where patients have several"
        )
    transfer = function("transfer")
    try:
        done: Path = transfer(
            records=table, findings=list(joined)[3:], exclusive=exclusive, fit=fit, out=run,
            store=config.datapt_dir, shots=config.fewshot_perclass, device=device, **encoder, **settings,
        )  # fmt: skip
    except OutputError as error:
        raise OutputError(f"{error} (--out is --chk_dir and --name here)") from None
    for estimate in Report.read(done / "report.json").estimates:
        if estimate.metric == "auroc" and estimate.finding in list(joined):
            shown = interval(estimate.value, estimate.low, estimate.high)
            log.info("  %s: AUROC %s (%d positive)", estimate.finding, shown, estimate.positives)
    log.info("%s: report.html, report.json, predictions.csv, model.safetensors", done)
    return done


def _check(config: Settings) -> None:
    wrong, defaults = [], Settings.defaults()
    for names, read, reader in (
        ("arch", config.model in ("medaug", "mococxr", "gloria"), "--model medaug, mococxr and gloria"),
        ("pretrained_on", config.model == "medaug", "--model medaug"),
        ("cxr_repair_layer_dim", config.model == "cxr-repair", "--model cxr-repair"),
        ("gloria_layer_dim", config.model == "gloria", "--model gloria"),
        ("max_iter", config.use_logreg, "--use_logreg"),
        ("batch_size lr num_epochs momentum", not config.use_logreg, "fits without --use_logreg"),
    ):
        idle = [f"--{name}" for name in names.split() if getattr(config, name) != defaults[name]]
        if idle and not read:
            wrong.append(f"{' and '.join(idle)} would not be read: that is of {reader}. Leave it out")
    if config.use_logreg and not config.freeze_backbone:
        wrong.append("--use_logreg fits a head on frozen features; give --freeze_backbone with it")
    if config.test_csv is None:
        wrong.append(
            "there is no --test_csv: cxrlearn scored the validation films as test, by which the epoch was "
            "chosen too. Split your films by patient with `hilum records split`"
        )
    if config.model == "gloria" and config.gloria_layer_dim not in (0, DIMS[config.arch]):
        wrong.append(
            f"--gloria_layer_dim is {config.gloria_layer_dim}, but GLoRIA's {config.arch} has "
            f"{DIMS[config.arch]} features; leave it out"
        )
    if config.model == "resnet" and config.preprocessing == "own":
        wrong.append("--preprocessing own: ImageNet's weights never saw films; clip is what cxrlearn does")
    if wrong:
        raise ConfigError("\n".join(wrong))


def _device(gpu_ids: str) -> str:
    if gpu_ids in ("auto", "-1"):
        return {"auto": "auto", "-1": "cpu"}[gpu_ids]
    if not gpu_ids.isdigit():
        raise ConfigError(
            f"--gpu_ids is {gpu_ids!r}; expected the number of one GPU (cxrlearn took no more), or -1 for "
            "the CPU"
        )
    if torch.cuda.is_available():
        return f"cuda:{gpu_ids}"
    log.warning("--gpu_ids %s: there is no GPU here, so it runs on the CPU, as cxrlearn does", gpu_ids)
    return "cpu"


def _encoder(config: Settings) -> dict[str, Any]:
    if config.model == "resnet":
        path, family = _imagenet(config.pretrained_dir), "torchvision_resnet"
    else:
        name, family = FILES[config.model]
        path = config.pretrained_dir / name.format(arch=config.arch, pretrained_on=config.pretrained_on)
    if not path.is_file():
        raise MissingError(f"{path}: not there; --pretrained_dir is the folder of cxrlearn's weights files")
    more: dict[str, Any] = {"store_size": 320} if config.preprocessing == "own" else {}
    if config.model == "cxr-repair" and config.cxr_repair_layer_dim == 768:
        more["pool"] = "token"
    return {"init": str(path), "family": family, "preprocessing": config.preprocessing, **more}


def _imagenet(folder: Path) -> Path:
    """The weights that cxrlearn's resnet has: `pretrained=True` of torchvision is its first version."""
    weights = torchvision.models.ResNet50_Weights.IMAGENET1K_V1
    url = str(weights.url)
    name = url.rpartition("/")[2]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    if (folder / name).is_file():
        return folder / name
    if not cached.is_file():
        try:
            weights.get_state_dict(progress=False, check_hash=True)
        except (OSError, RuntimeError) as error:
            said = str(error).splitlines()[0]
            raise DependencyError(
                f"{folder / name}: not there, and {url} could not be downloaded ({said}); put it there, or "
                "choose another --model"
            ) from None
    return cached
