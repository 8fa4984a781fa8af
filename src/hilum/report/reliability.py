"""Calibration on the page: reliability diagrams, and what the errors mean in words."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from hilum.metrics.bootstrap import Estimate
from hilum.report.calibration import PREDICTED
from hilum.report.drawing import LINES, MARKERS, MUTED, PAPER, SERIES, Drawing, panels, style, to_svg
from hilum.report.report import Calibration, Report
from hilum.report.words import interval, number

LISTED = 5
"""Findings named in a sentence; more are counted."""


def section(report: Report) -> dict[str, object]:
    """What the template of calibration shows; nothing where the report has none."""
    versions = tuple(dict.fromkeys(one.version for one in report.calibration))
    if not versions:
        return {"rows": ()}
    return {
        "rows": [_row(one) for finding in _findings(report) for one in _of(report, finding)],
        "verdicts": [_verdict(report, version) for version in versions],
        "drawing": diagrams("fig-calibration", report.calibration),
        "corrected": named(versions[1]) if len(versions) > 1 else "",
        "fits": [_fit(report, place) for place in range(len(report.recalibration))],
    }


def _findings(report: Report) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.finding for one in report.calibration))


def _of(report: Report, finding: str) -> list[Calibration]:
    return [one for one in report.calibration if one.finding == finding]


def label(finding: str) -> str:
    """The finding, or what stands for the choice among all."""
    return "the choice" if finding == "all" else finding


def named(version: str) -> str:
    """The version as in a sentence: Platt is a person."""
    return "Platt" if version == "platt" else version


def _row(one: Calibration) -> dict[str, object]:
    known: dict[str, Estimate] = {estimate.metric: estimate for estimate in one.estimates}
    share = known["brier"].positives / known["brier"].images if known["brier"].images else None
    return {
        "label": label(one.finding),
        "version": named(one.version),
        "error": number(one.error),
        "null_mean": number(one.null_mean),
        "null_high": number(one.null_high),
        "evident": one.evident,
        "guess": number(None if share is None else share * (1 - share)),
        "brier": known["brier"],
        "slope": known["calibration_slope"],
        "intercept": known["calibration_intercept"],
    }


def _verdict(report: Report, version: str) -> str:
    """What the errors say, in a sentence."""
    of = [one for one in report.calibration if one.version == version and one.error is not None]
    who = "As predicted" if version == PREDICTED else f"After the {named(version)} correction"
    if not of:
        return f"{who}: no finding has a known label."
    evident = [label(one.finding) for one in of if one.evident]
    if not evident:
        return f"{who}: no evidence of miscalibration" + (
            "." if len(of) == 1 else f" for any of the {len(of)} findings."
        )
    listed = ", ".join(evident[:LISTED]) + (
        f" and {len(evident) - LISTED} more" if len(evident) > LISTED else ""
    )
    rest = len(of) - len(evident)
    others = f"; no evidence of it for the other {rest}" if rest else ""
    return f"{who}: miscalibrated, more than chance explains: {listed}{others}."


def _fit(report: Report, place: int) -> tuple[str, str]:
    fit = report.recalibration[place]
    if not fit.parameters:
        return label(fit.finding), f"none: {fit.note}"
    if fit.method == "isotonic":
        return label(fit.finding), f"{len(fit.parameters['x'])} points, in report.json"
    words = ", ".join(f"{name} {number(values[0])}" for name, values in fit.parameters.items())
    return "all findings" if fit.finding == "all" else fit.finding, words


def diagrams(name: str, calibration: Sequence[Calibration]) -> Drawing:
    """A panel per finding: the share of positives over the mean probability, bin by bin."""
    findings = list(dict.fromkeys(c.finding for c in calibration))
    parts = [[c for c in calibration if c.finding == finding and c.bins] for finding in findings]
    drawn = [part for part in parts if part]
    versions = tuple(dict.fromkeys(c.version for c in calibration))
    columns = {1: 1, 2: 2, 4: 2}.get(len(drawn), 3)
    side = {1: 4.2, 2: 3.6}.get(columns, 2.95)
    alt = "Reliability diagrams, expected calibration error: " + "; ".join(
        f"{label(one.finding)}, {one.version}, {number(one.error)}" for part in drawn for one in part
    )
    with style():
        figure, axes = panels(max(1, len(drawn)), columns=columns, width=side * columns, height=side + 0.15)
        for place, (panel, part) in enumerate(zip(axes[: len(drawn)], drawn, strict=True)):
            _panel(panel, part, versions)
            if place % columns == 0:
                panel.set_ylabel("share with the finding")
            if place >= len(drawn) - columns:
                panel.set_xlabel("mean probability")
        if len(versions) > 1:
            handles, names = axes[0].get_legend_handles_labels()
            figure.legend(handles, names, loc="outside upper left", ncols=2)
        svg = to_svg(figure, name, alt=alt)
    header = ("Finding", "Version", "Radiographs", "Patients", "Mean probability", "Share with the finding")
    caption = (
        "Reliability: of the radiographs in a bin of similar probability, how many have the finding. Bins "
        "hold about as many radiographs each; bars are 95 % intervals over patients. Dotted: perfect "
        "calibration. Axes end where the bins do."
    )
    rows = tuple(row for part in drawn for one in part for row in _numbers(one))
    return Drawing(name, svg, alt, caption, header, rows)


def _numbers(one: Calibration) -> list[tuple[str, ...]]:
    return [
        (
            label(one.finding),
            named(one.version),
            *(f"{count:,}" for count in (b.images, b.patients)),
            number(b.probability),
            interval(b.share, b.low, b.high),
        )
        for b in one.bins
    ]


def _panel(axes: Axes, part: Sequence[Calibration], versions: Sequence[str]) -> None:
    edges = [v for one in part for b in one.bins for v in (b.probability, b.share, b.high or 0.0)]
    top = min(1.0, 1.06 * max(edges))
    axes.plot([0, top], [0, top], ":", color=MUTED, linewidth=1.1)
    for one in part:
        order = versions.index(one.version)
        colour, x = SERIES[order], [b.probability for b in one.bins]
        for b in one.bins:
            if b.low is not None and b.high is not None:
                axes.plot([b.probability] * 2, [b.low, b.high], color=colour, linewidth=1.2, alpha=0.75)
        axes.plot(
            x,
            [b.share for b in one.bins],
            color=colour,
            marker=MARKERS[(0, 2)[order]],
            linestyle=LINES[order],
            linewidth=1.1,
            markersize=5.5,
            markeredgecolor=PAPER,
            label=one.version if order == 0 else f"{named(one.version)} correction",
        )
    title = label(part[0].finding)
    axes.set_title(title if len(title) < 28 else title[:26] + "…")
    axes.set(xlim=(-0.02 * top, top * 1.02), ylim=(-0.02 * top, top * 1.02), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4))
