"""A comparison as one HTML file that needs nothing else."""

from hilum.report.comparison import SCHEMA, Comparison, Paired
from hilum.report.drawing import Drawing, enumeration
from hilum.report.figures import Point, forest, label_efficiency
from hilum.report.provenance import tables
from hilum.report.render import render
from hilum.report.words import percent, without_folders

NAMES = {"auroc": "AUROC", "average_precision": "average precision"}


def page(comparison: Comparison, title: str) -> str:
    """The page."""
    name = NAMES[comparison.metric]
    label = f"mean {name}" if comparison.primary == "macro" else f"{name} of {comparison.primary}"
    primary = [d for d in comparison.differences if d.finding == comparison.primary]
    inits = tuple(dict.fromkeys(m.init for m in comparison.means))
    fractions = sorted({m.fraction for m in comparison.means})
    return render(
        "compare.html",
        comparison=comparison,
        title=title,
        schema=SCHEMA,
        name=name,
        label=label,
        inits=inits,
        fractions=fractions,
        sentences=[_sentence(comparison, init, primary) for init in inits if init != comparison.baseline],
        efficiency=_efficiency(comparison, label),
        differences=_forest(comparison, primary, label),
        primary=primary,
        at={(m.init, m.fraction, m.finding): m for m in comparison.means},
        secondary=[
            (f, [d for d in comparison.differences if d.finding == f])
            for f in comparison.findings
            if f != comparison.primary
        ],
        seeds=sorted({len(m.seed_numbers) for m in comparison.means}),
        runs=[(without_folders(run), init, percent(f), str(s)) for init, f, s, run in comparison.runs],
        provenance=tables(comparison.provenance),
    )


def _sentence(comparison: Comparison, init: str, pairs: list[Paired]) -> tuple[str, str]:
    """The initialisation, and in words at which fractions it differs from the baseline."""
    here = [pair for pair in pairs if pair.init == init]
    said = []
    for verdict in ("higher", "lower", "no evidence of a difference", "undefined"):
        at = [percent(pair.fraction) for pair in here if pair.verdict == verdict]
        if at:
            words = {"higher": "higher than", "lower": "lower than"}.get(verdict)
            said.append(
                f"{words} {comparison.baseline} at {enumeration(at)}"
                if words
                else f"{verdict} at {enumeration(at)}"
            )
    return init, "; ".join(
        said
    ) + " of the labels" if said else f"not run at a fraction of {comparison.baseline}"


def _efficiency(comparison: Comparison, label: str) -> Drawing:
    points = [
        Point(m.init, m.fraction, m.value, m.low, m.high, m.seeds)
        for m in comparison.means
        if m.finding == comparison.primary
    ]
    return label_efficiency(
        "fig-efficiency", points, label=label[0].upper() + label[1:], floors=comparison.floors
    )


def _forest(comparison: Comparison, pairs: list[Paired], label: str) -> Drawing | None:
    if not pairs:
        return None
    rows = [(f"{p.init}, {percent(p.fraction)}", p.value, p.low, p.high) for p in pairs]
    caption = (
        f"Difference from {comparison.baseline} at the same fraction of labels; right of the line is better."
    )
    return forest("fig-differences", rows, label=f"difference of {label}", caption=caption, centre=0.0)
