"""A report in one line."""

from hilum.report.report import Report
from hilum.report.words import interval


def headline(report: Report) -> str:
    """The one number to quote, with its interval and n."""
    estimate = report.headline
    if estimate is None or estimate.value is None:
        return f"AUROC not defined: {estimate.note if estimate else 'no finding was scored'}"
    known = f"{estimate.images} radiographs, {estimate.patients} patients, {estimate.positives} positive"
    return f"AUROC {interval(estimate.value, estimate.low, estimate.high)} of {estimate.finding} ({known})"
