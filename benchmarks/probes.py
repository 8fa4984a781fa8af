"""A table of probes: 7 encoders x 3 fractions x 5 seeds x 14 findings, from cached features of 10,000 images.

Each of the 1,470 heads is fitted at 15 penalties, of which validation chooses, and is scored on the test
split: what `hilum transfer` does when features are cached. Features are those of `logistic.py`, synthetic, as
wide as the encoders' are. scikit-learn (LogisticRegression, its defaults but for max_iter 1000) fits one
finding at three of the penalties for each encoder and fraction, and is scaled up. That both find the same is
shown by `logistic.py`.

    python benchmarks/probes.py
"""

import statistics
import sys
import time

import numpy as np
from sklearn.linear_model import LogisticRegression

from hilum.metrics.classification import mean_auroc
from hilum.train.heads import PENALTIES, fit_heads

WIDTHS = {
    "resnet18": 512, "resnet50": 2048, "densenet121": 1024, "seresnext50": 2048, "convnext_tiny": 768,
    "vit_small": 384, "vit_base": 768,
}  # fmt: skip
FRACTIONS, SEEDS, FINDINGS = (0.01, 0.1, 1.0), 5, 14
TRAIN, VAL, TEST = 7_000, 1_000, 2_000
SAMPLED = (2, 7, 12)
"""Of the penalties."""


def main() -> None:
    """A line per encoder, and the ratio."""
    random = np.random.default_rng(0)
    ours, theirs = [], []
    for name, width in WIDTHS.items():
        x, y = films(random, width)
        subsets = draws(random, y[:TRAIN])
        parts = x[:TRAIN], y[:TRAIN], x[TRAIN : TRAIN + VAL], y[TRAIN : TRAIN + VAL]
        begin = time.perf_counter()
        heads = fit_heads(*parts, subsets=subsets, exclusive=False)
        scores = [x[-TEST:] @ weight.T + bias for weight, bias in heads]
        reached = [mean_auroc(y[-TEST:], score) for score in scores]
        ours.append(time.perf_counter() - begin)
        theirs.append(loop(x[:TRAIN], y[:TRAIN], subsets))
        sys.stdout.write(
            f"{name:14} {width:5} wide: {len(heads) * FINDINGS} heads {ours[-1]:6.1f} s, scikit-learn "
            f"{theirs[-1]:7.0f} s, ratio {theirs[-1] / ours[-1]:5.1f}; mean AUROC at 1, 10, 100 %: "
            + ", ".join(f"{statistics.mean(reached[i : i + SEEDS]):.3f}" for i in range(0, len(heads), SEEDS))
            + "\n"
        )
        sys.stdout.flush()
    sys.stdout.write(
        f"{len(WIDTHS)} encoders, {len(FRACTIONS)} fractions, {SEEDS} seeds, {FINDINGS} findings, "
        f"{len(PENALTIES)} penalties: {sum(ours) / 60:.1f} min, scikit-learn {sum(theirs) / 3600:.1f} h, "
        f"ratio {sum(theirs) / sum(ours):.0f}; aim: 20 or more\n"
    )


def films(random: np.random.Generator, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rectified mixtures of factors, and findings of 2 to 40 % that depend on the factors."""
    num, factors = TRAIN + VAL + TEST, min(width, 512)
    hidden = random.standard_normal((num, factors), np.float32)
    hidden *= np.arange(1, factors + 1, dtype=np.float32) ** -0.5
    mixed = hidden @ random.standard_normal((factors, width), np.float32)
    mixed /= mixed.std(0)
    x = np.maximum(mixed + 0.5 * random.standard_normal(mixed.shape, np.float32), 0)
    liability = hidden[:, :128] @ random.standard_normal((128, FINDINGS), np.float32)
    liability = liability / liability.std(0) + 1.2 * random.standard_normal(liability.shape, np.float32)
    cuts = [np.quantile(liability[:, f], 1 - p) for f, p in enumerate(np.geomspace(0.02, 0.4, FINDINGS))]
    return x, (liability > np.array(cuts)).astype(np.float32)


def draws(random: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Nested subsets, each with two positives or more of every finding; a row per fraction and seed."""
    orders = []
    while len(orders) < SEEDS:
        order = random.permutation(TRAIN)
        if labels[order[: round(FRACTIONS[0] * TRAIN)]].sum(0).min() >= 2:
            orders.append(np.argsort(order))
    return np.array([place < round(share * TRAIN) for share in FRACTIONS for place in orders])


def loop(x: np.ndarray, y: np.ndarray, subsets: np.ndarray) -> float:
    """Seconds that scikit-learn would need for all heads of an encoder."""
    standard = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
    total = 0.0
    for number, rows in enumerate(subsets[::SEEDS]):
        finding = (5 * number + 3) % FINDINGS
        seconds = []
        for place in SAMPLED:
            model = LogisticRegression(C=PENALTIES[place], max_iter=1000)
            begin = time.perf_counter()
            model.fit(standard[rows], y[rows, finding])
            seconds.append(time.perf_counter() - begin)
        total += statistics.mean(seconds) * SEEDS * FINDINGS * len(PENALTIES)
    return total


if __name__ == "__main__":
    main()
