"""The rows of a report's tables of metrics."""

from hilum.metrics.bootstrap import DECISIONS
from hilum.report.report import Report
from hilum.report.words import number

AVERAGES = {
    "macro": "the mean over the findings that are defined",
    "weighted": "that mean, each finding weighted by how many radiographs have it",
    "micro": "all known labels of all findings thrown together: probabilities of different findings are "
    "compared with each other",
}
"""What each average is."""


def tables_of(report: Report) -> dict[str, object]:
    """The tables of metrics, the mean last."""
    macro = ("macro",) if report.estimate("auroc", "macro") else ()
    rows = (*report.findings, *macro)
    undecided = bool(report.thresholds) and all(t.value is None for t in report.thresholds)
    return {
        "ranking": [_ranking(report, finding) for finding in rows],
        "averages": _averages(report),
        "decisions": [] if undecided else [_decisions(report, finding) for finding in rows],
        "elsewhere": [] if undecided else _elsewhere(report),
        "severities": [e for e in report.estimates if e.metric == "quadratic_kappa"],
        "accuracy": report.estimate("accuracy", "all"),
        "pairs": [] if report.exclusive else [_pair(c.finding, c.counts) for c in report.confusion],
    }


def _ranking(report: Report, finding: str) -> dict[str, object]:
    return {
        "label": "Mean" if finding == "macro" else finding,
        "mean": finding == "macro",
        "auroc": report.estimate("auroc", finding),
        "precision": report.estimate("average_precision", finding),
        "prevalence": "" if finding == "macro" else number(_prevalence(report, finding)),
    }


def _prevalence(report: Report, finding: str) -> float | None:
    auroc = report.estimate("auroc", finding)
    return auroc.positives / auroc.images if auroc and auroc.images else None


def _averages(report: Report) -> list[dict[str, object]]:
    return [
        {
            "label": {"macro": "Macro", "weighted": "Prevalence-weighted", "micro": "Micro"}[name],
            "auroc": report.estimate("auroc", name),
            "precision": report.estimate("average_precision", name),
            "words": words,
        }
        for name, words in AVERAGES.items()
        if report.estimate("auroc", name) and report.estimate("auroc", "micro")
    ]


def _decisions(report: Report, finding: str) -> dict[str, object]:
    mean = finding == "macro"
    cut = next((t.value for t in report.thresholds if t.finding == finding), None)
    return {
        "label": "Mean" if mean else finding,
        "mean": mean,
        "threshold": "" if mean else number(cut),
        **{metric: report.estimate(metric, finding) for metric in DECISIONS},
    }


def _elsewhere(report: Report) -> list[dict[str, object]]:
    return [
        {
            "label": finding,
            "here": number(_prevalence(report, finding)),
            "there": number(report.prevalence[finding]),
            "ppv": report.estimate("ppv_at_prevalence", finding),
            "npv": report.estimate("npv_at_prevalence", finding),
        }
        for finding in report.findings
        if finding in report.prevalence
    ]


def _pair(finding: str, counts: tuple[tuple[int, ...], ...]) -> tuple[str, ...]:
    (tn, fp), (fn, tp) = counts
    return (finding, *(f"{n:,}" for n in (tp, fn, fp, tn)))
