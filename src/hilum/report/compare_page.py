"""A comparison as one HTML file that needs nothing else."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from hilum.report.budget import Budget
from hilum.report.comparison import SCHEMA, Comparison, Mean, Paired
from hilum.report.drawing import Drawing, enumeration
from hilum.report.figures import Point, forest, label_efficiency
from hilum.report.provenance import tables
from hilum.report.render import render
from hilum.report.report import Floor
from hilum.report.words import number, percent, without_folders

NAMES = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "accuracy": "accuracy",
    "rsna_score": "RSNA score",
    "box_precision": "average precision of boxes",
    "box_precision_50": "average precision of boxes at IoU 0.5",
    "box_precision_coco": "COCO's average precision of boxes",
    "box_precision_boxed": "average precision on films with boxes",
    "froc": "mean sensitivity at 1/8 to 8 false detections per film",
}


@dataclass(frozen=True)
class View:
    """One metric of the page: its figures and its tables, of the main finding and of every other."""

    metric: str
    name: str
    label: str
    main: str
    primary: list[Paired]
    efficiency: list[Drawing]
    differences: Drawing | None
    secondary: list[tuple[str, list[Paired]]]
    at: dict[tuple[str, Budget, str], Mean]


def page(comparison: Comparison, title: str) -> str:
    """The page."""
    inits = tuple(dict.fromkeys(m.init for m in comparison.means))
    main = [m for m in comparison.means if (m.metric, m.finding) == (comparison.metric, comparison.primary)]
    views = [_view(comparison, metric) for metric in comparison.metrics]
    return render(
        "compare.html",
        comparison=comparison,
        title=title,
        schema=SCHEMA,
        inits=inits,
        budgets=sorted({m.budget for m in comparison.means}, key=lambda budget: budget.order),
        first=views[0],
        others=views[1:],
        sentences=[
            (init, _sentence(comparison.baseline, [pair for pair in views[0].primary if pair.init == init]))
            for init in inits
            if init != comparison.baseline
        ],
        summary=_summary(views[0].primary) if comparison.against == "all" else "",
        differing=_differing(comparison, inits),
        alone=_alone(main, views[0].label) if len(inits) == 1 else "",
        heading="Label efficiency" if len({m.budget for m in main}) > 1 else "Values",
        seeds=sorted({m.fits for m in main}),
        fits=sum(m.fits for m in main),
        runs=[
            (without_folders(run), init, Budget(fraction, shots).words, str(seed))
            for (init, fraction, seed, run), shots in zip(comparison.runs, comparison.shots, strict=True)
        ],
        provenance=tables(comparison.provenance),
    )


def label_of(comparison: Comparison, metric: str) -> str:
    """What is compared, in words."""
    name, main = NAMES[metric], comparison.primaries[metric]
    return {"macro": f"mean {name}", "all": f"{name} of the choice"}.get(main, f"{name} of {main}")


def _view(comparison: Comparison, metric: str) -> View:
    main, label = comparison.primaries[metric], label_of(comparison, metric)
    means = [m for m in comparison.means if m.metric == metric]
    differences = [d for d in comparison.differences if d.metric == metric]
    primary = [d for d in differences if d.finding == main]
    suffix = "" if metric == comparison.metric else f"-{metric}"
    return View(
        metric=metric,
        name=NAMES[metric],
        label=label,
        main=main,
        primary=primary,
        efficiency=_efficiency(comparison, [m for m in means if m.finding == main], label, suffix),
        differences=_forest(comparison, primary, label, suffix),
        secondary=[
            (f, [d for d in differences if d.finding == f])
            for f in dict.fromkeys(m.finding for m in means)
            if f != main
        ],
        at={(m.init, m.budget, m.finding): m for m in means},
    )


def _sentence(baseline: str, pairs: Sequence[Paired]) -> str:
    """In words, with how many labels a run differs from the baseline."""
    said = []
    against = [pair for pair in pairs if pair.baseline == baseline]
    for verdict in ("higher", "lower", "no evidence of a difference", "undefined"):
        at = [pair.budget for pair in against if pair.verdict == verdict]
        words = f"{verdict} than {baseline}" if verdict in ("higher", "lower") else verdict
        if at:
            said.append(f"{words} at {in_words(at)}")
    return "; ".join(said) or f"not run with as many labels as {baseline}"


def in_words(budgets: Iterable[Budget]) -> str:
    """Budgets in a sentence.

    >>> in_words([Budget(0.1), Budget(0.01)]), in_words([Budget(1, shots=5), Budget(1)])
    ('1\u202f% and 10\u202f% of the labels', '5 shots and at 100\u202f% of the labels')
    """
    ordered = sorted(budgets, key=lambda budget: budget.order)
    shares = [percent(budget.fraction) for budget in ordered if not budget.shots]
    shots = [str(budget.shots) for budget in ordered if budget.shots]
    parts = [f"{enumeration(shots)} shot{'s' * (shots != ['1'])}"] if shots else []
    parts += [f"{enumeration(shares)} of the labels"] if shares else []
    return " and at ".join(parts)


def _alone(means: Sequence[Mean], label: str) -> str:
    """What a run by itself reached, with the fewest labels and with the most."""
    ordered = sorted(means, key=lambda mean: mean.budget.order)
    ends = list(dict.fromkeys((ordered[0], ordered[-1])))
    reached = [f"{number(mean.value)} with {in_words([mean.budget])}" for mean in ends]
    what = "Label efficiency" if len(ends) > 1 else "Value"
    return f"{what} of {means[0].init}: {label} is {' and '.join(reached)}."


def _summary(pairs: Sequence[Paired]) -> str:
    """How many of all pairs differ."""
    found = sum(pair.verdict in ("higher", "lower") for pair in pairs)
    differ = f"{found or 'none'} differ{'s' * (found == 1)}"
    return f"Of {len(pairs):,} pairs at equal labels, {differ}; the others show no evidence of a difference."


def _differing(comparison: Comparison, inits: Sequence[str]) -> list[tuple[str, ...]]:
    """A row per setting: its name, and its value in every run."""
    return [
        (name.replace("_", " "), *(_shown(values.get(init)) for init in inits))
        for name, values in comparison.settings.items()
    ]


def _shown(value: JsonValue) -> str:
    """A setting without the folders of anybody's disk."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={_shown(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None or value == "" else without_folders(str(value))


