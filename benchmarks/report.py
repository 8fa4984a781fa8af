"""Seconds of an evaluation: 25,000 radiographs x 14 findings x 2,000 replicates, as a report and its page.

Predictions are synthetic, three radiographs per patient, with a validation split of 5,000 for the thresholds
and the recalibration. The same numbers (AUROC, average precision and its averages, six metrics of decisions,
Brier score) by a loop over scikit-learn are timed on the first few replicates and scaled up to all of them:
its loop costs the same for each. Curves, calibration errors, slopes and the page are in hilum's time alone.

    python benchmarks/report.py
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import metrics as sk

from hilum.metrics.resampled import draw
from hilum.records.predictions import Predictions
from hilum.records.table import Records
from hilum.report.evaluate import Report, evaluate
from hilum.report.page import write_page

NUM, HELD, FINDINGS, REPLICATES, LOOPED = 25_000, 5_000, 14, 2_000, 2


def main() -> None:
    records, predictions = films()
    evaluate(predictions, records, replicates=64)  # what is imported and compiled once is not timed
    ours = np.zeros(2)
    for method in ("none", "platt"):
        start = clocks()
        report = evaluate(predictions, records, replicates=REPLICATES, calibrate=method)
        scored = clocks() - start
        with tempfile.TemporaryDirectory() as folder:
            write_page(report, Path(folder) / "report.html")
        written = clocks() - start - scored
        sys.stdout.write(
            f"--calibrate {method}: evaluate {scored[0]:.1f} s (CPU {scored[1]:.1f} s), "
            f"page {written[0]:.1f} s (CPU {written[1]:.1f} s)\n"
        )
        sys.stdout.flush()
        ours = scored if method == "none" else ours
    looped = loop(records, predictions, report)
    sys.stdout.write(
        f"scikit-learn, {LOOPED} of {REPLICATES:,} replicates timed and scaled up: {looped[0]:.0f} s "
        f"(CPU {looped[1]:.0f} s); ratio {looped[0] / ours[0]:.0f} (CPU {looped[1] / ours[1]:.0f})\n"
    )


def clocks() -> np.ndarray:
    """Seconds on the wall, and of the processor."""
    return np.array([time.perf_counter(), time.process_time()])


def films() -> tuple[Records, Predictions]:
    """Findings as rare and as common as in collections of chest radiographs: 0.5 % to 40 %."""
    rng = np.random.default_rng(0)
    names = tuple(f"finding {number}" for number in range(FINDINGS))
    share = np.geomspace(0.005, 0.4, FINDINGS)
    num = NUM + HELD
    truth = (rng.random((num, FINDINGS)) < share).astype(np.float64)
    score = 1 / (1 + np.exp(-1.5 * truth - rng.normal(size=truth.shape) - np.log(share / (1 - share))))
    base = pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(num)],
            "patient": [str(number // 3) if number < NUM else f"val{number // 3}" for number in range(num)],
            "split": ["test"] * NUM + ["val"] * HELD,
        }
    )
    tables = (pd.concat([base, pd.DataFrame(part, columns=list(names))], axis=1) for part in (truth, score))
    labels, scores = tables
    return Records(labels, names), Predictions(scores, names)


def loop(records: Records, predictions: Predictions, report: Report) -> np.ndarray:
    """Seconds of all replicates, estimated from those that were timed."""
    test = (records.table["split"] == "test").to_numpy()
    truth, score = records.labels[test], predictions.scores[test]
    patients = np.unique(records.table["patient"][test], return_inverse=True)[1]
    cuts = [threshold.value for threshold in report.thresholds]
    drawn = draw(int(patients.max()) + 1, 0, seed=0)[patients].astype(int)
    start = clocks()
    for replicate in range(LOOPED):
        rows = np.repeat(np.arange(len(truth)), drawn[:, replicate])
        labels, scores = truth[rows], score[rows]
        for average in ("micro", "weighted"):
            sk.roc_auc_score(labels, scores, average=average)
            sk.average_precision_score(labels, scores, average=average)
        for finding, cut in enumerate(cuts):
            label, value = labels[:, finding], scores[:, finding]
            called = value >= cut
            sk.roc_auc_score(label, value)
            sk.average_precision_score(label, value)
            sk.brier_score_loss(label, value)
            for metric in (sk.accuracy_score, sk.f1_score, sk.precision_score, sk.recall_score):
                metric(label, called)
            sk.precision_score(label, called, pos_label=0)
            sk.recall_score(label, called, pos_label=0)
    return (clocks() - start) * REPLICATES / LOOPED


if __name__ == "__main__":
    main()
