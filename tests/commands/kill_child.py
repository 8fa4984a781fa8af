"""A short training in a process of its own, to be killed: `python kill_child.py RUN`."""

import sys
import time
from pathlib import Path

from hilum.config import TrainConfig
from hilum.run import Run
from hilum.train.loop import fit
from tests.test_contracts import task_of
from tests.toys import ToyLoader

STEPS = 12


def main(path: Path, pause: float) -> None:
    """Saves after every step and validation, so that a kill often meets a write."""
    task = task_of("moco")
    loader = ToyLoader(num_views=task.num_views)

    class Slow(ToyLoader):
        def batch(self, step: int):
            time.sleep(pause)
            return super().batch(step)

    loader.__class__ = Slow
    config = TrainConfig(
        steps=STEPS, batch_size=16, ema=0.9, log_every=1, save_minutes=0, precision="float32", threads=1
    )
    with Run.open(path, config, {}) as run:
        fit(task, loader, config, run)
        run.write("weights.bin", b"".join(t.numpy().tobytes() for t in task.state_dict().values()))
        run.finish({})


if __name__ == "__main__":
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    main(Path(sys.argv[1]), float(sys.argv[2]))
