import sys

import numpy as np
import pytest
from sklearn.decomposition import PCA

from hilum.errors import DependencyError, NumericalError, RecordsError
from hilum.metrics.projection import pca, umap


@pytest.mark.parametrize("shape", [(40, 6), (9, 30), (5, 1)])
def test_principal_components_are_those_of_scikit_learn_up_to_their_sign(shape):
    features = np.random.default_rng(0).normal(size=shape).astype(np.float32) * (1 + np.arange(shape[1]))
    places, share = pca(features)
    theirs = PCA(n_components=min(2, shape[1]), svd_solver="full").fit(features.astype(np.float64))
    known = theirs.transform(features.astype(np.float64))
    num = known.shape[1]
    np.testing.assert_allclose(np.abs(places[:, :num]), np.abs(known), atol=1e-9)
    np.testing.assert_allclose(share[:num], theirs.explained_variance_ratio_, atol=1e-12)
    assert places.shape == (shape[0], 2)
    assert (places[:, num:] == 0).all()


def test_a_component_points_where_its_largest_loading_is_positive():
    features = np.random.default_rng(1).normal(size=(30, 4))
    places, _ = pca(features)
    turned, _ = pca(features[::-1].copy())
    np.testing.assert_allclose(turned[::-1], places, atol=1e-9)
    mirrored, _ = pca(-features)
    np.testing.assert_allclose(np.abs(mirrored), np.abs(places), atol=1e-9)
    centred = features - features.mean(0)
    for place in places.T:
        loading = centred.T @ place
        assert loading[np.abs(loading).argmax()] > 0


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(NumericalError, match="all 5 films are the same"):
        pca(np.full((5, 3), 0.7, np.float32))
    with pytest.raises(NumericalError, match="1 of 4 films are not finite"):
        pca(np.array([[0.0, 1], [1, 0], [np.nan, 1], [2, 2]]))
    with pytest.raises(RecordsError, match="3 films or more; found 2"):
        pca(np.eye(2))


def test_without_umap_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(DependencyError, match=r"pip install hilum\[umap\]"):
        umap(np.eye(4))


@pytest.mark.slow  # umap compiles for half a minute
@pytest.mark.parametrize("num", [5, 40])
def test_umap_keeps_two_clusters_apart_and_repeats_itself(num):
    pytest.importorskip("umap")
    random = np.random.default_rng(0)
    features = random.normal(size=(num, 8)) * 0.05 + np.eye(8)[np.arange(num) % 2 * 3]
    places = umap(features, seed=3)
    assert places.shape == (num, 2)
    np.testing.assert_array_equal(places, umap(features, seed=3))
    if num == 40:
        centres = np.stack([places[side::2].mean(0) for side in (0, 1)])
        distances = np.linalg.norm(places[:, None] - centres[None], axis=2)
        assert (distances.argmin(1) == np.arange(num) % 2).all()
