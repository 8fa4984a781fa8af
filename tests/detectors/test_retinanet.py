"""Anchors, codes and losses against loops written from the papers."""

import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from hilum.detectors.retinanet import (
    BETA,
    CODING,
    FilmHead,
    RetinaNet,
    anchors,
    assign,
    decode,
    encode,
    shrunken,
)
from hilum.images.spec import InputSpec
from hilum.models.encoder import Encoder
from tests.detectors.test_contracts import batch, task_of

SIDE = 128


def slow_anchors(side, strides):
    rows = []
    for stride in strides:
        cells = math.ceil(side / stride)
        for row in range(cells):
            for column in range(cells):
                for ratio in (0.5, 1.0, 2.0):
                    for scale in (1.0, 2 ** (1 / 3), 2 ** (2 / 3)):
                        area = (4 * stride * scale) ** 2
                        w = math.sqrt(area / ratio)
                        h = w * ratio
                        x, y = (column + 0.5) * stride, (row + 0.5) * stride
                        rows.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return torch.tensor(rows)


def test_anchors_are_those_of_the_loop():
    torch.testing.assert_close(anchors(64, (8, 16, 32, 64)), slow_anchors(64, (8, 16, 32, 64)))
    assert len(anchors(100, (8, 64))) == 9 * (13**2 + 2**2)
    whole = anchors(512, (4, 8, 16, 32, 64, 128))
    widths = (whole[:, 2] - whole[:, 0]) * (whole[:, 3] - whole[:, 1])
    assert widths.min().sqrt() == pytest.approx(16)
    assert widths.max().sqrt() == pytest.approx(512 * 2 ** (2 / 3), rel=1e-5)


def test_codes_are_undone():
    at = anchors(64, (16, 32))
    x, y, w, h = torch.rand(4, 3, len(at)) * torch.tensor([30.0, 30, 30, 30]).view(4, 1, 1)
    boxes = torch.stack([x, y, x + w + 2, y + h + 2], -1)
    torch.testing.assert_close(decode(encode(boxes, at), at), boxes, atol=1e-3, rtol=1e-4)
    one = encode(boxes, at)[0, 5]
    a, b = at[5].tolist(), boxes[0, 5].tolist()
    expected = [
        ((b[0] + b[2]) / 2 - (a[0] + a[2]) / 2) / (a[2] - a[0]) / 0.1,
        ((b[1] + b[3]) / 2 - (a[1] + a[3]) / 2) / (a[3] - a[1]) / 0.1,
        math.log((b[2] - b[0]) / (a[2] - a[0])) / 0.2,
        math.log((b[3] - b[1]) / (a[3] - a[1])) / 0.2,
    ]
    assert one.tolist() == pytest.approx(expected, rel=1e-4)
    assert CODING == (0.1, 0.1, 0.2, 0.2)


@pytest.mark.parametrize("best_anchor", [False, True])
def test_the_losses_are_those_of_the_loop(best_anchor):
    task = task_of("retinanet")
    task.best_anchor = best_anchor
    given = batch()
    model = task.model
    with torch.no_grad():
        for layer in (model.score_head[-1], model.box_head[-1]):
            torch.nn.init.normal_(layer.weight, std=0.05)
        task.eval()
        raw = model(given.views[0])
        terms = task.losses(raw, given.boxes, SIDE)
    at = model.anchors_at(SIDE, torch.device("cpu"))
    focal_means, box_means = [], []
    for film in range(4):
        boxes = given.boxes[film][~given.boxes[film, :, 0].isnan()]
        overlaps = box_iou(at, boxes[:, :4]) if len(boxes) else torch.zeros(len(at), 0)
        best = overlaps.max(0).values if len(boxes) else []
        focal, off, positives = 0.0, [], 0
        for place in range(len(at)):
            value, which = overlaps[place].max(0) if len(boxes) else (torch.tensor(0.0), None)
            positive = bool(value >= 0.5)
            if best_anchor:
                for number in range(len(boxes)):
                    if overlaps[place, number] == best[number] and best[number] > 0:
                        positive, which = True, torch.tensor(number)
            if not positive and value >= 0.4:
                continue
            target = torch.zeros(2)
            if positive:
                positives += 1
                target[int(boxes[which, 4])] = 1
                code = encode(boxes[which][None, None, :4], at[place][None])[0, 0]
                for error in (raw["deltas"][film, place] - code).abs().tolist():
                    off.append(0.5 * error**2 / BETA if error < BETA else error - BETA / 2)
            for probability, truth in zip(raw["scores"][film, place].sigmoid().tolist(), target, strict=True):
                p = probability if truth else 1 - probability
                weight = 0.25 if truth else 0.75
                focal -= weight * (1 - p) ** 2 * math.log(p)
        focal_means.append(focal / max(positives, 1))
        box_means.append(np.mean(off) if off else 0.0)
    assert float(terms["score"]) == pytest.approx(np.mean(focal_means), rel=1e-3)
    assert float(terms["box"]) == pytest.approx(np.mean(box_means), rel=1e-3)


