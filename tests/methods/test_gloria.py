import math

import numpy as np
import pytest
import torch

from hilum.config import settings_in
from hilum.errors import ConfigError
from hilum.find import path
from hilum.images.spec import InputSpec
from hilum.methods.gloria import GLoRIA, contrast, cosines, local_similarity
from hilum.models.encoder import Encoder
from tests import toys

DEFAULTS = settings_in(path("hilum.methods", "gloria"))()


def gloria(encoder: Encoder | None = None, **changes) -> GLoRIA:
    own = DEFAULTS.model_dump() | {"text_model": toys.bert()}
    return GLoRIA(encoder or toys.encoder(), **(own | changes))


def softmax(values):
    powers = np.exp(np.array(values) - max(values))
    return powers / powers.sum()


def slow_similarity(regions, words, attention_scale, word_scale):
    """One radiograph (R, D) and the words (W, D) of one text: section 3.2.2 of the paper, word by word."""
    s = [[word @ region for region in regions] for word in words]
    shares = np.array([softmax([s[i][j] for i in range(len(words))]) for j in range(len(regions))]).T
    total = 0.0
    for i, word in enumerate(words):
        a = softmax([attention_scale * shares[i][j] for j in range(len(regions))])
        c = sum(a[j] * regions[j] for j in range(len(regions)))
        total += math.exp(word_scale * (c @ word) / math.sqrt(c @ c) / math.sqrt(word @ word))
    return math.log(total)


def slow_contrast(similarity, scale):
    total = 0.0
    for i in range(len(similarity)):
        total -= math.log(softmax([scale * value for value in similarity[i]])[i])
        total -= math.log(softmax([scale * row[i] for row in similarity])[i])
    return total / len(similarity)


@pytest.fixture
def made():
    """Regions of 5 radiographs, words of 5 texts of 1 to 4 words, and which places hold a word."""
    random = np.random.default_rng(0)
    counts = [4, 1, 3, 2, 4]
    real = np.arange(4) < np.array(counts)[:, None]
    return random.normal(size=(5, 9, 6)), random.normal(size=(5, 4, 6)), real


@pytest.mark.parametrize(("attention_scale", "word_scale"), [(4.0, 5.0), (1.0, 1.0), (20.0, 0.5)])
def test_local_similarities_are_those_of_a_loop(made, attention_scale, word_scale):
    regions, words, real = made
    fast = local_similarity(
        *(torch.tensor(part) for part in made), attention_scale=attention_scale, word_scale=word_scale
    )
    for i in range(5):
        for j in range(5):
            slow = slow_similarity(regions[i], words[j][real[j]], attention_scale, word_scale)
            assert float(fast[i, j]) == pytest.approx(slow, rel=1e-5), (i, j)


def test_both_losses_are_those_of_a_loop(made):
    random = np.random.default_rng(1)
    v, u = random.normal(size=(2, 5, 6))
    similarity = [[a @ b / math.sqrt(a @ a) / math.sqrt(b @ b) for b in u] for a in v]
    whole = contrast(cosines(torch.tensor(v), torch.tensor(u)), scale=10.0)
    assert float(whole) == pytest.approx(slow_contrast(similarity, 10.0), rel=1e-5)
    regions, words, real = made
    similarity = [
        [slow_similarity(r, w[ok], 4.0, 5.0) for w, ok in zip(words, real, strict=True)] for r in regions
    ]
    fast = local_similarity(*(torch.tensor(part) for part in made), attention_scale=4.0, word_scale=5.0)
    assert float(contrast(fast, scale=10.0)) == pytest.approx(slow_contrast(similarity, 10.0), rel=1e-5)


def test_what_stands_in_places_without_a_word_does_not_matter(made):
    regions, words, real = (torch.tensor(part) for part in made)
    scales = {"attention_scale": 4.0, "word_scale": 5.0}
    other = torch.where(real[..., None], words, 77.0)
    assert torch.allclose(
        local_similarity(regions, words, real, **scales), local_similarity(regions, other, real, **scales)
    )


def test_a_text_without_words_matches_nothing_and_has_no_gradient(made):
    regions, words, real = (torch.tensor(part) for part in made)
    real[2] = False
    words.requires_grad_()
    found = local_similarity(regions, words, real, attention_scale=4.0, word_scale=5.0)
    contrast(found, scale=10.0).backward()
    assert not found[:, 2].any()
    assert words.grad.isfinite().all()
    assert not words.grad[2].any()


def test_the_loss_of_a_batch_is_that_of_its_parts():
    batch = toys.ToyLoader(batch_size=4).batch(0).to("cpu", toys.SPEC)
    task = gloria(local_weight=0.3, global_weight=2.0).eval()
    with torch.no_grad():
        terms = task(batch)
        assert float(terms["loss"]) == pytest.approx(
            0.3 * float(terms["local_loss"]) + 2 * float(terms["global_loss"]), rel=1e-5
        )
        maps = task.model.feature_maps(batch.views[0])
        regions = task.project_regions(maps[-2]).flatten(2).transpose(1, 2).numpy()
        assert regions.shape[1] == maps[-2].shape[2] * maps[-2].shape[3] > 1
        similarity = []
        for i in range(4):
            row = []
            for text in batch.texts:
                tokens = task.text.tokenize([text.replace(".", "")])
                states = task.text(tokens, layers=4)[0].numpy()
                words = [states[tokens.words[0] == k].sum(0) for k in range(int(tokens.words.max()) + 1)]
                assert len(words) == len(text.split())
                row.append(slow_similarity(regions[i], words, 4.0, 5.0))
            similarity.append(row)
    assert float(terms["local_loss"]) == pytest.approx(slow_contrast(similarity, 10.0), rel=1e-4)


@pytest.mark.parametrize("regions", ["last", "before_last"])
def test_every_trainable_weight_of_the_task_gets_a_gradient(regions):
    task = gloria(regions=regions)
    maps = task.model.feature_maps(torch.zeros(2, 1, 32, 32))
    assert task.project_regions.in_channels == maps[-1 if regions == "last" else -2].shape[1]
    task(toys.ToyLoader().batch(0).to("cpu", toys.SPEC))["loss"].backward()
    assert [n for n, w in task.named_parameters() if w.requires_grad and w.grad is None] == []


def test_an_encoder_with_one_map_needs_the_last():
    single = Encoder("torchvision/squeezenet1_0", InputSpec(side=64))
    with pytest.raises(ConfigError, match="--regions last"):
        gloria(single)
    assert gloria(single, regions="last").model is single


def test_the_score_is_the_mean_of_global_and_local_over_a_group():
    task = gloria().eval()
    images = toys.ToyLoader(batch_size=3).batch(0).to("cpu", toys.SPEC).views[0]
    groups = [["edema is seen", "edema"], ["no edema"]]
    with torch.no_grad():
        got = task.scorer(groups)(images)
        for j, group in enumerate(groups):
            alone = torch.stack([task.scorer([[text]])(images)[:, 0] for text in group]).mean(0)
            assert torch.allclose(got[:, j], alone, atol=1e-5)
