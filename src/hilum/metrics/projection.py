"""Embeddings in two dimensions: by principal components, or by UMAP."""

import warnings

import numpy as np
from jaxtyping import Float

from hilum.errors import DependencyError, NumericalError, RecordsError

FEWEST = 3
"""Films below which a plane holds them all and shows nothing."""


def pca(
    features: Float[np.ndarray, "N D"], *, dimensions: int = 2
) -> tuple[Float[np.ndarray, "N K"], Float[np.ndarray, " K"]]:
    """Coordinates along the principal components, and the share of the variance that each explains.

    Each component points where its largest loading is positive, so that equal embeddings give equal maps.

    Raises:
        NumericalError: embeddings are not finite, or are all the same.
        RecordsError: there are too few.
    """
    _refuse_unusable(features)
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    # The triangle of a QR has the same singular values and directions, and only D rows.
    small = np.linalg.qr(centred, mode="r") if len(centred) > 2 * centred.shape[1] else centred
    _, sizes, directions = np.linalg.svd(small, full_matrices=False)
    if not sizes[0] > 1e-9 * max(1.0, float(np.abs(features).max())):
        raise NumericalError(f"the embeddings of all {len(features):,} films are the same: it has collapsed")
    directions, share = directions[:dimensions], (sizes**2 / (sizes**2).sum())[:dimensions]
    largest = directions[np.arange(len(directions)), np.abs(directions).argmax(1)]
    places = centred @ (directions * np.sign(largest)[:, None]).T
    lacking = ((0, 0), (0, dimensions - places.shape[1]))
    return np.pad(places, lacking), np.pad(share, lacking[1])


def umap(features: Float[np.ndarray, "N D"], *, seed: int = 0) -> Float[np.ndarray, "N 2"]:
    """Coordinates by UMAP of cosine distances (https://arxiv.org/abs/1802.03426).

    Distances between clusters and their sizes mean nothing there.

    Raises:
        DependencyError: umap-learn is not installed.
        NumericalError: embeddings are not finite.
        RecordsError: there are too few.
    """
    _refuse_unusable(features)
    with warnings.catch_warnings():
        # Importing it and its numba warn of their own deprecations, of which a user can make nothing.
        warnings.simplefilter("ignore")
        try:
            from umap import UMAP  # type: ignore[import-untyped]
        except ImportError:
            raise DependencyError(
                "--projection umap needs umap-learn: pip install hilum[umap]. --projection pca does without"
            ) from None
        neighbours = min(15, len(features) - 1)
        start = "spectral" if len(features) > 15 else "random"  # too few films have no spectrum to start from
        fitted = UMAP(
            n_neighbors=neighbours, metric="cosine", init=start, random_state=seed, n_jobs=1
        ).fit_transform(features)
    return np.asarray(fitted, np.float64)


def _refuse_unusable(features: Float[np.ndarray, "N D"]) -> None:
    if len(features) < FEWEST:
        raise RecordsError(f"a map needs {FEWEST} films or more; found {len(features)}")
    wrong = ~np.isfinite(features).all(1)
    if wrong.any():
        raise NumericalError(f"the embeddings of {wrong.sum():,} of {len(features):,} films are not finite")
