"""What a report can say by itself of the things that reporting guidelines ask for."""

from typing import TypeAlias

from pydantic import JsonValue

from hilum.metrics.bootstrap import Estimate
from hilum.report.report import LEVEL, Count, Report
from hilum.report.words import counted, number, percent, without_folders

Fact: TypeAlias = tuple[bool, str, str]
"""Whether it answers the whole item, in which words, and the section of the page that says more."""

CLUSTERS = ("site", "hospital", "centre", "scanner")
"""Columns whose groups are clusters."""


def facts(report: Report, *, training: bool) -> dict[str, Fact]:
    """Everything that is known, by what it is about; what is not known has no entry."""
    known = _of_data(report) | _of_results(report) | _of_groups(report) | _of_settings(report, training)
    return {key: fact for key, fact in known.items() if fact is not None and fact[1]}


def _films(of: Report | Count | Estimate, between: str) -> str:
    return between.join((counted(of.images, "radiographs"), counted(of.patients, "patients")))


def _of_data(report: Report) -> dict[str, Fact | None]:
    first = [count for count in report.counts if count.finding == report.findings[0]]
    splits = "; ".join(f"{c.split or 'no split'}: {_films(c, ', ')}" for c in first)
    unknown = sum(c.unknown for c in report.counts)
    events = "; ".join(
        f"{f}: {counted(e.positives, 'positives')} of {_films(e, ', ')}"
        for f in report.findings
        if (e := report.estimate("auroc", f))
    )
    split = report.evaluated == "test"
    return {
        "flow": (
            False,
            f"{_films(report, ' of ')} scored, {len(report.excluded):,} "
            "excluded with their reasons; who never came into the table is yours to say",
            "radiographs",
        ),
        "counts": (True, f"{splits}. Scored: {events}", "radiographs"),
        "missing": (
            True,
            f"{counted(unknown, 'unknown labels')}, left out finding by finding; "
            f"{counted(len(report.excluded), 'radiographs')} could not be read",
            "radiographs",
        ),
        "partitions": (False, f"{splits}; by what rule is yours to say", "radiographs") if split else None,
        "disjoint": (True, "patient: a table with a patient in two splits is refused", "") if split else None,
        "internal": (False, "the test split, if it is of the training's own source", "ranking")
        if split
        else None,
    }


def _of_results(report: Report) -> dict[str, Fact | None]:
    chosen = [t for t in report.thresholds if t.value is not None]
    headline = report.headline
    value = ""
    if headline is not None and headline.value is not None:
        value = f"AUROC {number(headline.value)} ({number(headline.low)} to {number(headline.high)})"
    metrics = sorted({estimate.metric.replace("_", " ") for estimate in report.estimates})
    plots = ["ROC and precision-recall curves"] * bool(report.curves) + ["reliability diagrams"] * bool(
        report.calibration
    )
    home = next((t.criterion for t in chosen if "chose it" in t.criterion), "")
    return {
        "metrics": (True, "; ".join(filter(None, (", ".join(metrics), ", ".join(plots)))), "ranking"),
        "uncertainty": (
            True,
            f"{percent(LEVEL)} intervals from {report.replicates:,} bootstrap replicates over patients, "
            f"seed {report.seed}",
            "method",
        ),
        "performance": (bool(value), value, "ranking"),
        "decisions": (True, "sensitivity and specificity with intervals and two-by-two tables", "decisions")
        if report.confusion
        else None,
        "thresholds": (
            True,
            f"probabilities; threshold: {chosen[0].criterion}; "
            + ", ".join(f"{t.finding} {number(t.value)}" for t in chosen),
            "decisions",
        )
        if chosen
        else None,
        "failures": (True, f"{counted(len(report.worst), 'radiographs')}, picked by rule", "mistakes")
        if report.worst
        else None,
        "updating": (True, "probabilities recalibrated on the validation split", "calibration")
        if report.recalibration
        else None,
        "external": (False, f"thresholds from elsewhere: {home}", "decisions") if home else None,
    }


def _of_groups(report: Report) -> dict[str, Fact | None]:
    scored = [one for one in report.subgroups if one.scores]
    if not scored:
        return {"subgroups": (False, "intervals, but no subgroups", "ranking")}
    names = ", ".join(one.column for one in scored)
    sizes = "; ".join(
        f"{one.column}: " + ", ".join(f"{name} {films:,}" for name, films, _ in one.groups) for one in scored
    )
    clusters = [one.column for one in scored if one.column.lower() in CLUSTERS]
    return {
        "subgroups": (True, f"by {names}, with intervals and corrected differences", "subgroups"),
        "characteristics": (False, f"of what was scored, radiographs by {sizes}", "subgroups"),
        "robustness": (False, f"subgroups by {names}", "subgroups"),
        "clusters": (True, f"by {', '.join(clusters)}", "subgroups") if clusters else None,
    }


def _of_settings(report: Report, training: bool) -> dict[str, Fact | None]:
    recorded = report.provenance
    settings = _group(recorded, "settings") or _group(recorded, "config")
    versions = _group(recorded, "versions")
    told = {name: f"{name} {without_folders(str(settings[name]))}" for name in settings}

    def some(*names: str) -> str:
        return ", ".join(told[name] for name in names if name in told)

    software = ", ".join(f"{name} {version}" for name, version in versions.items())
    commit = recorded.get("commit")
    weighting = settings.get("weighting")
    return {
        "preprocessing": (False, some("store_size", "image_size", "image_fit", "mean", "std"), "provenance"),
        "subset": (False, some("label_fraction", "shots"), "provenance"),
        "model": (False, some("arch", "fit", "pool", "model"), "provenance"),
        "initialisation": (True, some("init"), "provenance"),
        "training": (
            False,
            some("fit", "optimizer", "lr", "epochs", "steps", "batch_size", "views", "seed", "seeds"),
            "training" if training else "provenance",
        ),
        "selection": (True, f"on the validation split by {settings['monitor']}", "provenance")
        if settings.get("monitor")
        else None,
        "imbalance": (False, some("weighting", "loss"), "provenance") if weighting else None,
        "software": (True, software, "provenance"),
        "availability": (False, f"the code's commit is {commit}" if commit else "", "provenance"),
    }


def _group(recorded: dict[str, JsonValue], name: str) -> dict[str, JsonValue]:
    found = recorded.get(name)
    return found if isinstance(found, dict) else {}
