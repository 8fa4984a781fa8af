import math
from dataclasses import asdict

import pytest
import torch

from hilum.errors import ConfigError
from hilum.images.spec import InputSpec
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.models.pooling import MEAN, Pooling, TopK
from hilum.models.weights import load, load_encoder, read_header, to_bytes
from tests import toys

COMBINE = ["mean", "weighted", "concatenate"]
SPEC = InputSpec(side=64)


def top_k(k=3, combine="weighted", channels=6, seed=0):
    torch.manual_seed(seed)
    return TopK(channels, k=k, combine=combine)


def slow_top_k(pool, feature_map):
    first, _, last = pool.score
    embeddings = []
    for one in feature_map:
        places = [one[:, row, column] for row in range(one.shape[1]) for column in range(one.shape[2])]
        scores = []
        for place in places:
            hidden = [max(0.0, float(w @ place + b)) for w, b in zip(first.weight, first.bias, strict=True)]
            scores.append(sum(float(w) * h for w, h in zip(last.weight[0], hidden, strict=True)))
        best = sorted(range(len(places)), key=lambda place: -scores[place])[: pool.k]
        total = sum(math.exp(scores[place]) for place in best)
        weights = [math.exp(scores[place]) / total for place in best]
        parts = [places[place] for place in best]
        if pool.combine == "concatenate":
            joined = torch.cat([pool.k * w * part for w, part in zip(weights, parts, strict=True)])
        elif pool.combine == "mean":
            joined = sum(parts) / pool.k
        else:
            joined = sum(w * part for w, part in zip(weights, parts, strict=True))
        embeddings.append(joined)
    return torch.stack(embeddings)


@pytest.mark.parametrize("combine", COMBINE)
def test_the_best_places_are_those_of_a_slow_loop(combine):
    pool = top_k(combine=combine)
    maps = torch.randn(4, 6, 3, 5)
    with torch.no_grad():
        found, expected = pool(maps), slow_top_k(pool, maps)
    assert found.shape == (4, pool.num_features)
    assert torch.allclose(found, expected, atol=1e-5)


def test_all_places_weighted_are_softmax_pooling():
    pool = top_k(k=20)
    maps = torch.randn(2, 6, 4, 5)
    weights = pool.scores(maps).flatten(1).softmax(1)
    assert torch.allclose(pool(maps), torch.einsum("bdn,bn->bd", maps.flatten(2), weights), atol=1e-6)


@pytest.mark.parametrize("combine", COMBINE)
def test_the_order_of_places_does_not_matter(combine):
    pool = top_k(combine=combine)
    maps = torch.randn(3, 6, 4, 4)
    order = torch.randperm(16)
    shuffled = maps.flatten(2)[:, :, order].reshape(maps.shape)
    assert torch.allclose(pool(shuffled), pool(maps), atol=1e-6)
    assert torch.allclose(pool.scores(shuffled).flatten(1), pool.scores(maps).flatten(1)[:, order], atol=1e-6)


def test_places_that_were_not_chosen_have_no_influence():
    pool = top_k()
    maps = torch.randn(1, 6, 4, 4, requires_grad=True)
    pool(maps).square().sum().backward()
    chosen = pool.scores(maps).flatten().topk(3).indices.sort().values
    assert maps.grad.flatten(2).any(1)[0].nonzero()[:, 0].tolist() == chosen.tolist()


@pytest.mark.parametrize("combine", COMBINE)
def test_the_scorer_gets_a_gradient(combine):
    pool = top_k(combine=combine)
    pool(torch.randn(4, 6, 3, 5)).square().sum().backward()
    assert all(weight.grad.any() for weight in pool.parameters())


def test_the_mean_gives_the_scorer_the_gradient_of_the_weighted_sum():
    maps, direction = torch.randn(4, 6, 3, 5), torch.randn(4, 6)
    gradients = []
    for combine in ("mean", "weighted"):
        pool = top_k(combine=combine)
        (pool(maps) * direction).sum().backward()
        gradients.append(pool.score[0].weight.grad)
    assert torch.allclose(*gradients, atol=1e-6)


@pytest.mark.parametrize("combine", COMBINE)
def test_a_contrastive_loss_teaches_the_scorer_where_the_signal_is(combine):
    # One cell of 16 holds what makes a film that film; the rest is noise that says so itself.
    torch.manual_seed(0)
    pool = top_k(k=2, combine=combine, channels=9)
    optimizer = torch.optim.Adam(pool.parameters(), lr=0.01)
    for _ in range(150):
        identity, views = torch.randn(32, 8), []
        for _ in range(2):
            maps = torch.randn(32, 9, 16)
            maps[:, 8] = 0
            places = torch.randint(16, (32,))
            maps[torch.arange(32), :8, places] = 3 * identity
            maps[torch.arange(32), 8, places] = 1
            views.append(pool(maps.reshape(32, 9, 4, 4)))
        za, zb = (torch.nn.functional.normalize(view) for view in views)
        loss = torch.nn.functional.cross_entropy(za @ zb.T / 0.5, torch.arange(32))  # InfoNCE
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = pool.scores(maps.reshape(32, 9, 4, 4)).flatten(1).argmax(1)
    assert (found == places).float().mean() > 0.9


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("combine", COMBINE)
def test_an_encoder_pools_its_last_map_by_scores(arch, combine):
    encoder = Encoder(arch, SPEC, pool="top_k", top_k=3, combine=combine).eval()
    images = torch.randn(2, 1, 64, 64)
    found = encoder(images)
    assert found.shape == (2, encoder.num_features)
    assert encoder.num_features == encoder.num_channels * (3 if combine == "concatenate" else 1)
    assert torch.equal(found, encoder.pool(encoder.feature_maps(images)[-1]))
    side = 64 // encoder.strides[-1]
    assert encoder.patch_scores(images).shape == (2, side, side)
    assert Classifier(encoder, ("Edema",), exclusive=False)(images).shape == (2, 1)