def _efficiency(comparison: Comparison, means: Sequence[Mean], label: str, suffix: str) -> list[Drawing]:
    """The figures of shares of the labels, and of shots."""
    floors = comparison.floors if means and means[0].metric == "auroc" else ()
    shares, shots = ([m for m in means if bool(m.shots) is shot] for shot in (False, True))
    drawings = (
        _over(f"fig-efficiency{suffix}", shares, label, "share of the labels", percent, floors),
        _over(
            f"fig-efficiency-shots{suffix}",
            shots,
            label,
            "shots (films of each finding)",
            "{:g}".format,
            floors,
        ),
    )
    return [drawing for drawing in drawings if drawing]


def _over(
    name: str,
    means: Sequence[Mean],
    label: str,
    axis: str,
    words: Callable[[float], str],
    floors: Sequence[Floor],
) -> Drawing | None:
    """Curves over the budgets; a row per run where all have the same, and nothing of a single run there."""
    label = label[0].upper() + label[1:]
    budgets = {m.budget for m in means}
    if len(budgets) > 1:
        points = [Point(m.init, m.budget.amount, m.value, m.low, m.high, m.seeds) for m in means]
        return label_efficiency(name, points, label=label, axis=axis, words=words, floors=floors)
    if len(means) < 2:
        return None
    rows = [(m.init, m.value, m.low, m.high) for m in means]
    caption = f"{label} with {in_words(budgets)}: the mean over seeds and its 95 % interval."
    if floors:
        caption += " Broken lines are floors."
    return forest(name, rows, label=label, caption=caption, floors=floors)


def _forest(comparison: Comparison, pairs: Sequence[Paired], label: str, suffix: str) -> Drawing | None:
    against = [pair for pair in pairs if pair.baseline == comparison.baseline]
    if not against:
        return None
    rows = [(f"{p.init}, {p.budget.words}", p.value, p.low, p.high) for p in against]
    caption = f"Difference from {comparison.baseline} with as many labels; right of the line is better."
    return forest(
        f"fig-differences{suffix}", rows, label=f"difference of {label}", caption=caption, centre=0.0
    )
