"""Where the cells of a sweep run: processes of this machine, or tasks of a Ray cluster."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hilum.commands._sweep_cells import SweepCell
from hilum.errors import DependencyError

STOPPED = 128 + signal.SIGTERM
CHILD = "hilum.commands._sweep_child"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Job(NamedTuple):
    """What a cell's process is given."""

    stages: str
    """JSON."""
    log: Path
    """Where all that it says is written."""
    threads: int
    module: str
    """What `python -m` runs."""


class Place(Protocol):
    """Starts cells, tells their exit codes, and stops them."""

    def start(self, job: Job) -> Any:
        """Begins a cell; what is returned stands for it."""

    def poll(self, handle: Any) -> int | None:
        """The exit code, negative for a signal; None while it runs."""

    def stop(self, handle: Any) -> None:
        """Asks a cell to save and stop."""


def job_of(cell: SweepCell, out: Path, threads: int) -> Job:
    """The job of a cell, whose log lies in `logs` beside the cells."""
    stages = [
        {"command": stage.command, "settings": stage.config.model_dump(mode="json")} for stage in cell.stages
    ]
    log = out / "logs" / f"{cell.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    return Job(json.dumps(stages), log.absolute(), threads, CHILD)


def begin(job: Job) -> subprocess.Popen[bytes]:
    """Starts a cell's process, which stops by itself when the pipe to it closes."""
    environment = os.environ | dict.fromkeys(THREADS, str(job.threads))
    with job.log.open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", job.module],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the sweep alone, which then asks its cells
        )
    assert child.stdin is not None
    with suppress(BrokenPipeError):  # it died at once: its exit code says so
        child.stdin.write(job.stages.encode() + b"\n")
        child.stdin.flush()
    return child


def ended(child: subprocess.Popen[bytes]) -> None:
    """Closes the pipe of a process that has ended."""
    assert child.stdin is not None
    with suppress(BrokenPipeError):
        child.stdin.close()


class Here:
    """Processes of this machine."""

    def start(self, job: Job) -> subprocess.Popen[bytes]:
        """Begins a cell."""
        return begin(job)

    def poll(self, handle: subprocess.Popen[bytes]) -> int | None:
        """The exit code; None while it runs."""
        code = handle.poll()
        if code is not None:
            ended(handle)
        return code

    def stop(self, handle: subprocess.Popen[bytes]) -> None:
        """Asks a cell to save and stop."""
        handle.terminate()


class OnRay:
    """Tasks of a Ray cluster whose machines share the sweep's folder and have hilum installed.

    The cluster is the one that RAY_ADDRESS names, or one on this machine alone.
    """

    def __init__(self, parallel: int, threads: int) -> None:
        """Connects.

        Raises:
            DependencyError: Ray is not installed.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray: Any = import_module("ray")
        except ImportError:
            raise DependencyError(
                "--spread ray needs Ray: pip install 'hilum[sweep]'. Without --spread cells run here"
            ) from None
        self._ray = ray
        self._ours = not ray.is_initialized()
        if self._ours and os.environ.get("RAY_ADDRESS"):
            ray.init(log_to_driver=False)
        elif self._ours:
            ray.init(num_cpus=parallel * threads, include_dashboard=False, log_to_driver=False)
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        self._task = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)(_in_a_task)

    def start(self, job: Job) -> Any:
        """Begins a cell when the cluster has room for it."""
        return self._task.remote(tuple(job))

    def poll(self, handle: Any) -> int | None:
        """The exit code; None while it runs."""
        done, _ = self._ray.wait([handle], timeout=0)
        if not done:
            return None
        try:
            return int(self._ray.get(handle))
        except self._ray.exceptions.TaskCancelledError:
            return STOPPED
        except self._ray.exceptions.RayError as error:
            sys.stderr.write(f"hilum: Ray: {error}\n")
            return 1

    def stop(self, handle: Any) -> None:
        """Asks a cell to save and stop."""
        self._ray.cancel(handle, force=False)

    def close(self) -> None:
        """Leaves a cluster that this sweep began."""
        if self._ours:
            self._ray.shutdown()


def _in_a_task(job: tuple[str, Path, int, str]) -> int:
    child = begin(Job(*job))
    try:
        while (code := child.poll()) is None:
            time.sleep(
                0.1
            )  # Ray's way to cancel a task, KeyboardInterrupt, waits for the end of a system call
        return code
    except KeyboardInterrupt:
        child.terminate()
        return child.wait()
    finally:
        ended(child)
