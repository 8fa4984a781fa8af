"""A cell of `hilum sweep`, in a process of its own: what it does to itself it does to no other cell.

`python -m hilum.commands._sweep_child` reads its stages as a line of JSON from stdin and runs them one after
another. The end of stdin means that the sweep is gone: then the cell saves and stops too.
"""

import fcntl
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from hilum import commands
from hilum.errors import HilumError

PATIENCE = 60.0
"""Seconds in which the process of a killed sweep is given time to save and let go of the run."""


def run(stages: list[dict[str, Any]]) -> int:
    """Runs each stage; one that is finished already does nothing. Returns the exit code."""
    try:
        for stage in stages:
            settings, command = stage["settings"], stage["command"]
            _wait_for(Path(settings["out"]))
            cls = commands.settings_of(command, commands.chosen_by(command, settings))
            commands.call(command, cls.build(settings, command))
    except HilumError as error:
        sys.stderr.write(f"hilum: {error}\n")
        return error.exit_code
    return 0


def _wait_for(folder: Path) -> None:
    if not (folder / ".lock").exists():
        return
    lock = os.open(folder / ".lock", os.O_RDWR)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            time.sleep(0.2)
    os.close(lock)


def _follow_the_sweep() -> None:
    while os.read(0, 4096):  # sys.stdin has a lock, which a forked worker would inherit taken
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # until the loop takes over
    given = json.loads(sys.stdin.readline())
    threading.Thread(target=_follow_the_sweep, daemon=True).start()
    sys.exit(run(given))
