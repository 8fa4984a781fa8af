"""The end of a sweep: its table for people and for machines, its page, and perhaps a comparison."""

import csv
import io
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hilum.commands._sweep_axes import Axis
from hilum.commands._sweep_cells import SweepCell
from hilum.commands._sweep_scores import SCORED, Row, lower_is_better, records_of, runs_in
from hilum.commands.compare import cells_of, compared
from hilum.durable import write_atomically
from hilum.errors import HilumError
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.report.sweep import FRACTION, SEEDS, SweepRow, choices, lines, write_sweep_page

if TYPE_CHECKING:
    from hilum.commands.sweep import Settings

COMPARED = {"init", "method", "detector", FRACTION, *SEEDS}
"""Axes that are experiments. Others are choices, which a comparison on the test split would tempt to make."""

log = logging.getLogger(__name__)


def conclude(
    rows: Sequence[Row],
    cells: Mapping[str, SweepCell],
    axes: Sequence[Axis],
    config: "Settings",
    objective: str,
) -> None:
    """Writes sweep.csv, sweep.html and perhaps compare.html; prints the table and the best by validation."""
    _write_csv(rows, config)
    compared = _compare(rows, cells, axes, config)
    shown = [
        SweepRow(
            row.labels,
            row.status,
            row.validation,
            row.test,
            row.low,
            row.high,
            row.seconds,
            row.reason,
            row.run,
        )
        for row in rows
    ]
    lowest = lower_is_better(objective)
    write_sweep_page(
        config.out / "sweep.html",
        shown,
        title=f"hilum sweep: {config.out.resolve().name}",
        objective=objective,
        lowest=lowest,
        compared=compared,
    )
    header, said = lines(shown)
    sys.stdout.write("\n".join(_aligned([header, *said])) + "\n")
    for choice in choices(shown, lowest=lowest):
        sys.stdout.write(choice.sentence(objective) + "\n")


def _aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def _write_csv(rows: Sequence[Row], config: "Settings") -> None:
    buffer = io.StringIO()
    axes = list(rows[0].labels) if rows else []
    names = ["validation", "test", "low", "high", "seconds", "status", "reason", "run"]
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*axes, *names])
    for row in rows:
        values = [getattr(row, name) for name in names]
        writer.writerow([*row.labels.values(), *("" if value is None else value for value in values)])
    write_atomically(config.out / "sweep.csv", buffer.getvalue().encode())


def _compare(
    rows: Sequence[Row], cells: Mapping[str, SweepCell], axes: Sequence[Axis], config: "Settings"
) -> bool:
    done = [cells[row.cell] for row in rows if row.status == "done"]
    experiment = config.search == "grid" and any(axis.named or axis.name in COMPARED for axis in axes)
    if len(done) < 2 or not experiment or done[0].stages[-1].command not in SCORED:
        return False
    try:
        if len({records_of(cell.stages[-1].config).sha256 for cell in done}) > 1:
            log.warning("The runs were scored on different tables, so they are not compared")
            return False
        groups = [one for cell in done for one in cells_of(cell.run, _group(cell, config))]
        replicates = getattr(done[0].stages[-1].config, "replicates", 2000)
        found = compared(groups, _split_as(done[0]), baseline=groups[0].init, replicates=replicates)
    except HilumError as error:
        log.warning("The runs are not compared: %s", error)
        return False
    found.write(config.out / "comparison.json")
    title = f"hilum sweep: {config.out.resolve().name}"
    found.write_page(config.out / "compare.html", title=title)
    found.write_leaderboard(config.out / "leaderboard.html", title=title)
    return True


def _group(cell: SweepCell, config: "Settings") -> str:
    labels = [label for axis, label in cell.labels.items() if axis not in (*SEEDS, FRACTION)]
    return ", ".join(labels) or config.out.resolve().name


def _split_as(cell: SweepCell) -> Records:
    """The table with the split that the runs were scored by: theirs, where the table has none."""
    records = records_of(cell.stages[-1].config)
    if set(records.table["split"]) != {""}:
        return records
    theirs = Predictions.read(runs_in(cell.run)[0] / "predictions.csv").table.set_index("image")["split"]
    return Records(
        records.table.assign(split=records.table["image"].map(theirs).fillna("train")), records.findings
    )
