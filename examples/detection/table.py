"""Sweeps of detectors as tables of a page, between its marks.

python examples/detection/table.py PAGE MARK SWEEP...
"""

import json
import sys
from pathlib import Path
from typing import Any

METRICS = {"box_precision": "average precision, IoU 0.40 to 0.75", "rsna_score": "RSNA score"}


def main(page: Path, mark: str, sweeps: list[Path]) -> None:
    """Writes a table for each finding and metric, a row for each start."""
    found = {sweep.name: json.loads((sweep / "comparison.json").read_text()) for sweep in sweeps}
    reports = sorted(sweeps[0].glob("cells/*/detection.json"))
    first = json.loads(reports[0].read_text())
    tables = [
        table(found, finding, metric, words, floors(first, finding, metric))
        for finding in (one["finding"] for one in first["findings"])
        for metric, words in METRICS.items()
    ]
    begin, end = f"<!-- {mark}: written by examples/detection/table.py -->", f"<!-- end of {mark} -->"
    head, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, tail = rest.partition(end)
    body = "\n\n".join(tables)
    made = f"{first['provenance']['commit']}"
    page.write_text(f"{head}{begin}\n\n{body}\n\nMade by commit {made}.\n\n{end}{tail}", encoding="utf-8")


def table(
    found: dict[str, Any], finding: str, metric: str, words: str, floor: dict[str, dict[str, Any]]
) -> str:
    """A finding by a metric: means over seeds by share of the labels; the difference is at the largest."""
    means = [
        (name, m)
        for name, one in found.items()
        for m in one["means"]
        if (m["finding"], m["metric"]) == (finding, metric)
    ]
    fractions = sorted({m["fraction"] for _, m in means})
    cells = {(name, m["init"], m["fraction"]): m for name, m in means}
    pairs = {
        (name, d["init"], d["fraction"]): d
        for name, one in found.items()
        for d in one["differences"]
        if (d["finding"], d["metric"]) == (finding, metric)
    }
    first = means[0][1]
    films = f"{first['images']} test films of {first['patients']} patients, {first['positives']} with boxes"
    seeds = {name: len(m["seeds"]) for name, m in means}
    told = [f"{name} {count} seeds" for name, count in seeds.items()]
    told = told if len(set(seeds.values())) > 1 else [f"{len(first['seeds'])} seeds"]
    lines = [
        f"**{finding}, {words}** ({films}; {', '.join(told)})",
        "",
        f"| | {' | '.join(f'{f:.0%} of labels' for f in fractions)} | against random, all labels |",
        "|---" * (len(fractions) + 2) + "|",
    ]
    for name, init in dict.fromkeys((name, m["init"]) for name, m in means):
        numbers = " | ".join(shown(cells[name, init, f]) for f in fractions)
        lines.append(f"| {init}, {name} | {numbers} | {verdict(pairs.get((name, init, fractions[-1])))} |")
    lines += [
        f"| *{name}* | {' | '.join([''] * (len(fractions) - 1) + [shown(one)])} | |"
        for name, one in floor.items()
    ]
    return "\n".join(lines)


def floors(report: dict[str, Any], finding: str, metric: str) -> dict[str, dict[str, Any]]:
    """What needs no learning, by its name."""
    one = next(one for one in report["findings"] if one["finding"] == finding)
    return {
        name: next(e for e in estimates if e["metric"] == metric) for name, estimates in one["floors"].items()
    }


def shown(mean: dict[str, Any]) -> str:
    """A number with its interval."""
    if mean["value"] is None:
        return mean["note"]
    return f"{mean['value']:.2f} ({mean['low']:.2f} to {mean['high']:.2f})"


def verdict(paired: dict[str, Any] | None) -> str:
    """A difference with its interval, its corrected p, and the words for it."""
    if paired is None:
        return ""
    p = "" if paired["p_holm"] is None else f", p {paired['p_holm']:.3f}"
    return f"{paired['value']:+.2f} ({paired['low']:+.2f} to {paired['high']:+.2f}){p}: {paired['verdict']}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], [Path(name) for name in sys.argv[3:]])
