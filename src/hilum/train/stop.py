"""Being asked to stop: Ctrl-C, or a scheduler's SIGTERM."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist

EVERY = 10
"""Steps between which several processes agree on whether one of them was asked to stop."""


class Stop:
    """Whether somebody asked, and the exit code that says who."""

    code = 0

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Notes the request. A second one is no longer caught and ends the process at once."""
        self.code = 128 + number
        signal.signal(number, signal.SIG_DFL)

    def agreed(self, step: int) -> bool:
        """Whether to stop after this step: the same answer in every process."""
        if not dist.is_initialized():
            return self.code != 0
        if step % EVERY:
            return False
        flag = torch.tensor(self.code, device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        self.code = int(flag)
        return self.code != 0


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Catches the first SIGINT and SIGTERM while inside, in the main thread (elsewhere Python cannot)."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
