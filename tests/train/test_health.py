import logging
import math
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hilum import find
from hilum.commands.pretrain import task_in
from hilum.config import TrainConfig, settings_in
from hilum.data.batch import Batch
from hilum.metrics.classification import auroc
from hilum.run import Run
from hilum.train.health import (
    NEIGHBOURS,
    TEMPERATURE,
    Watch,
    alignment,
    feature_std,
    neighbour_auroc,
    probe_rows,
    rankme,
    uniformity,
)
from hilum.train.loop import fit
from hilum.train.task import Task
from tests import toys


def spread(rows: int = 400, columns: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


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


def unit(row):
    length = math.sqrt(sum(float(x) ** 2 for x in row))
    return [float(x) / length for x in row]


def squared(one, other):
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def test_alignment_is_the_mean_squared_distance_of_pairs():
    za, zb = spread(12, 5), spread(12, 5, seed=1)
    slow = sum(squared(unit(a), unit(b)) for a, b in zip(za, zb, strict=True)) / 12
    assert alignment(za, zb) == pytest.approx(slow, rel=1e-5)
    assert alignment(za, 3 * za) == pytest.approx(0, abs=1e-6)


def test_uniformity_is_the_logarithm_of_the_mean_gaussian_potential():
    z = spread(12, 5)
    pairs = [math.exp(-2 * squared(unit(a), unit(b))) for a, b in combinations(z, 2)]
    assert uniformity(z) == pytest.approx(math.log(sum(pairs) / len(pairs)), rel=1e-5)
    assert uniformity(torch.ones(12, 5)) == pytest.approx(0, abs=1e-6)


def test_the_neighbours_auroc_is_the_vote_of_the_nearest_others():
    z, chance = spread(60, 4), np.random.default_rng(0)
    labels = (z[:, 0].numpy() + chance.normal(size=60) > 0).astype(np.float32)
    labels[::9] = np.nan
    known = [i for i in range(60) if not math.isnan(labels[i])]
    scores = []
    for i in known:
        cosine = {j: sum(a * b for a, b in zip(unit(z[i]), unit(z[j]), strict=True)) for j in known if j != i}
        nearest = sorted(cosine, key=lambda j: -cosine[j])[:NEIGHBOURS]
        weights = {j: math.exp(cosine[j] / TEMPERATURE) for j in nearest}
        scores.append(sum(w * labels[j] for j, w in weights.items()) / sum(weights.values()))
    slow = auroc(labels[known], np.array(scores))
    assert neighbour_auroc(z, torch.from_numpy(labels)) == pytest.approx(slow, abs=1e-6)
    assert 0.6 < slow < 1
    assert math.isnan(neighbour_auroc(z, torch.full((60,), torch.nan)))
    assert math.isnan(neighbour_auroc(z, torch.zeros(60)))


def test_the_probe_is_small_beside_a_step_and_half_of_it_shows_the_finding():
    assert len(probe_rows(10_000, images_per_step=128)) == 128
    assert len(probe_rows(10_000, images_per_step=64)) == 64
    assert len(probe_rows(20, images_per_step=64)) == 20
    labels = np.full(1000, np.nan)
    labels[:900] = 0
    labels[:40] = 1
    rows = probe_rows(1000, images_per_step=64, labels=labels)
    assert (labels[rows] == 1).sum() == (labels[rows] == 0).sum() == 32
    assert len(set(rows.tolist())) == 64
    labels[5:] = np.where(labels[5:] == 1, 0, labels[5:])
    rows = probe_rows(1000, images_per_step=64, labels=labels)
    assert sorted(labels[rows].tolist()) == [0] * 59 + [1] * 5


def watch_of(run):
    batch = toys.ToyLoader(num_views=2, batch_size=48).batch(0)
    return Watch([batch], run, precision="float32")


@pytest.fixture
def run(tmp_path):
    with Run.open(tmp_path / "run", TrainConfig(), {}) as opened:
        yield opened


@pytest.mark.parametrize("collapsed", ["constant", "rank 4"])
def test_collapse_is_warned_of_once_when_it_happens_and_remembered_across_a_resume(
    collapsed, run, caplog, monkeypatch
):
    healthy, noise = spread(48), 1e-3 * spread(48)
    flat = torch.ones(48, 64) + noise if collapsed == "constant" else spread(48, 4) @ spread(4, 64) + noise
    features = [healthy]
    monkeypatch.setattr(Watch, "_embed", lambda self, encoder: (features[-1], features[-1] + 0.1))
    watch, model = watch_of(run), toys.encoder()
    with caplog.at_level(logging.WARNING):
        for step in range(5):
            features.append(healthy + 0.1 * step)
            run.log({"step": step} | watch.look(model))
        assert caplog.text == ""
        again = watch_of(run)  # as after a restart: its best is in the run's rows
        features.append(flat)
        assert [again.look(model)["collapsed"] for _ in range(3)] == [True] * 3
    assert caplog.text.count("collapse: embeddings of 48 radiographs use") == 1
    assert again.best == pytest.approx(max(row["rankme"] for row in run.metrics()))


def test_an_untrained_encoder_is_looked_at_with_the_statistics_of_the_probe(run):
    encoder = toys.encoder()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    seen = watch_of(run).look(encoder)
    batch = toys.ToyLoader(num_views=2, batch_size=48).batch(0).to("cpu", encoder.input)
    encoder.train()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the batch's own statistics become the running ones
    with torch.no_grad():
        features = encoder(torch.cat(batch.views))[:48]
    assert seen["rankme"] == pytest.approx(rankme(features), rel=1e-3)
    encoder.load_state_dict(before)
    assert not watch_of(run).look(encoder)["collapsed"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


class Pulled(Task):
    """All radiographs are to have one embedding: collapse, asked for."""

    def __init__(self, encoder):
        super().__init__()
        self.model = encoder

    def forward(self, batch: Batch):
        z = functional.normalize(self.model(batch.views[0]).float(), dim=1)
        return {"loss": 1 - (z @ z.T).mean()}


def watched(task, path, steps, every, lr=1e-3):
    config = TrainConfig(steps=steps, batch_size=16, lr=lr, precision="float32", log_every=50)
    with Run.open(path, config, {}) as run:
        watch = watch_of(run)
        fit(task, toys.ToyLoader.of(task), config, run, validate=watch.look, validate_every=every)
        return [row for row in run.metrics() if "rankme" in row]


def test_a_run_that_collapses_is_flagged_within_200_steps(tmp_path, caplog):
    rows = watched(Pulled(toys.encoder()), tmp_path / "run", 200, 100, lr=1e-2)
    assert [row["step"] for row in rows] == [0, 100, 200]
    assert not rows[0]["collapsed"]
    assert rows[-1]["collapsed"]
    assert "collapse: embeddings" in caplog.text


HEALTHY = [
    m for m in ("simclr", "moco", "barlow_twins", "supervised", "byol") if m in find.names("hilum.methods")
]


@pytest.mark.parametrize("method", HEALTHY)
def test_a_healthy_run_is_never_flagged(method, tmp_path, caplog):
    task_class = task_in(method)
    settings = settings_in(find.path("hilum.methods", method))
    small = {"projector_sizes": [64, 64], "predictor_sizes": [64], "queue_size": 64}
    own = settings.build({k: v for k, v in small.items() if k in settings.model_fields}, method).model_dump()
    findings = {"findings": toys.FINDINGS} if "findings" in task_class.needs else {}
    task = task_class(toys.encoder(), **own, **findings)
    rows = watched(task, tmp_path / "run", 120, 20)
    assert len(rows) == 7
    assert not any(row["collapsed"] for row in rows)
    assert "collapse" not in caplog.text
