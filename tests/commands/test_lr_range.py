import json

import cv2
import numpy as np
import pytest

import hilum
from hilum.errors import ConfigError, OutputError
from hilum.images.phantom import write_phantoms
from hilum.train.range_test import has_diverged, smooth, suggest, sweep


def curve(rates, noise=0.0):
    """A loss that falls most at 1e-3, is lowest at 1e-1 and grows without bound after it."""
    x = np.log10(rates)
    fall = 2 - 1 / (1 + np.exp(-6 * (x + 3)))
    return fall + 3 * np.clip(x + 1, 0, None) ** 2 + np.random.default_rng(0).normal(0, noise, len(x))


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_suggestions_are_where_the_curve_was_made_to_have_them(noise):
    rates = sweep(1e-6, 10, 150)
    losses = curve(rates, noise)
    end = next(n for n in range(1, 151) if has_diverged(losses[:n], 150))
    assert -1 < np.log10(rates[end]) < 0.6
    found = suggest(rates[:end], losses[:end], planned=150)
    assert abs(np.log10(found.steepest_fall) + 3) < (0.1 if noise == 0 else 0.6)
    assert -2 < np.log10(found.highest_before_divergence) < -0.5
    assert found.diverged


def test_a_loss_that_only_falls_or_only_shakes_does_not_diverge():
    rates = sweep(1e-6, 1e-1, 100)
    falling = curve(rates)
    shaking = 5 + np.random.default_rng(0).normal(0, 0.5, 100)
    negative = -1 - np.linspace(0, 1, 100)
    for losses in (falling, shaking, negative):
        assert not any(has_diverged(losses[:n], 100) for n in range(1, 101))
    assert not suggest(rates, falling, planned=100).diverged


def test_smoothing_is_the_gaussian_mean_of_its_neighbours():
    losses = np.random.default_rng(0).normal(size=50)
    smoothed = smooth(losses, 50)
    for i in (0, 20, 49):
        weights = [np.exp(-((i - j) ** 2) / 2 / (0.04 * 50) ** 2) for j in range(50)]
        assert smoothed[i] == pytest.approx(
            sum(w * x for w, x in zip(weights, losses, strict=True)) / sum(weights)
        )


def test_a_sweep_leaves_its_curve_and_a_picture(tmp_path, caplog):
    table = write_phantoms(tmp_path / "phantoms", count=24, seed=1, size=48)
    asked = {
        "records": table, "store": tmp_path / "store", "store_size": 40, "arch": "test_resnet",
        "image_size": 32, "batch_size": 8, "workers": 0, "threads": 1, "precision": "float32", "steps": 30,
        "optimizer": "sgd", "lr_max": 1e4,
    }  # fmt: skip
    with caplog.at_level("INFO"):
        out = hilum.lr_range("supervised", **asked, out=tmp_path / "found")
    found = json.loads((out / "lr_range.json").read_text())
    count = len(found["lr"])
    assert len(found["loss"]) == len(found["smoothed"]) == count <= 30
    assert found["diverged"] == (count < 30)
    assert np.allclose(found["lr"], sweep(1e-6, 1e4, 30)[:count])
    assert found["steepest_fall"] <= found["highest_before_divergence"] <= found["lr"][-1]
    assert cv2.imread(str(out / "lr_range.png")) is not None
    assert "Steepest fall at --lr" in caplog.text
    with pytest.raises(OutputError, match="is there already"):
        hilum.lr_range("supervised", **asked, out=out)
    with pytest.raises(ConfigError, match="expected 0 < lr-min < lr-max"):
        hilum.lr_range("supervised", **(asked | {"lr_min": 1e5}), out=tmp_path / "other")
