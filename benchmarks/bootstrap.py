"""Bootstrap AUROC of 25,000 radiographs x 14 findings x 1,000 replicates, against a loop over scikit-learn.

Both score the same resamples of the patients, with one and with three radiographs per patient, with tied
scores (three decimals, as in a file of predictions) and without; the largest difference between their values
is printed. scikit-learn is timed on the first few replicates and scaled up to all of them: its loop costs the
same for each. Drawing the patients is in hilum's time and not in scikit-learn's.

    python benchmarks/bootstrap.py
"""

import sys
import time

import numpy as np
from sklearn.metrics import roc_auc_score

from hilum.metrics.bootstrap import bootstrap_values
from hilum.metrics.resampled import draw

NUM, FINDINGS, REPLICATES, LOOPED, ROUNDS = 25_000, 14, 1_000, 4, 3


def main() -> None:
    sys.stdout.write(
        f"{NUM:,} radiographs x {FINDINGS} findings x {REPLICATES:,} replicates; the loop's first {LOOPED} "
        f"replicates timed and scaled to {REPLICATES:,}; hilum's is the best of {ROUNDS}\n"
    )
    for per_patient in (1, 3):
        for decimals in (3, None):
            sys.stdout.write(compared(per_patient, decimals) + "\n")
            sys.stdout.flush()


def compared(per_patient: int, decimals: int | None) -> str:
    truth, score, patients = films(per_patient, decimals)
    ours = {}
    for threads in (1, 2):
        timed = []
        for _ in range(ROUNDS):
            clocks = time.perf_counter(), time.process_time()
            values = bootstrap_values(
                "auroc", truth, score, patients=patients, replicates=REPLICATES, threads=threads
            )
            timed.append((time.perf_counter() - clocks[0], time.process_time() - clocks[1]))
        ours[threads] = tuple(min(column) for column in zip(*timed, strict=True))
    wall, busy, looped = loop(truth, score, patients)
    gap = np.abs(looped - values[:LOOPED]).max()
    assert gap < 1e-12, gap
    return (
        f"{per_patient} per patient, {'tied' if decimals else 'distinct'} scores: "
        f"scikit-learn {wall:.0f} s (CPU {busy:.0f} s), "
        f"1 thread {ours[1][0]:.2f} s, ratio {wall / ours[1][0]:.0f} (CPU {busy / ours[1][1]:.0f}), "
        f"2 threads {ours[2][0]:.2f} s, ratio {wall / ours[2][0]:.0f}; largest difference {gap:.0e}"
    )


def films(per_patient: int, decimals: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Findings as rare and as common as in collections of chest radiographs: 0.5 % to 40 %."""
    rng = np.random.default_rng(0)
    truth = (rng.random((NUM, FINDINGS)) < np.geomspace(0.005, 0.4, FINDINGS)).astype(np.float32)
    score = 1 / (1 + np.exp(-truth - rng.normal(size=truth.shape)))
    return truth, score if decimals is None else score.round(decimals), np.arange(NUM) // per_patient


def loop(truth: np.ndarray, score: np.ndarray, patients: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Seconds and CPU seconds of all replicates, estimated, and the values of those that were timed."""
    drawn = draw(int(patients.max()) + 1, 0, seed=0)[patients].astype(int)
    values = np.empty((LOOPED, FINDINGS))
    clocks = time.perf_counter(), time.process_time()
    for replicate in range(LOOPED):
        rows = np.repeat(np.arange(NUM), drawn[:, replicate])
        for finding in range(FINDINGS):
            values[replicate, finding] = roc_auc_score(truth[rows, finding], score[rows, finding])
    scale = REPLICATES / LOOPED
    return scale * (time.perf_counter() - clocks[0]), scale * (time.process_time() - clocks[1]), values


if __name__ == "__main__":
    main()
