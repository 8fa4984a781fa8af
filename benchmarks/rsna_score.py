"""The RSNA score of 3,000 films at 16 thresholds and 8 overlaps: `rsna_scores` against the triple loop.

The loop is what the challenge's entrants ran: films, thresholds, overlaps, and within them boxes against
boxes, in Python with numpy's IoU for a film at a time. Both see the same boxes, 12 detections a film; the
largest difference of a film's score is printed. CPU seconds of one thread, median of three turns.

    python benchmarks/rsna_score.py
"""

import statistics
import sys
import time

import numpy as np

from hilum.metrics.boxes import Boxes, overlap
from hilum.metrics.detection import RSNA_IOUS, rsna_scores

FILMS, DETECTIONS = 3_000, 12
THRESHOLDS = np.array([0.05, 0.1, 0.15, 0.2, 0.25, 0.28, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 2]) / 5


def main() -> None:
    """Both in turn."""
    films, film, box, score, true_film, true_box = sample(np.random.default_rng(0))
    ours, theirs = [], []
    for _ in range(3):
        begin = time.process_time()
        boxes = Boxes.of(films, film, box, score, true_film, true_box)
        mine = rsna_scores(boxes, THRESHOLDS)
        ours.append(time.process_time() - begin)
        begin = time.process_time()
        slow = loop(films, film, box, score, true_film, true_box)
        theirs.append(time.process_time() - begin)
    gap = np.nanmax(np.abs(mine - slow))
    assert (np.isnan(mine) == np.isnan(slow)).all()
    ratio = statistics.median(theirs) / statistics.median(ours)
    sys.stdout.write(
        f"{films:,} films x {len(THRESHOLDS)} thresholds x {len(RSNA_IOUS)} overlaps, "
        f"{len(score):,} detections, {len(true_film):,} true boxes\n"
        f"  triple loop {statistics.median(theirs):6.2f} s, rsna_scores {statistics.median(ours):6.3f} s\n"
        f"ratio {ratio:.0f} (aim: 40 or more); largest difference {gap:.0e}\n"
    )


def sample(random: np.random.Generator) -> tuple:
    """A fifth of the films with one or two boxes; detections near some of them, the rest anywhere."""
    true_film, true_box, film, box = [], [], [], []
    for number in range(FILMS):
        there = random.integers(1, 3) if random.random() < 0.2 else 0
        for _ in range(there):
            x, y, w, h = *random.uniform(0, 500, 2), *random.uniform(100, 400, 2)
            true_film.append(number)
            true_box.append([x, y, x + w, y + h])
        for k in range(DETECTIONS):
            film.append(number)
            if k < there:
                box.append(np.array(true_box[-1 - k]) + random.normal(0, 25, 4))
            else:
                x, y, w, h = *random.uniform(0, 600, 2), *random.uniform(80, 350, 2)
                box.append(np.array([x, y, x + w, y + h]))
    score = random.beta(0.6, 4, len(film))
    return FILMS, np.array(film), np.array(box), score, np.array(true_film), np.array(true_box)


def loop(films, film, box, score, true_film, true_box) -> np.ndarray:
    """Films, thresholds, overlaps."""
    scores = np.full((films, len(THRESHOLDS)), np.nan)
    for number in range(films):
        mine = np.flatnonzero(film == number)
        mine = mine[np.argsort(-score[mine], kind="stable")]
        true = true_box[true_film == number]
        for column, cut in enumerate(THRESHOLDS):
            given = box[mine[score[mine] >= cut]]
            if not len(given) and not len(true):
                continue
            iou = overlap(given[:, None], true[None]) if len(true) else np.zeros((len(given), 0))
            values = []
            for need in RSNA_IOUS:
                free = set(range(len(true)))
                hits = 0
                for row in iou:
                    best = max(free, key=lambda g: row[g], default=None)
                    if best is not None and row[best] >= need:
                        free.remove(best)
                        hits += 1
                values.append(hits / (len(given) + len(true) - hits))
            scores[number, column] = np.mean(values)
    return scores


if __name__ == "__main__":
    main()
