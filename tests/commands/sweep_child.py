"""A pretraining for tests of the sweep itself, quick and without torch: its score is what its lr says.

At --lr 0.5 it fails as a user's mistake does, at 0.6 it is killed, at 0.7 it waits until it is asked to stop.
"""

import json
import math
import os
import signal
import sys
import time
from pathlib import Path

from hilum.commands import settings_of
from hilum.run import Run


def follow_the_sweep() -> None:
    while os.read(0, 4096):
        pass
    os._exit(143)


def main() -> int:
    (stage,) = json.loads(sys.stdin.readline())
    config = settings_of("pretrain", stage["settings"]["method"]).build(stage["settings"], "test")
    with Path(os.environ["STARTED"]).open("a") as file:
        file.write(f"{config.out.name}\n")
    if config.lr == 0.5:
        sys.stderr.write("some line\nhilum: the table has a hole\nin row 3\n")
        return 65
    if config.lr == 0.6:
        os.kill(os.getpid(), signal.SIGKILL)
    run = Run.open(config.out, config, {})
    if config.lr == 0.7:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
        follow_the_sweep()
    best = 1 - abs(math.log10(config.lr) + 2) / 10  # at lr 0.01
    for epoch in range(1, 4):
        run.log({"step": epoch, "toy_auroc": best - 0.1 / epoch, "toy_loss": 1 - best})
        time.sleep(float(os.environ.get("EPOCH", 0)))
    run.finish({})
    return 0


if __name__ == "__main__":
    sys.exit(main())
