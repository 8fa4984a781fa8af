"""hilum pretrain: an encoder learns from radiographs, with or without labels."""

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from hilum.commands._dry_run import dry_run
from hilum.commands._open import environment, open_store, write_trained_on
from hilum.commands._pretext import (
    labels_of,
    open_loader,
    open_partners,
    open_task,
    open_trainable,
    views_of,
)
from hilum.commands._pretext import task_in as task_in
from hilum.config import PretextConfig, TrainConfig
from hilum.data.loader import in_order
from hilum.data.views import ViewRecipe
from hilum.errors import ConfigError, RecordsError
from hilum.images.store import Store
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.models.weights import MODEL_FILE, to_bytes
from hilum.records.table import Records
from hilum.report.pretraining import write_pretraining_page
from hilum.report.words import counted
from hilum.run import Run
from hilum.tensorboard import require_tensorboard
from hilum.train.device import choose_device
from hilum.train.health import EVERY, Watch, probe_rows
from hilum.train.loop import fit
from hilum.train.parallel import processes, rank
from hilum.train.task import Task

EXAMPLE = "hilum pretrain simclr --records films.csv --out runs/simclr"
TAKES = "method"

log = logging.getLogger(__name__)


class Settings(PretextConfig, TrainConfig):
    """Pretrains an encoder on radiographs."""

    out: Path
    """Where the run is written. An unfinished run there is resumed."""
    watch_finding: str = ""
    """A column of labels by which health is watched too: the AUROC of nearest neighbours among 128
    radiographs. Training does not see them."""
    dry_run: bool = False
    """Train on two batches, write no run, and say what the whole run would take: memory, time, disk."""


def pretrain(config: Settings) -> Path | None:
    """Trains, or goes on training, and returns the run; None after a dry run.

    Rows whose split is val or test are never trained on, nor are the patients that `hold_out` names.
    """
    device = choose_device(config.device)
    if config.tensorboard:
        require_tensorboard()
    with processes(device):
        trainable = open_trainable(config)
        watched = labels_of(config, config.watch_finding) if config.watch_finding else None
        if config.dry_run:
            lines = dry_run(config, trainable)
            if rank() == 0:
                sys.stdout.write("\n".join(lines) + "\n")
            return None
        records, store = open_store(config, trainable.records)
        if config.out.joinpath("done.json").exists():
            Run.open(config.out, config, {}).close()
            log.info("%s: finished before; nothing to do", config.out)
            return config.out
        facts = environment(records, store)
        # Before the run is opened, whose settings are final: what they get wrong can still be mended.
        task = open_task(config, records)
        _refuse_half_an_average(config, task)
        loader = open_loader(config, task, records, store, partners=open_partners(config, records))
        run = Run.open(config.out, config, facts) if rank() == 0 else Run(config.out)
        with run:
            watch = _watch(config, task, records, store, run, watched)

            def validate(model: nn.Module) -> dict[str, float]:
                assert isinstance(model, Encoder | Classifier)
                return watch.look(model)

            fit(task, loader, config, run, validate=validate, validate_every=EVERY)
            if rank() == 0:
                run.write(MODEL_FILE, to_bytes(task.model, parent=config.init))
                for name, content in task.extras().items():
                    run.write(name, content)
                write_trained_on(run, records, store, config.init, hold_out=trainable.held_out)
                _finish(config, records, run, facts)
    return config.out


def _refuse_half_an_average(config: Settings, task: Task) -> None:
    if task.extras() and (config.ema or config.monitor):
        raise ConfigError(
            f"{config.method} keeps two towers, and --ema and --monitor would take the encoder alone from "
            "another step than its text tower; leave them out"
        )


def _watch(
    config: Settings,
    task: Task,
    records: Records,
    store: Store,
    run: Run,
    watched: dict[str, float] | None,
) -> Watch:
    """A watch over some of the radiographs, each drawn once as training would draw it."""
    finding, labels = config.watch_finding, None
    if watched is not None:
        labels = np.array([watched.get(image, np.nan) for image in records.table["image"]], np.float32)
        if not {0, 1} <= set(labels.tolist()):
            raise RecordsError(
                f"{config.records}: --watch-finding {finding} needs radiographs to train on with it and "
                f"without; found {int((labels == 1).sum())} and {int((labels == 0).sum())}"
            )
    recipe = task.recipe(*views_of(config))
    pixels = sum(side**2 for side in recipe.sides) / task.input.side**2
    rows = probe_rows(len(records), images_per_step=round(config.batch_size * pixels), labels=labels)
    table = records.table.iloc[rows].reset_index(drop=True)
    known = () if labels is None else (finding,)
    seen = Records(table if labels is None else table.assign(**{finding: labels[rows]}), known)
    pair = ViewRecipe(views_of(config)).at(task.input)
    return Watch(list(in_order(store, seen, pair, batch_size=64)), run, precision=config.precision)


def _finish(config: Settings, records: Records, run: Run, facts: dict[str, Any]) -> None:
    patients = int(records.table["patient"].nunique())
    films = counted(len(records), "radiographs")
    write_pretraining_page(
        run.path / "report.html",
        title=f"hilum pretrain: {', '.join(dict.fromkeys((run.path.resolve().name, config.method)))}",
        trained=f"{config.method} on {films} of {counted(patients, 'patients')}",
        metrics=run.metrics(),
        provenance={"environment": facts, "settings": config.model_dump(mode="json")},
    )
    run.finish({"images": len(records), "patients": patients})
