"""The page of a pretraining: whether it stayed healthy, its curves, and where it came from."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from hilum.durable import write_atomically
from hilum.report.history import training
from hilum.report.provenance import tables
from hilum.report.render import render
from hilum.report.words import number


def write_pretraining_page(
    path: Path,
    *,
    title: str,
    trained: str,
    metrics: Sequence[Mapping[str, object]],
    provenance: Mapping[str, JsonValue],
) -> None:
    """Writes report.html of a run of pretraining.

    `trained` says what was trained on what; `metrics` are the rows of metrics.jsonl.
    """
    page = render(
        "pretraining.html",
        title=title,
        trained=trained,
        health=health(metrics),
        training=training("fig-training", metrics),
        provenance=tables(provenance),
    )
    write_atomically(path, page.encode())


def health(metrics: Sequence[Mapping[str, object]]) -> str:
    """One sentence on whether the encoder still tells radiographs apart.

    >>> health([{"step": 0, "rankme": 20.0, "feature_std": 0.5, "collapsed": False}])
    'Healthy at step 0: embeddings use 20.0 dimensions (RankMe; 20.0 at best), spread 0.500.'
    """
    looks = [row for row in metrics if "rankme" in row]
    if not looks:
        return "Whether it stayed healthy was not watched."
    last = looks[-1]
    best = max(float(str(row["rankme"])) for row in looks)
    fallen = [row["step"] for row in looks if row.get("collapsed")]
    state = f"Healthy at step {last['step']}"
    if last.get("collapsed"):
        state = f"COLLAPSED: flagged at step {fallen[0]}, and so it was at step {last['step']}"
    elif fallen:
        state = f"Healthy at step {last['step']}, but flagged as collapsed at step {fallen[0]}"
    auroc = f", AUROC of nearest neighbours {_number(last['knn_auroc'])}" if "knn_auroc" in last else ""
    return (
        f"{state}: embeddings use {_number(last['rankme'], places=1)} dimensions (RankMe; "
        f"{number(best, places=1)} at best), spread {_number(last['feature_std'])}{auroc}."
    )


def _number(value: object, *, places: int = 3) -> str:
    return number(float(str(value)), places=places)
