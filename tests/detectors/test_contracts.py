"""What every detector promises; a new file in hilum/detectors is tested by being there."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hilum import find
from hilum.commands import settings_of
from hilum.config import TrainConfig, settings_in
from hilum.data.batch import Batch
from hilum.errors import ConfigError
from hilum.images.spec import InputSpec
from hilum.losses import masked_cross_entropy
from hilum.models.detector import suppressed
from hilum.models.encoder import Encoder
from hilum.models.pyramid import Pyramid
from hilum.models.weights import detector_in, load, to_bytes
from hilum.train.detection import DetectionTask
from hilum.train.optim import optimizer_for

DETECTORS = find.names("hilum.detectors")
SIDE = 128
SMALL = {"width": 32, "head_depth": 1, "width_scale": 0.05}
FINDINGS = ("Mass", "Nodule")


def task_of(name, *, arch="resnet18", classes=(), seed=0, side=SIDE, **fitting):
    torch.manual_seed(seed)
    module = find.module("hilum.detectors", name)
    (task_class,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, DetectionTask)
        and value.__module__ == module.__name__
    )
    settings = settings_in(find.path("hilum.detectors", name))
    own = settings.build({k: v for k, v in SMALL.items() if k in settings.model_fields}, name).model_dump()
    ways = {"freeze": 0.0, "frozen_norm": False, "part_scales": {}, "film_weight": 0.1}
    return task_class(
        Encoder(arch, InputSpec(side=side)), findings=FINDINGS, classes=classes, **own, **ways | fitting
    )


def batch(num=4, seed=0):
    """Bright squares on dark films; the last film has none."""
    random = np.random.default_rng(seed)
    films = random.normal(60, 10, (num, 1, SIDE, SIDE)).clip(0, 255)
    boxes = np.full((num, 2, 5), np.nan, np.float32)
    for place in range(num - 1):
        x, y, w = (int(random.integers(*edges)) for edges in ((4, 60), (4, 60), (24, 60)))
        films[place, 0, y : y + w, x : x + w] += 120
        boxes[place, 0] = [x, y, x + w, y + w, place % 2]
    known = torch.arange(num)
    made = Batch(
        (torch.from_numpy(films.clip(0, 255).astype(np.uint8)),),
        torch.tensor([[1.0, 0, 0], [torch.nan] * 3, [0, 1, 0], [0, 0, 1]])[:num],
        known,
        torch.zeros(num, dtype=torch.long),
        boxes=torch.from_numpy(boxes),
    )
    return made.to("cpu", InputSpec(side=SIDE))


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_documents_its_settings_and_cites_its_paper(name):
    source = find.path("hilum.detectors", name)
    assert "https://" in source.read_text().split('"""')[1]
    assert all(field.description for field in settings_of("detect", name).model_fields.values())


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "bfloat16"])
def test_the_loss_is_a_finite_scalar_with_and_without_boxes(name, bfloat16):
    task = task_of(name)
    empty = replace(batch(), boxes=torch.full((4, 2, 5), torch.nan))
    for given in (batch(), empty):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            terms = task(given)
        assert all(value.ndim == 0 and torch.isfinite(value) for value in terms.values())
        assert terms["loss"].dtype == torch.float32


@pytest.mark.parametrize("name", DETECTORS)
def test_every_trainable_weight_gets_a_gradient(name):
    task = task_of(name)
    with torch.no_grad():
        for weight in task.parameters():
            if not weight.any():
                weight += 0.01
    task(batch())["loss"].backward()
    without = [n for n, w in task.named_parameters() if w.grad is None or not w.grad.any()]
    # No box is as large or as small as the outer levels are for; the classifier's own head is no part.
    assert [n for n in without if "levels" not in n and ".net.fc." not in n] == []


ON_LEVELS = {
    "fcos": {"score_head", "side_head", "score", "sides", "central"},
    "retinanet": {"score_head", "box_head"},
    "yolo_v3": set(),
}
"""Parts that look at levels of a pyramid."""


@pytest.mark.parametrize("name", DETECTORS)
def test_the_loss_and_its_gradient_are_the_same_in_every_layout(name, monkeypatch):
    found = {}
    for ability in ("AVX2", "AVX512"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda ability=ability: ability)
        task = task_of(name, frozen_norm=True).double()
        task.train().place(torch.device("cpu"))
        with torch.inference_mode():
            task.model.place(torch.device("cpu"))  # as validation does: what is placed stays as it is
        views = tuple(view.double() for view in batch().views)
        loss = task(replace(batch(), views=views))["loss"]
        loss.backward()
        kernels = [(n, w) for n, w in task.named_parameters() if w.ndim == 4 and min(w.shape[1:3]) > 1]
        plain = {n.split(".")[1] for n, w in kernels if w.is_contiguous()}
        last = {n.split(".")[1] for n, w in kernels if not w.is_contiguous()}
        assert plain == (ON_LEVELS[name] if ability == "AVX2" else set())
        assert "encoder" in last
        assert not plain & last
        found[ability] = {"": loss.detach()} | {n: w.grad for n, w in task.named_parameters()}
    for name, value in found["AVX512"].items():
        if value is not None:
            assert torch.allclose(found["AVX2"][name], value, rtol=1e-6, atol=1e-7), name


@pytest.mark.parametrize("name", DETECTORS)
def test_it_learns_where_bright_squares_are(name):
    task = task_of(name)
    optimizer = torch.optim.AdamW(task.parameters(), lr=2e-3)
    given = batch()
    losses = []
    for _ in range(40):
        loss = task(given)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


