"""A report in one line."""

from hilum.report.detection import DetectionReport, FindingReport
from hilum.report.report import Report
from hilum.report.words import counted, interval


def headline(report: Report) -> str:
    """The one number to quote, with its interval and n."""
    estimate = report.headline
    if estimate is None or estimate.value is None:
        return f"AUROC not defined: {estimate.note if estimate else 'no finding was scored'}"
    known = f"{counted(estimate.images, 'radiographs')}, {counted(estimate.patients, 'patients')}"
    if estimate.finding in report.findings:  # over several findings, positives would be labels, not films
        known += f", {estimate.positives:,} positive"
    return f"AUROC {interval(estimate.value, estimate.low, estimate.high)} of {estimate.finding} ({known})"


def detection_headline(report: DetectionReport) -> str:
    """The two numbers to quote of every finding, a line each, with their intervals and n."""
    return "\n".join(_of_finding(report, one) for one in report.findings)


def _of_finding(report: DetectionReport, found: FindingReport) -> str:
    score, precision = found.estimate("rsna_score"), found.estimate("box_precision")
    assert score is not None
    assert precision is not None
    said = [
        f"{name} {interval(one.value, one.low, one.high)}" + (f" ({one.note})" if one.value is None else "")
        for name, one in (("RSNA score", score), ("average precision", precision))
    ]
    return (
        f"{found.finding}: {', '.join(said)} ({counted(report.films, 'films')}, "
        f"{counted(report.patients, 'patients')}, "
        f"{score.positives} with boxes)"
    )
