"""docs/methods.md from the cells that run.py leaves.

python examples/every_method/table.py OUT docs
"""

import json
import sys
from pathlib import Path
from typing import Any

import hilum

TASKS = {
    "phantoms": ("macro", "Phantoms: mean over five findings"),
    "shortcut": ("Consolidation", "Phantoms with a shortcut in training: consolidation, tested without it"),
    "opacity": ("Opacity", "Real films: RSNA lung opacity"),
    "sex": ("Female", "Real films: sex, learnt at NIH, tested in Shenzhen"),
}
FILMS = {"phantoms": "phantoms", "shortcut": "shortcut", "opacity": "real", "sex": "real"}
ENCODERS = ("ResNet-18", "ViT-S")
BEGIN, END = "<!-- numbers: written by examples/every_method/table.py -->", "<!-- end of numbers -->"


def main(out: Path, docs: Path) -> None:
    """Writes the tables between the marks of the page."""
    parts = [table(out, task, encoder) for task in TASKS for encoder in ENCODERS]
    page = docs / "methods.md"
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}\n\n" + "\n".join(parts) + f"\n{END}{tail}", encoding="utf-8")


def table(out: Path, task: str, encoder: str) -> str:
    """One task on one encoder: AUROC with its interval, against the random encoder, and the cost."""
    finding, title = TASKS[task]
    runs = sorted(
        path for path in (out / "transfer" / task / encoder).iterdir() if (path / "done.json").exists()
    )
    compared = out / "compared" / f"{task}-{encoder}"
    if not compared.exists():
        hilum.compare(runs, out=compared, baseline="random", replicates=2000)
    found = json.loads((compared / "comparison.json").read_text())
    means = {(m["init"], m["fraction"]): m for m in found["means"] if m["finding"] == finding}
    paired = {d["init"]: d for d in found["differences"] if (d["finding"], d["fraction"]) == (finding, 1.0)}
    one = means["random", 1.0]
    lines = [
        f"### {title}, {encoder}",
        "",
        f"Test: {one['images']} films, {one['patients']} patients, {one['positives']} positive.",
        "",
        "| | 1 % of the labels | 10 % | 100 % | 100 %: against random | CPU s | MiB | RankMe | spread |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    names = [run.name for run in runs]
    floors = [name for name in ("pixels", "random") if name in names]
    learnt = sorted(set(names) - set(floors), key=lambda name: -(means[name, 1.0]["value"] or 0))
    corrected = holm({name: paired[name]["p"] for name in [*floors, *learnt] if name in paired})
    for name in [*floors, *learnt]:
        numbers = " | ".join(shown(means[name, fraction]) for fraction in (0.01, 0.1, 1.0))
        facts = json.loads((out / "cells" / f"{FILMS[task]}-{encoder}-{name}.json").read_text())
        last = facts.get("last", {})
        cost = [facts.get("cpu_seconds"), facts.get("peak_mib"), last.get("rankme"), last.get("feature_std")]
        words = [f"{x:.{d}f}" if x is not None else "–" for x, d in zip(cost, (0, 0, 1, 2), strict=True)]
        lines.append(
            f"| {name} | {numbers} | {verdict(paired.get(name), corrected.get(name))} | {' | '.join(words)} |"
        )
    return "\n".join([*lines, ""])


def shown(mean: dict[str, Any]) -> str:
    """A number with its interval."""
    if mean["value"] is None:
        return f"n/a ({mean['note']})"
    return f"{mean['value']:.2f} ({mean['low']:.2f}–{mean['high']:.2f})"


def verdict(paired: dict[str, Any] | None, p: float | None) -> str:
    """The difference with its interval, and what the corrected p allows to say."""
    if paired is None or p is None:
        return "–"
    word = "no evidence of a difference" if p > 0.05 else "higher" if paired["value"] > 0 else "lower"
    return f"{paired['value']:+.2f} ({paired['low']:+.2f} to {paired['high']:+.2f}), p {p:.3f}: {word}"


def holm(p: dict[str, float | None]) -> dict[str, float]:
    """Holm's correction over the rows of one table: its last column is what was asked beforehand."""
    known = sorted((value, name) for name, value in p.items() if value is not None)
    corrected, worst = {}, 0.0
    for place, (value, name) in enumerate(known):
        worst = max(worst, min(1.0, value * (len(known) - place)))
        corrected[name] = worst
    return corrected


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
