"""Work in two processes, as torchrun would start them."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

RUN = """
import sys
from importlib import import_module
from pathlib import Path
import torch
from hilum.train.parallel import processes
torch.set_num_threads(1)
with processes(torch.device("cpu")):
    getattr(import_module(sys.argv[1]), sys.argv[2])(Path(sys.argv[3]))
threads = [thread.read_text().strip() for thread in Path("/proc/self/task").glob("*/comm")]
assert "pt_gloo_runloop" not in threads, threads  # one that outlives Python aborts the process
"""


def in_two_processes(work: Callable[[Path], None], folder: Path) -> None:
    """Calls a function of a test's module with a folder, in two processes of one group at once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    command = [sys.executable, "-c", RUN, work.__module__, work.__name__, str(folder)]
    ranks = [subprocess.Popen(command, env=os.environ | group | {"RANK": str(rank)}) for rank in range(2)]
    assert [process.wait(200) for process in ranks] == [0, 0]