def test_the_class_token_is_the_first_token():
    encoder = Encoder("test_vit", SPEC, pool="token").eval()
    images = torch.randn(2, 1, 64, 64)
    prefix, patches = encoder.tokens(images)
    assert (prefix.shape, patches.shape) == ((2, 1, 64), (2, 16, 64))
    assert torch.equal(encoder(images), encoder.net.forward_features(images)[:, 0])
    assert torch.equal(patches.transpose(1, 2).reshape(2, 64, 4, 4), encoder.last_map(images))


def test_smaller_crops_pass_a_vit():
    encoder = Encoder("test_vit", SPEC).eval()
    assert encoder.tokens(torch.randn(2, 1, 32, 48))[1].shape == (2, 6, 64)
    assert encoder.last_map(torch.randn(2, 1, 32, 48)).shape == (2, 64, 2, 3)


def test_scores_are_computed_in_single_precision():
    encoder = Encoder("test_vit", SPEC, pool="top_k", top_k=3)
    with torch.autocast("cpu", torch.bfloat16):
        scores = encoder.patch_scores(torch.randn(2, 1, 64, 64))
        assert encoder(torch.randn(2, 1, 64, 64)).isfinite().all()
    assert scores.dtype == torch.float32


def test_what_cannot_be_pooled_is_refused_when_the_encoder_is_built():
    with pytest.raises(ConfigError, match=r"top_k is 17, but the encoder's last map has 4×4 = 16 places"):
        Encoder("test_vit", SPEC, pool="top_k", top_k=17)
    with pytest.raises(ConfigError, match="test_resnet has no class token"):
        Encoder("test_resnet", SPEC, pool="token")
    with pytest.raises(ConfigError, match="top_k is 1; expected 2 or more"):
        Encoder("test_vit", SPEC, pool="top_k", top_k=1)


def test_a_crop_with_too_few_places_is_refused():
    encoder = Encoder("test_vit", SPEC, pool="top_k", top_k=5)
    with pytest.raises(ConfigError, match="2×2 = 4 places"):
        encoder(torch.randn(2, 1, 32, 32))


def test_encoders_say_what_they_cannot_show():
    images = torch.randn(1, 1, 64, 64)
    with pytest.raises(ConfigError, match="pools by mean and scores no patches"):
        Encoder("test_vit", SPEC).patch_scores(images)
    with pytest.raises(ConfigError, match="no ViT and has no tokens"):
        Encoder("test_resnet", SPEC).tokens(images)
    with pytest.raises(ConfigError, match="class token, which is in no map"):
        Encoder("test_vit", SPEC, pool="token").pool(torch.randn(1, 64, 4, 4))


POOLINGS = [Pooling("token"), *(Pooling("top_k", 3, combine) for combine in COMBINE)]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("classifier", [False, True])
def test_a_file_alone_rebuilds_the_pooling(pooling, classifier, tmp_path):
    encoder = Encoder("test_vit", SPEC, **asdict(pooling)).eval()
    model = Classifier(encoder, ("Edema",), exclusive=False).eval() if classifier else encoder
    if classifier:
        torch.nn.init.normal_(model.head.weight)
    (tmp_path / "model.safetensors").write_bytes(to_bytes(model))
    again = load(tmp_path)
    images = torch.randn(2, 1, 64, 64)
    assert torch.equal(again(images), model(images))
    assert (again.encoder if classifier else again).pooling == pooling
    assert load_encoder(tmp_path, arch="", input_spec=SPEC).pooling == pooling


def test_a_file_from_before_poolings_pools_by_the_mean(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(to_bytes(toys.encoder()))
    assert b"pooling" not in path.read_bytes()  # so that a version without poolings reads it too
    assert read_header(path).pooling == MEAN
    assert load(path).top_k is None


@pytest.mark.parametrize("ours", [False, True])
def test_a_backbone_without_a_scorer_gets_a_new_one_and_the_log_says_so(ours, tmp_path, caplog):
    source = Encoder("test_resnet", SPEC)
    path = tmp_path / ("ours.safetensors" if ours else "others.pth")
    if ours:
        path.write_bytes(to_bytes(source))
    else:
        torch.save(source.net.state_dict(), path)
    with caplog.at_level("INFO"):
        found = load_encoder(path, arch="test_resnet", input_spec=SPEC, pooling=Pooling("top_k", 2))
    images = torch.randn(2, 1, 64, 64)
    assert torch.equal(found.last_map(images), source.eval().last_map(images))
    assert "pooled by top_k from here on; the scorer of patches is new" in caplog.text
    assert found.patch_scores(images).shape == (2, 2, 2)


def test_a_scorer_in_the_file_is_kept_whatever_is_taken_by_it(tmp_path):
    source = Encoder("test_vit", SPEC, pool="top_k", top_k=3).eval()
    path = tmp_path / "model.safetensors"
    path.write_bytes(to_bytes(source))
    images = torch.randn(2, 1, 64, 64)
    for asked in (None, Pooling("top_k", 3), Pooling("top_k", 5, "concatenate")):
        found = load_encoder(path, arch="", input_spec=SPEC, pooling=asked)
        assert torch.equal(found.patch_scores(images), source.patch_scores(images))
        assert found.pooling == (asked or source.pooling)
