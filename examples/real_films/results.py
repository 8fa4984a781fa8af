"""docs/results.md from the comparisons that transfer.sh leaves.

python examples/real_films/results.py COMPARED docs
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TASKS = {
    ("opacity", "Opacity"): "RSNA lung opacity, all views",
    ("opacity_pa", "Opacity"): "RSNA lung opacity, PA films only",
    ("sex", "Female"): "Sex, learnt at NIH, tested in Shenzhen",
    ("findings", "Effusion"): "Effusion (mined labels)",
    ("findings", "Cardiomegaly"): "Cardiomegaly (mined labels)",
}
ORDER = {
    "pixels 32x32": ("#999999", ":"),
    "random encoder": ("#000000", ":"),
    "from scratch": ("#56B4E9", "--"),
    "ImageNet SqueezeNet": ("#E69F00", "--"),
    "simclr": ("#0072B2", "-"),
    "moco": ("#009E73", "-"),
    "barlow_twins": ("#CC79A7", "-"),
    "supervised": ("#D55E00", "-"),
}
BEGIN, END = "<!-- numbers: written by examples/real_films/results.py -->", "<!-- end of numbers -->"


def main(compared: Path, docs: Path) -> None:
    """Writes the tables between the marks of the page, and the figure beside it."""
    found = {task: json.loads((compared / task[0] / "comparison.json").read_text()) for task in TASKS}
    figure(found, docs / "images" / "results.png")
    page = docs / "results.md"
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    tables = "\n".join(table(found[task], task, title) for task, title in TASKS.items())
    page.write_text(f"{head}{BEGIN}\n\n{tables}\n{END}{tail}", encoding="utf-8")


def table(comparison: dict[str, Any], task: tuple[str, str], title: str) -> str:
    """One task: AUROC with its interval at each fraction, and the difference from the random encoder."""
    cells = {(m["init"], m["fraction"]): m for m in comparison["means"] if m["finding"] == task[1]}
    against = {(d["init"], d["fraction"]): d for d in comparison["differences"] if d["finding"] == task[1]}
    one = next(iter(cells.values()))
    lines = [
        f"### {title}",
        "",
        f"Test: {one['images']} films, {one['patients']} patients, {one['positives']} positive.",
        "",
        "| | 1 % of the labels | 10 % | 100 % | 100 %: against the random encoder |",
        "|---|---|---|---|---|",
    ]
    for name in ORDER:
        numbers = [shown(cells[name, fraction]) for fraction in (0.01, 0.1, 1.0)]
        paired = against.get((name, 1.0))
        verdict = "–" if paired is None else f"{signed(paired)} {paired['verdict']}"
        lines.append(f"| {name} | {' | '.join(numbers)} | {verdict} |")
    return "\n".join([*lines, ""])


def shown(mean: dict[str, Any]) -> str:
    """A number with its interval."""
    if mean["value"] is None:
        return f"n/a ({mean['note']})"
    return f"{mean['value']:.2f} ({mean['low']:.2f}–{mean['high']:.2f})"


def signed(paired: dict[str, Any]) -> str:
    """A difference with its interval and its corrected p."""
    if paired["value"] is None:
        return ""
    low, high = paired["low"], paired["high"]
    return f"{paired['value']:+.2f} ({low:+.2f} to {high:+.2f}), p {paired['p_holm']:.3f}:"


def figure(found: dict[tuple[str, str], dict[str, Any]], path: Path) -> None:
    """Label efficiency: one panel per task."""
    panels, axes = plt.subplots(
        1, len(TASKS), figsize=(4 * len(TASKS), 4.2), sharey=True, layout="constrained"
    )
    for axis, (task, title) in zip(axes, TASKS.items(), strict=True):
        for place, (name, (colour, style)) in enumerate(ORDER.items()):
            means = [m for m in found[task]["means"] if m["init"] == name and m["finding"] == task[1]]
            means = sorted((m for m in means if m["value"] is not None), key=lambda m: m["fraction"])
            x = [m["fraction"] * 1.06 ** (place - len(ORDER) / 2) for m in means]
            y = [m["value"] for m in means]
            error = [[m["value"] - m["low"] for m in means], [m["high"] - m["value"] for m in means]]
            axis.errorbar(x, y, error, color=colour, linestyle=style, marker="o", markersize=4, linewidth=1.4,
                          elinewidth=0.7, label=name.replace("_", " "))  # fmt: skip
        axis.axhline(0.5, color="#bbbbbb", linewidth=0.8)
        axis.set(xscale="log", title=title, xlabel="share of the training labels")
        axis.set_xticks([0.01, 0.1, 1], ["1 %", "10 %", "100 %"])
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("test AUROC (95 % interval)")
    handles, labels = axes[0].get_legend_handles_labels()
    panels.legend(handles, labels, loc="outside lower center", ncols=len(ORDER), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    panels.savefig(path, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