@pytest.mark.parametrize("name", DETECTORS)
def test_the_file_alone_rebuilds_it(name, tmp_path):
    task = task_of(name, classes=("a", "b") if name == "retinanet" else ())
    model = task.model.eval()
    (tmp_path / "model.safetensors").write_bytes(to_bytes(model, parent="random"))
    again = load(tmp_path / "model.safetensors")
    assert type(again) is detector_in(name)
    assert (again.findings, again.classes, again.settings) == (model.findings, model.classes, model.settings)
    images = batch().views[0]
    with torch.no_grad():
        one, other = model(images), again(images)
    assert all(torch.equal(one[key], other[key]) for key in one)
    boxes, scores = model.candidates(one, SIDE)
    assert boxes.shape[:2] == scores.shape[:2]
    assert scores.shape[2] == len(FINDINGS)
    assert boxes.min() >= 0
    assert boxes.max() <= SIDE
    assert (scores >= 0).all()
    assert (scores <= 1).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_equal_members_say_together_what_one_says(name):
    model = task_of(name, classes=("a", "b") if name == "retinanet" else ()).model.eval()
    with torch.no_grad():
        raw = model(batch().views[0])
        both = model.combined([raw, raw])
        for one, other in zip(model.candidates(raw, SIDE), model.candidates(both, SIDE), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


def test_an_encoder_can_be_held_still_and_its_statistics_too():
    task = task_of("retinanet", freeze=0.5)
    norm = task.model.encoder.net.bn1
    for progress, still in ((0.0, True), (0.4, True), (0.6, False)):
        task.train()
        task.before_step(progress)
        assert norm.training is not still
        assert task.model.encoder.net.conv1.weight.requires_grad is not still
        assert task.model.training
    assert not any(w.requires_grad for w in task_of("retinanet", freeze=1.0).model.encoder.parameters())
    frozen = task_of("fcos", frozen_norm=True).train()
    assert not frozen.model.encoder.net.bn1.training
    assert frozen.model.encoder.net.conv1.weight.requires_grad


def test_parts_of_a_detector_have_learning_rates_of_their_own():
    """As in kaggle-rsna's SGD: the encoder at a fifth of the pyramid's rate, boxes at twice it."""
    given = {"encoder": 0.2, "box_head": 2.0}
    task = task_of("retinanet", part_scales=given)
    config = TrainConfig(optimizer="sgd", lr=0.01)
    name_of = {id(weight): name for name, weight in task.named_parameters()}
    for group in optimizer_for(task, config).param_groups:
        parts = {name_of[id(weight)].split(".")[1] for weight in group["params"]}
        assert {given.get(part, 1.0) for part in parts} == {group["scale"]}
    with pytest.raises(
        ConfigError, match=r"--part-lr names 'neck'; the parts of yolo_v3 are blocks, encoder"
    ):
        task_of("yolo_v3", part_scales={"neck": 1.0})


def test_whole_films_are_told_apart_and_unknown_ones_weigh_nothing():
    task = task_of("retinanet", classes=("a", "b", "c")).eval()
    with torch.no_grad():
        terms = task(batch())
        logits = task.model(batch().views[0])["film"]
    assert float(terms["film_loss"]) == pytest.approx(float(masked_cross_entropy(logits, batch().labels)))
    parts = float(terms["score_loss"] + terms["box_loss"] + 0.1 * terms["film_loss"])
    assert float(terms["loss"]) == pytest.approx(parts)
    for name in ("fcos", "yolo_v3"):
        with pytest.raises(ConfigError, match="leave --film-column out"):
            task_of(name, classes=("a", "b"))


def test_encoders_that_have_no_such_maps_are_refused():
    with pytest.raises(ConfigError, match="yolo_v3 needs a network with stages"):
        task_of("yolo_v3", arch="vit_tiny_patch16_224")
    with pytest.raises(ConfigError, match="a detector needs"):
        task_of("retinanet", arch="torchvision/squeezenet1_0")


@pytest.mark.parametrize(
    "arch", ["vit_tiny_patch16_224", "densenet121", "convnext_atto", "efficientnet_b0", "seresnext50_32x4d"]
)
def test_pyramids_stand_on_other_encoders(arch):
    task = task_of("retinanet", arch=arch)
    terms = task(batch(2))
    assert torch.isfinite(terms["loss"])


def test_the_surest_of_boxes_that_overlap_stays_within_its_finding():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 1, 10, 11], [40, 40, 50, 50], [0, 0, 10, 10]])
    scores = torch.tensor([[0.6, 0.0], [0.9, 0.0], [0.3, 0.005], [0.0, 0.8]])
    found = suppressed(boxes, scores, floor=0.01, overlap=0.5, most=10)
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.3])
    assert found.labels.tolist() == [0, 1, 0]
    assert found.boxes[0].tolist() == [0, 1, 10, 11]
    assert len(suppressed(boxes, scores, floor=0.01, overlap=0.5, most=1).scores) == 1


def test_the_sixth_level_is_of_the_encoder_even_where_the_pyramid_is_as_wide():
    """Lin et al. 2017, section 4: a convolution on C5, not on P5."""
    encoder = Encoder("resnet18", InputSpec(side=SIDE))
    pyramid = Pyramid(encoder, width=encoder.widths[-1], first=3)
    with torch.no_grad():
        for weight in (*pyramid.levels.inner_blocks.parameters(), *pyramid.levels.layer_blocks.parameters()):
            weight.zero_()
        levels, _ = pyramid(encoder, torch.rand(1, 1, SIDE, SIDE))
    assert not levels[2].any()
    assert levels[3].any()


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_films_of_a_size_that_levels_do_not_fill_are_refused(name):
    """A DenseNet of 200 pixels has 12 cells of 16 where anchors are laid for 13."""
    with pytest.raises(ConfigError, match=r"--image-size is 200; .* a multiple of 32: 192 or 224"):
        task_of(name, arch="densenet121", side=200)
