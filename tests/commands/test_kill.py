"""kill -9 at any moment, then the same command again: the weights are those of the uninterrupted run."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FORK_SERVER = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from pathlib import Path
from tests.commands.kill_child import main
for line in sys.stdin:
    path, pause = line.split("\\t")
    child = os.fork()
    if child == 0:
        try:
            main(Path(path), float(pause))
        except BaseException:
            import traceback; traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Trainings:
    """Starts trainings by forking a process that has torch imported: seconds less for each."""

    def __init__(self) -> None:
        self.server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", FORK_SERVER, str(ROOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def start(self, path: Path) -> int:
        self.server.stdin.write(f"{path}\t0.002\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def wait(self) -> int:
        return int(self.server.stdout.readline())

    def close(self) -> None:
        self.server.stdin.close()
        self.server.stdout.close()
        self.server.wait(60)


def sweep(tmp_path: Path, kills: int) -> None:
    trainings = Trainings()
    try:
        trainings.start(tmp_path / "whole")
        assert trainings.wait() == 0
        begin = time.monotonic()
        trainings.start(tmp_path / "timed")
        assert trainings.wait() == 0
        length = time.monotonic() - begin
        expected = (tmp_path / "whole" / "weights.bin").read_bytes()
        rows = (tmp_path / "whole" / "metrics.jsonl").read_text().count("\n")
        chance, landed, run = random.Random(0), 0, 0
        while landed < kills:
            path = tmp_path / f"killed-{run}"
            run += 1
            for _ in range(3):
                child = trainings.start(path)
                time.sleep(chance.uniform(0, length))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                landed += trainings.wait() == -signal.SIGKILL
            trainings.start(path)
            assert trainings.wait() == 0
            assert (path / "weights.bin").read_bytes() == expected, path
            assert (path / "metrics.jsonl").read_text().count("\n") == rows
    finally:
        trainings.close()


def test_a_run_survives_twenty_kills_to_the_bit(tmp_path):
    sweep(tmp_path, 20)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_survives_two_hundred_kills_to_the_bit(tmp_path):
    sweep(tmp_path, 200)
