import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from hilum.config import settings_in
from hilum.find import path
from hilum.methods.convirt import ConVIRT, convirt_loss
from tests import toys

DEFAULTS = settings_in(path("hilum.methods", "convirt"))()


def convirt(**changes) -> ConVIRT:
    own = DEFAULTS.model_dump() | {"text_model": toys.bert(), "text_freeze": 0, "projection_dim": 16}
    return ConVIRT(toys.encoder(), **(own | changes))


def slow_convirt_loss(v, u, temperature, image_weight):
    """Equations 2 to 4 of Zhang et al., one pair at a time."""
    cosine = lambda a, b: a @ b / math.sqrt(a @ a) / math.sqrt(b @ b)  # noqa: E731
    total = 0.0
    for i in range(len(v)):
        own = math.exp(cosine(v[i], u[i]) / temperature)
        image = -math.log(own / sum(math.exp(cosine(v[i], u[k]) / temperature) for k in range(len(v))))
        text = -math.log(own / sum(math.exp(cosine(u[i], v[k]) / temperature) for k in range(len(v))))
        total += image_weight * image + (1 - image_weight) * text
    return total / len(v)


@pytest.mark.parametrize("image_weight", [0.75, 0.5, 0.0, 1.0])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_loss_is_that_of_a_loop(image_weight, temperature):
    v, u = np.random.default_rng(0).normal(size=(2, 6, 5))
    unit = [torch.nn.functional.normalize(torch.tensor(z), dim=1) for z in (v, u)]
    fast = convirt_loss(*unit, temperature=temperature, image_weight=image_weight)
    assert float(fast) == pytest.approx(slow_convirt_loss(v, u, temperature, image_weight), rel=1e-5)


def test_the_settings_are_those_of_the_paper():
    assert (DEFAULTS.image_weight, DEFAULTS.temperature, DEFAULTS.projection_dim) == (0.75, 0.1, 512)
    assert (DEFAULTS.sentences, DEFAULTS.text_freeze) == (1, 6)


def test_a_sentence_is_drawn_anew_each_epoch_and_the_same_after_a_restart(monkeypatch):
    task = convirt()
    heard = []
    monkeypatch.setattr(task.text, "embed", lambda texts: heard.append(texts) or embed(texts))
    embed = type(task.text).embed.__get__(task.text)
    batch = toys.ToyLoader().batch(0).to("cpu", toys.SPEC)
    for epoch in (0, 0, 1):
        task(replace(batch, epochs=torch.full_like(batch.epochs, epoch)))
    assert heard[0] == heard[1] != heard[2]
    for text, whole in zip(heard[0], batch.texts, strict=True):
        assert text in [f"{part}." for part in whole.rstrip(".").split(". ")]


def test_every_trainable_weight_of_the_task_gets_a_gradient():
    task = convirt()
    task(toys.ToyLoader().batch(0).to("cpu", toys.SPEC))["loss"].backward()
    assert [n for n, w in task.named_parameters() if w.requires_grad and w.grad is None] == []
