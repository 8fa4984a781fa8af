import math

import numpy as np
import pytest
import torch

from hilum.methods.clip import CLIP, clip_loss
from tests import toys

TEXT = {"text_model": "", "text_freeze": 0, "text_pool": "mean", "max_tokens": 64}


def clip(**changes) -> CLIP:
    text = TEXT | {"text_model": toys.bert(), "section": "whole", "sentences": 0}
    return CLIP(toys.encoder(), **(text | {"projection_dim": 16, "temperature": 0.07} | changes))


def pairs(count: int, seed: int = 0):
    random = np.random.default_rng(seed)
    v, u = random.normal(size=(2, count, 5))
    return (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (v, u))


def slow_clip_loss(v, u, scale):
    """Figure 3 of Radford et al., one softmax at a time."""
    total = 0.0
    for i in range(len(v)):
        text_of_film = math.exp(scale * v[i] @ u[i]) / sum(math.exp(scale * v[i] @ other) for other in u)
        film_of_text = math.exp(scale * v[i] @ u[i]) / sum(math.exp(scale * other @ u[i]) for other in v)
        total -= (math.log(text_of_film) + math.log(film_of_text)) / 2
    return total / len(v)


@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_the_loss_is_that_of_a_loop(scale):
    v, u = pairs(7)
    fast = clip_loss(torch.tensor(v), torch.tensor(u), torch.tensor(scale))
    assert float(fast) == pytest.approx(slow_clip_loss(v, u, scale), rel=1e-5)


def test_films_and_texts_may_change_places():
    v, u = (torch.tensor(z) for z in pairs(6))
    assert torch.allclose(clip_loss(v, u, torch.tensor(9.0)), clip_loss(u, v, torch.tensor(9.0)))


def test_the_scale_starts_at_one_over_the_temperature_and_stays_below_a_hundred():
    task = clip(temperature=0.07)
    assert float(task.log_scale.detach()) == pytest.approx(math.log(1 / 0.07))
    with torch.no_grad():
        task.log_scale.fill_(9.0)
    task.before_step(0.5)
    assert float(task.log_scale.detach()) == pytest.approx(math.log(100))


def test_every_trainable_weight_of_the_task_gets_a_gradient():
    task = clip()
    task(toys.ToyLoader().batch(0).to("cpu", toys.SPEC))["loss"].backward()
    without = [n for n, w in task.named_parameters() if w.requires_grad and w.grad is None]
    assert without == []


def test_texts_that_are_cut_or_lack_their_section_are_in_the_metrics():
    batch = toys.ToyLoader(batch_size=4).batch(0).to("cpu", toys.SPEC)
    terms = clip(max_tokens=5)(batch)
    assert (float(terms["cut_texts"]), float(terms["lacking_section"])) == (1, 0)
    terms = clip(section="findings")(batch)
    assert (float(terms["cut_texts"]), float(terms["lacking_section"])) == (0, 1)


def test_the_score_is_the_cosine_with_the_mean_of_a_group():
    task = clip().eval()
    images = toys.ToyLoader().batch(0).to("cpu", toys.SPEC).views[0]
    groups = [["edema", "edema is seen"], ["no edema"]]
    with torch.no_grad():
        got = task.scorer(groups)(images)
        for j, group in enumerate(groups):
            said = [task.project_text(task.text.embed([text])[0])[0] for text in group]
            mean = torch.stack([z / z.norm() for z in said]).mean(0)
            for i in range(len(images)):
                z = task.project(task.model(images))[i]
                assert float(got[i, j]) == pytest.approx(float(z @ mean / z.norm() / mean.norm()), abs=1e-5)
