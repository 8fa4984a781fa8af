"""Anchors, codes and losses against loops written from the papers."""

import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from hilum.detectors.retinanet import BETA, CODING, anchors, assign, decode, encode, shrunken
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