def test_an_anchor_between_the_two_overlaps_is_left_out():
    at = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 22], [50, 50, 60, 60]])
    boxes = torch.tensor([[[0.0, 0, 10, 10], [torch.nan] * 4]])
    which, positive, ignored = assign(boxes, at, 0.4, 0.5, best_anchor=False)
    assert positive.tolist() == [[True, False, False]]
    assert ignored.tolist() == [[False, True, False]]
    assert which[0, 0] == 0


def test_sizes_shrink_where_members_disagree():
    same = torch.full((3, 1, 2, 2), 0.7)
    torch.testing.assert_close(shrunken(same), same[0])
    spread = torch.stack([torch.full((1, 1, 2), value) for value in (0.0, 0.5, 1.0)])
    low, high = np.quantile([0.0, 0.5, 1.0], [0.2, 0.8])
    assert shrunken(spread).flatten().tolist() == pytest.approx([low + (low - high) * 0.9] * 2, abs=1e-6)


def model_of(arch="resnet18", side=128, **settings):
    torch.manual_seed(0)
    given = {"width": 32, "head_depth": 2, "first_level": 3, "dropout": 0.0} | settings
    return RetinaNet(Encoder(arch, InputSpec(side=side)), ("Opacity",), ("a", "b", "c"), **given).eval()


def test_before_training_every_place_is_background_and_every_box_its_anchor():
    model = model_of()
    with torch.inference_mode():
        raw = model(torch.randn(2, 1, 128, 128))
        boxes, scores = model.candidates(raw, 128)
    assert torch.allclose(scores, torch.full_like(scores, 0.01), atol=1e-6)
    assert torch.allclose(boxes[0], anchors(128, (8, 16, 32, 64, 128)).clamp(0, 128), atol=1e-4)


def test_dropout_is_before_the_class_output_alone():
    model = model_of(dropout=0.75)
    dropped = {
        name: one.p
        for name, one in model.named_modules()
        if isinstance(one, torch.nn.Dropout) and one.p and not name.startswith("encoder")
    }
    last = len(model.score_head) - 1
    assert dropped == {f"score_head.{last - 1}": 0.75, "film_head.decide.0": 0.75}


def test_the_head_of_films_is_the_loop():
    head = FilmHead(5, 3, 0.5).eval()
    top = torch.randn(2, 5, 9, 9)
    kernel, bias = head.look.weight, head.look.bias
    expected = []
    for film in top:
        small = torch.zeros(5, 4, 4)
        for i in range(4):
            for j in range(4):
                small[:, i, j] = film[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].amax((1, 2))
        seen = torch.stack(
            [
                (small[:, i : i + 3, j : j + 3] * kernel).sum((1, 2, 3)) + bias
                for i in range(2)
                for j in range(2)
            ]
        ).relu()
        both = torch.cat([seen.mean(0), seen.amax(0)])
        expected.append(head.decide[1].weight @ both + head.decide[1].bias)
    assert torch.allclose(head(top), torch.stack(expected), atol=1e-5)


@pytest.mark.parametrize(("arch", "first"), [("resnet18", 2), ("resnet18", 3), ("inception_v3", 3)])
def test_levels_have_a_cell_for_each_stride_of_pixels(arch, first):
    """An Inception pads nothing, so its maps are some cells short."""
    model = model_of(arch, first_level=first)
    with torch.inference_mode():
        levels, _ = model.pyramid(model.encoder, torch.randn(1, 1, 128, 128))
        boxes, _ = model.candidates(model(torch.randn(1, 1, 128, 128)), 128)
    strides = [2**level for level in range(first, 8)]
    assert model.pyramid.strides == tuple(strides)
    assert [level.shape[1:] for level in levels] == [(32, 128 // s, 128 // s) for s in strides]
    assert boxes.shape[1] == 9 * sum((128 // s) ** 2 for s in strides)
