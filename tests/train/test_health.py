import logging
import math

import numpy as np
import pytest
import torch

from hilum.train.health import Watch, feature_std, rankme


def spread(rows: int = 400, columns: int = 64) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))


def test_rankme_is_the_exponential_of_the_entropy_of_singular_values():
    features = spread(20, 8)
    values = np.linalg.svd(features.numpy(), compute_uv=False)
    share = values / values.sum()
    assert rankme(features) == pytest.approx(math.exp(-sum(p * math.log(p) for p in share)), rel=1e-4)


def test_embeddings_that_fill_r_dimensions_have_a_rankme_of_r():
    basis = torch.linalg.qr(spread(64, 4))[0]
    assert rankme(torch.eye(4).repeat(25, 1) @ basis.T) == pytest.approx(4, rel=1e-3)


def test_feature_std_is_near_1_when_spread_and_near_0_when_constant():
    assert feature_std(spread()) == pytest.approx(1, abs=0.05)
    assert feature_std(torch.ones(400, 64) + 1e-4 * spread()) < 0.01


@pytest.mark.parametrize("collapsed", ["constant", "rank 4"])
def test_collapse_is_warned_of_once_it_happens(collapsed, caplog):
    watch = Watch()
    healthy = spread()
    noise = 1e-3 * spread()
    flat = torch.ones(400, 64) + noise if collapsed == "constant" else spread(400, 4) @ spread(4, 64) + noise
    with caplog.at_level(logging.WARNING):
        for step in range(5):
            watch.look(healthy + 0.1 * step)
        assert caplog.text == ""
        watch.look(flat)
    assert "collapse: embeddings of 400 radiographs use" in caplog.text
