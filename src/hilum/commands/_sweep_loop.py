"""The loop of a sweep: cells are started, watched, ended, and what became of each is written at once."""

import json
import logging
import shutil
import signal
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilum.commands._sweep_cells import SweepCell
from hilum.commands._sweep_places import Place, job_of
from hilum.commands._sweep_scores import Row, curve, lower_is_better, score
from hilum.commands._sweep_study import Study
from hilum.durable import write_atomically
from hilum.errors import HilumError, OutputError
from hilum.progress import Progress
from hilum.report.words import number

if TYPE_CHECKING:
    from hilum.train.stop import Stop

RESULTS = "sweep.json"
PAUSE = 0.1
"""Seconds between looks at what runs."""
REASON = 400
"""Characters of a reason."""

log = logging.getLogger(__name__)


@dataclass
class Running:
    """A cell that runs."""

    cell: SweepCell
    handle: Any
    log: Path
    begun: float
    seen: int = 0
    """Validations that the study was told of."""
    pruned: bool = False
    asked: bool = False
    """Whether it was asked to stop."""


class Loop:
    """Runs what a study asks for. `cells` are all that were asked for, by name."""

    def __init__(
        self, study: Study, place: Place, out: Path, objective: str, *, parallel: int, threads: int
    ) -> None:
        """Begins with what an earlier sweep in the folder found."""
        self.study, self.place, self.out, self.objective = study, place, out, objective
        self.parallel, self.threads = parallel, threads
        self.cells: dict[str, SweepCell] = {}
        self._rows: dict[str, Row] = {}
        self._before = _read(out / RESULTS)

    def run(self, stop: "Stop") -> list[Row]:
        """A row for each cell, when all are done or the sweep was asked to stop."""
        running: list[Running] = []
        more = True
        for kept in self.study.before:
            self._keep(kept)
        with Progress("Sweeping", self.study.total, unit="runs", done=self._done()) as line:
            while more or running:
                while more and not stop.code and len(running) < self.parallel:
                    cell = self.study.ask()
                    more = cell is not None
                    if cell is not None and not self._keep(cell, told=True):
                        job = job_of(cell, self.out, self.threads)
                        running.append(Running(cell, self.place.start(job), job.log, time.monotonic()))
                more = more and not stop.code
                line.update(self._done(), **self._best())
                for one in list(running):
                    if self._look(one, stop):
                        running.remove(one)
                if running:
                    time.sleep(PAUSE)
        return list(self._rows.values())

    def _keep(self, cell: SweepCell, *, told: bool = False) -> bool:
        """Notes a cell; whether it was finished or given up by an earlier sweep."""
        self.cells[cell.name] = cell
        before = self._before.get(cell.name)
        row = Row(cell.name, cell.labels, str(cell.run), seconds=before.seconds if before else None)
        self._rows[cell.name] = row
        if cell.finished:
            row.status = "done"
            self._score(row, cell)
        elif before is not None and before.status == "pruned" and not told:
            self._rows[cell.name] = before
        else:
            return False
        self._write()
        if told:
            self.study.tell(cell, row.validation)
        return True

    def _look(self, one: Running, stop: "Stop") -> bool:
        """Whether a running cell has ended; asks it to if it should."""
        code = self.place.poll(one.handle)
        if code is not None:
            self._end(one, code)
            return True
        if not one.asked:
            values = curve(one.cell.run, self.objective)
            if len(values) > one.seen:
                one.seen = len(values)
                one.pruned = self.study.watch(one.cell, values)
            if one.pruned or stop.code:
                one.asked = True
                self.place.stop(one.handle)
        return False

    def _end(self, one: Running, code: int) -> None:
        row = self._rows[one.cell.name]
        row.seconds = round((row.seconds or 0) + time.monotonic() - one.begun, 1)
        row.exit_code = code
        if one.cell.finished:
            row.status = "done"
            self._score(row, one.cell)
        elif one.asked:
            row.status, row.reason = "stopped", "the same command goes on with it"
            if one.pruned:
                values = curve(one.cell.run, self.objective)
                best = (min if lower_is_better(self.objective) else max)(values)
                row.status = "pruned"
                shutil.rmtree(one.cell.run / "checkpoints", ignore_errors=True)  # nobody goes on with it
                row.reason = f"{self.objective} was {number(best)} at best after {len(values)} validations"
        else:
            row.status, row.reason = "failed", reason(one.log, code)
            log.warning("%s failed: %s", one.cell.name, row.reason)
        self._write()
        if row.status != "stopped":
            self.study.tell(one.cell, row.validation, pruned=one.pruned and row.status == "pruned")

    def _score(self, row: Row, cell: SweepCell) -> None:
        try:
            score(row, cell, self.objective)
        except HilumError as error:
            row.reason = f"not scored: {error}"

    def _done(self) -> int:
        return sum(row.status != "waiting" for row in self._rows.values())

    def _best(self) -> dict[str, str]:
        known = [(row.validation, row.cell) for row in self._rows.values() if row.validation is not None]
        if not known:
            return {}
        value, cell = (min if lower_is_better(self.objective) else max)(known)
        return {"best": f"{self.objective} {number(value)} ({cell})"}

    def _write(self) -> None:
        rows = self._before | self._rows
        content = json.dumps([row.as_json() for row in rows.values()], indent=1)
        write_atomically(self.out / RESULTS, (content + "\n").encode())


def reason(path: Path, code: int) -> str:
    """Why a process failed: the error that it told last, or the signal that it died of."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    begin = max((i for i, line in enumerate(lines) if line.startswith("hilum: ")), default=None)
    if code < 0:
        name = signal.Signals(-code).name
        memory = ": often the system's answer to a lack of memory" if code == -signal.SIGKILL else ""
        return f"died of {name}{memory}"
    if begin is not None:
        return " ".join(lines[begin:]).removeprefix("hilum: ")[:REASON]
    last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    return f"{last.strip()} (exit code {code})"[:REASON]


def _read(path: Path) -> dict[str, Row]:
    if not path.exists():
        return {}
    names = {field.name for field in fields(Row)}
    try:
        rows = [Row(**{k: v for k, v in row.items() if k in names}) for row in json.loads(path.read_text())]
    except (ValueError, TypeError, AttributeError):
        raise OutputError(
            f"{path}: is no table of hilum sweep; remove it, and finished runs are kept"
        ) from None
    return {row.cell: row for row in rows}
