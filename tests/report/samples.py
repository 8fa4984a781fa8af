"""Synthetic predictions with known properties."""

import numpy as np
import pandas as pd

from hilum.records.predictions import Predictions
from hilum.records.table import Records

FINDINGS = ("Edema", "Effusion")


def sample(
    *,
    patients: int = 60,
    films: int = 3,
    findings: tuple[str, ...] = FINDINGS,
    prevalence: float = 0.35,
    strength: float = 1.5,
    seed: int = 0,
    splits: tuple[str, ...] = ("train", "val", "test"),
) -> tuple[Records, Predictions]:
    """Films of one patient share noise; probabilities are a logistic of label and noise."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), films)
    truth = (rng.random((len(owner), len(findings))) < prevalence).astype(np.float32)
    noise = rng.normal(size=(patients, len(findings)))[owner] * 0.6 + rng.normal(size=truth.shape) * 0.8
    score = 1 / (1 + np.exp(-(strength * (truth - 0.5) + noise)))
    base = pd.DataFrame(
        {
            "image": [f"/films/{i:04d}.png" for i in range(len(owner))],
            "patient": [f"p{i}" for i in owner],
            "split": [splits[i % len(splits)] for i in owner],
        }
    )
    return table(base, truth, findings), predicted(base, score, findings)


def table(base: pd.DataFrame, truth: np.ndarray, findings: tuple[str, ...]) -> Records:
    return Records(pd.concat([base, pd.DataFrame(truth, columns=list(findings))], axis=1), findings)


def predicted(base: pd.DataFrame, score: np.ndarray, findings: tuple[str, ...]) -> Predictions:
    return Predictions(pd.concat([base, pd.DataFrame(score, columns=list(findings))], axis=1), findings)
