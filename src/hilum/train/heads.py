"""Linear heads on cached features, their penalty chosen on validation."""

import logging

import numpy as np
from jaxtyping import Bool, Float32

from hilum.metrics.classification import auroc
from hilum.train.logistic import fit_logistic, fit_softmax

log = logging.getLogger(__name__)

PENALTIES = np.logspace(-6, 1, 15)
"""C of scikit-learn's LogisticRegression: small is a strong penalty."""


def fit_heads(
    features: Float32[np.ndarray, "N D"],
    labels: Float32[np.ndarray, "N F"],
    val_features: Float32[np.ndarray, "M D"],
    val_labels: Float32[np.ndarray, "M F"],
    *,
    subsets: Bool[np.ndarray, "S N"],
    exclusive: bool,
    penalty: float = 0.0,
    max_iter: int = 300,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights (F, D) and bias (F) of one head per subset of the training rows, for features as they are.

    Features are standardised by all training rows first, which takes no label; that is folded into the heads.
    Each finding has the penalty of the highest validation AUROC (exclusive findings share the one of the
    lowest validation cross entropy); among equals the strongest. With `penalty` above 0 all have that one.
    A head that needs more than `max_iter` iterations stays where it is then, and a warning counts them.
    """
    penalties = np.array([penalty]) if penalty else PENALTIES
    mean, scale = features.mean(0), features.std(0)
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    standard = (features - mean) / scale
    if exclusive:
        known = ~np.isnan(labels).all(1)
        fitted = fit_softmax(
            standard[known], labels[known], penalties, row_weights=subsets[:, known], max_iter=max_iter
        )
    else:
        fitted = fit_logistic(standard, labels, penalties, row_weights=subsets, max_iter=max_iter)
    weights, bias = np.asarray(fitted.weights), np.asarray(fitted.bias)
    standard_val = (val_features - mean) / scale
    heads = []
    for s in range(len(subsets)):
        logits = np.einsum("md,pfd->pmf", standard_val, weights[s], optimize=True) + bias[s][:, None]
        finding = np.arange(labels.shape[1])
        best = np.zeros_like(finding)
        if len(penalties) > 1:
            best = _by_cross_entropy(logits, val_labels) if exclusive else _by_auroc(logits, val_labels)
        weight = weights[s][best, finding] / scale
        heads.append((weight, bias[s][best, finding] - weight @ mean))
    return heads


def _by_auroc(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    best = []
    for f in range(labels.shape[1]):
        known = ~np.isnan(labels[:, f])
        values = [auroc(labels[known, f], scores[known, f]) for scores in logits]
        if np.isnan(values).all():
            log.warning("finding %d has one class only in validation; its penalty is the middle one", f)
            best.append(len(PENALTIES) // 2)
        else:
            best.append(int(np.nanargmax(values)))
    return np.array(best)


def _by_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    known = np.nansum(labels, 1) > 0
    shifted = logits - logits.max(2, keepdims=True)
    terms = shifted - np.log(np.exp(shifted).sum(2, keepdims=True))
    losses = -(terms * np.nan_to_num(labels)).sum(2)[:, known].mean(1)
    return np.full(labels.shape[1], int(losses.argmin()))
