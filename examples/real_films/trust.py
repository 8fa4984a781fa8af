"""The second half of docs/results.md, from what trust.sh leaves.

python examples/real_films/trust.py TRUST docs
"""

import json
import sys
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- trust: written by examples/real_films/trust.py -->", "<!-- end of trust -->"
MAPS = {"logistic": "SimCLR, logistic regression", "finetuned": "SimCLR, fine-tuned for 120 steps"}


def main(trust: Path, docs: Path) -> None:
    """Writes the tables between the marks of the page."""
    report = json.loads((trust / "logistic" / "report.json").read_text())
    parts = [
        compared("Where to start", trust / "strategies" / "comparison.json"),
        compared("How much to train", trust / "freezing" / "comparison.json"),
        groups(report),
        calibration(report),
        pointing({name: json.loads((trust / f"maps-{name}" / "scores.json").read_text()) for name in MAPS}),
    ]
    page = docs / "results.md"
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{END}{tail}", encoding="utf-8")


def compared(title: str, path: Path) -> str:
    """A sweep: means over seeds at each share of the labels, and the difference from its first row."""
    found = json.loads(path.read_text())
    means = [m for m in found["means"] if m["finding"] == found["primary"] and m["metric"] == "auroc"]
    pairs = {(d["init"], d["fraction"]): d for d in found["differences"] if d["finding"] == found["primary"]}
    fractions = sorted({m["fraction"] for m in means})
    cells = {(m["init"], m["fraction"]): m for m in means}
    one = means[0]
    lines = [
        f"### {title}",
        "",
        f"Test: {one['images']} films, {one['patients']} patients, {one['positives']} positive.",
        "",
        f"| | {' | '.join(f'{f:.0%} of labels' for f in fractions)} | 100 %: against {found['baseline']} |",
        "|---" * (len(fractions) + 2) + "|",
    ]
    for init in dict.fromkeys(m["init"] for m in means):
        numbers = " | ".join(shown(cells[init, f]) for f in fractions)
        lines.append(f"| {init} | {numbers} | {verdict(pairs.get((init, 1.0)))} |")
    return "\n".join(lines)


def groups(report: dict[str, Any]) -> str:
    """AUROC and decisions in every group, and what differs."""
    lines = [
        "### Groups",
        "",
        "| | films / patients / positive patients | AUROC | sensitivity | specificity |",
        "|---|---|---|---|---|",
    ]
    said = []
    for part in report["subgroups"]:
        by = {(s["group"], s["metric"]): s for s in part["scores"]}
        for group in dict.fromkeys(s["group"] for s in part["scores"]):
            some = [by.get((group, metric)) for metric in ("auroc", "sensitivity", "specificity")]
            size = next(s for s in some if s)
            counts = f"{size['images']} / {size['patients']} / {size['positives']}"
            lines.append(f"| {part['column']} {group} | {counts} | {' | '.join(map(shown, some))} |")
        for d in part["differences"]:
            if d["metric"] == "auroc":
                said.append(f"{part['column']} {d['group']}: {verdict(d)}")
    return "\n".join([*lines, "", "AUROC against the rest: " + "; ".join(said) + "."])


def calibration(report: dict[str, Any]) -> str:
    """Expected calibration error beside what a perfect model shows, before and after."""
    lines = [
        "### Calibration",
        "",
        "| | ECE | of a perfectly calibrated model, mean (95th percentile) | slope | intercept |",
    ]
    lines.append("|---|---|---|---|---|")
    for one in report["calibration"]:
        by = {e["metric"]: e for e in one["estimates"]}
        null = f"{one['null_mean']:.3f} ({one['null_high']:.3f})"
        told = [
            shown(next((e for m, e in by.items() if m.endswith(name)), None))
            for name in ("slope", "intercept")
        ]
        lines.append(f"| {one['version']} | {one['error']:.3f} | {null} | {' | '.join(told)} |")
    return "\n".join(lines)


def pointing(scores: dict[str, dict[str, Any]]) -> str:
    """The pointing game and energy in the boxes, beside what needs no learning."""
    lines = [
        "### Grad-CAM on the readers' boxes",
        "",
        "| | pointing game | energy in the boxes |",
        "|---|---|---|",
    ]
    for run, found in scores.items():
        rows = found["estimates"]
        for name in rows["pointing"]:
            numbers = " | ".join(shown(rows[metric][name]) for metric in ("pointing", "energy"))
            lines.append(f"| {MAPS[run]}: {name.replace('_', ' ')} | {numbers} |")
    one = next(iter(next(iter(scores.values()))["estimates"]["pointing"].values()))
    return "\n".join([*lines, "", f"{one['images']} test films with boxes, {one['patients']} patients."])


def shown(mean: dict[str, Any] | None) -> str:
    """A number with its interval."""
    if mean is None or mean["value"] is None:
        return f"n/a ({mean['note']})" if mean and mean.get("note") else "–"
    return f"{mean['value']:.2f} ({mean['low']:.2f} to {mean['high']:.2f})"


def verdict(paired: dict[str, Any] | None) -> str:
    """A difference with its interval, its corrected p, and the words for it."""
    if paired is None:
        return "–"
    if paired["value"] is None:
        return paired.get("note") or "undefined"
    low, high = paired["low"], paired["high"]
    p = "" if paired["p_holm"] is None else f", p {paired['p_holm']:.3f}"
    return f"{paired['value']:+.2f} ({low:+.2f} to {high:+.2f}){p}: {paired['verdict']}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
