"""How well a query finds what belongs to it: a film its text, a text its film, or films of the same label."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import hypergeom

from hilum.metrics.resampled import CHUNK, draw


def ranks(similarity: Float[np.ndarray, "Q K"], right: Bool[np.ndarray, "Q K"]) -> Float[np.ndarray, " Q"]:
    """The place, from 1, of each query's best right key among it and the wrong keys; NaN without a right key.

    A wrong key that is exactly as similar counts half: an encoder to which all is alike does as chance does.
    """
    best = np.where(right, similarity, -np.inf).max(1, initial=-np.inf, keepdims=True)
    before = ((similarity > best) & ~right).sum(1)
    beside = ((similarity == best) & ~right).sum(1)
    return np.where(right.any(1), 1 + before + beside / 2, np.nan)


def recall_at(places: Float[np.ndarray, " Q"], k: int) -> float:
    """The share of queries whose `ranks` is k or better; those without a right key are left out."""
    return float((places[~np.isnan(places)] <= k).mean()) if (~np.isnan(places)).any() else float("nan")


def precision_at(similarity: Float[np.ndarray, "Q K"], right: Bool[np.ndarray, "Q K"], k: int) -> float:
    """The share of right keys among each query's k most similar, averaged over queries that have a right key.

    Right is, for example, a film with the finding that the query names, or with the same label as the query;
    a film that is its own key is given the similarity -inf. Where keys are exactly alike at the k-th place,
    the mean over their orders counts.
    """
    assert 1 <= k <= similarity.shape[1], f"{k} of {similarity.shape[1]} keys"
    asked = right.any(1)
    if not asked.any():
        return float("nan")
    similarity, right = similarity[asked], right[asked]
    least = -np.sort(-similarity, axis=1)[:, k - 1 : k]
    above, level = similarity > least, similarity == least
    share = (k - above.sum(1)) / level.sum(1)
    return float((((above & right).sum(1) + share * (level & right).sum(1)) / k).mean())


def retrieval(
    similarity: Float[np.ndarray, "N N"], same: Int[np.ndarray, " N"], *, at: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Recall at some k and the median rank, both ways: rows are films, columns their texts.

    Args:
        similarity: of film i and the text of film j.
        same: a number for each different text; a film finds its text in any film with the same.
        at: the k of recall.
    """
    found: dict[str, float] = {}
    for name, places in _places(similarity, same).items():
        found |= {f"{name}_recall@{k}": recall_at(places, k) for k in at}
        found[f"{name}_median_rank"] = float(np.median(places))
    return found


def retrieval_intervals(
    similarity: Float[np.ndarray, "N N"],
    same: Int[np.ndarray, " N"],
    *,
    patient: Int[np.ndarray, " N"],
    at: Sequence[int] = (1, 5, 10),
    replicates: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """The numbers of `retrieval` with 95 % intervals and what an order by chance would give.

    The bootstrap draws patients, numbered from 0, as queries; what they search through stays as it is.
    """
    num_patients = int(patient.max()) + 1
    chunks = range(-(-replicates // CHUNK))
    drawn = np.concatenate([draw(num_patients, chunk, seed=seed) for chunk in chunks], axis=1)[:, :replicates]
    weights = drawn[patient].astype(np.float64)
    values = retrieval(similarity, same, at=at)
    keys = (same[:, None] == same[None]).sum(1)
    found = {}
    for name, places in _places(similarity, same).items():
        for k in at:
            found[f"{name}_recall@{k}"] = {
                **_interval((places <= k) @ weights / weights.sum(0)),
                "chance": float(hypergeom.sf(0, len(same), keys, min(k, len(same))).mean()),
            }
        order = np.argsort(places, kind="stable")
        half = (np.cumsum(weights[order], 0) >= weights.sum(0) / 2).argmax(0)
        found[f"{name}_median_rank"] = {**_interval(places[order][half]), "chance": (len(same) + 1) / 2}
    return {name: {"value": values[name], **rest} for name, rest in found.items()}


def _places(
    similarity: Float[np.ndarray, "N N"], same: Int[np.ndarray, " N"]
) -> dict[str, Float[np.ndarray, " N"]]:
    right = same[:, None] == same[None]
    return {"image_to_text": ranks(similarity, right), "text_to_image": ranks(similarity.T, right)}


def _interval(drawn: Float[np.ndarray, " R"]) -> dict[str, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"low": float(low), "high": float(high)}
