"""YOLOv3's and FCOS's targets against loops."""

import math

import pytest
import torch

from hilum.detectors import fcos, yolo_v3

NAN = float("nan")


def test_yolo_losses_are_those_of_the_loop():
    torch.manual_seed(0)
    out = torch.randn(2, 4, 4, 3, 7)
    boxes = torch.tensor([[[10.0, 5, 60, 70, 1], [70, 80, 120, 126, 0]], [[NAN] * 5] * 2])
    size = yolo_v3.anchor_sizes(yolo_v3.ANCHORS[0], 128, out.device)
    found = yolo_v3.yolo_losses(out, boxes, 32, size, empty_weight=0.5)
    here, spared, goals = {}, set(), {}
    for film, of_film in enumerate(boxes.tolist()):
        for x1, y1, x2, y2, label in of_film:
            if math.isnan(x1):
                continue
            gx, gy, w, h = (x1 + x2) / 64, (y1 + y2) / 64, x2 - x1, y2 - y1
            cell = film, int(gy), int(gx)
            alike = []
            for aw, ah in size.tolist():
                both = min(w, aw) * min(h, ah)
                alike.append(both / (w * h + aw * ah - both))
            best = max(range(3), key=lambda k: alike[k])
            here[(*cell, best)] = True
            goals[(*cell, best)] = (gx - int(gx), gy - int(gy), w, h, int(label))
            spared |= {(*cell, k) for k in range(3) if alike[k] > 0.5} | {(*cell, best)}
    cross = torch.nn.functional.binary_cross_entropy
    box = sure = told = 0.0
    num = 2 * 4 * 4 * 3
    for film in range(2):
        for row in range(4):
            for column in range(4):
                for k in range(3):
                    at = (film, row, column, k)
                    value = out[at]
                    p = value[4].sigmoid()
                    if at in here:
                        x, y, w, h, label = goals[at]
                        box += float(cross(value[0].sigmoid(), torch.tensor(x)))
                        box += float(cross(value[1].sigmoid(), torch.tensor(y)))
                        box += float((value[2] - math.log(w / size[k, 0])) ** 2)
                        box += float((value[3] - math.log(h / size[k, 1])) ** 2)
                        sure -= float(p.log())
                        target = torch.zeros(2)
                        target[label] = 1
                        told += float(cross(value[5:].sigmoid(), target))
                    elif at not in spared:
                        sure -= 0.5 * float((1 - p).log())
    expected = box / num, sure / num, told / num  # LoVT's: each a mean over all places
    assert [float(term) for term in found] == pytest.approx(expected, rel=1e-4)


def test_a_yolo_box_is_where_its_code_says():
    out = {f"stride_{s}": torch.full((1, 128 // s, 128 // s, 3, 6), -9.0) for s in yolo_v3.STRIDES}
    w, h = yolo_v3.anchor_sizes(yolo_v3.ANCHORS[0], 128, torch.device("cpu"))[1].tolist()
    out["stride_32"][0, 1, 2, 1] = torch.tensor([0.0, 0.0, math.log(30 / w), math.log(40 / h), 9, 0])
    from tests.detectors.test_contracts import task_of

    model = task_of("yolo_v3").model
    model.findings = ("Mass",)
    boxes, scores = model.candidates(out, 128)
    best = scores[0, :, 0].argmax()
    assert boxes[0, best].tolist() == pytest.approx([80 - 15, 48 - 20, 80 + 15, 48 + 20], abs=1e-3)
    assert float(scores[0, best, 0]) > 0.99


def test_places_of_fcos_are_for_the_smallest_box_around_them():
    at, stride = fcos.places(128, (8, 16, 32, 64, 128), torch.device("cpu"))
    assert len(at) == 16**2 + 8**2 + 4**2 + 2**2 + 1
    boxes = torch.tensor([[[20.0, 20, 60, 60, 0], [10, 10, 120, 120, 1], [NAN] * 5]])
    which, positive = fcos.assign(boxes, at, stride, radius=1.5)
    ranges = {8: (0, 64), 16: (64, 128), 32: (128, 256), 64: (256, 512), 128: (512, math.inf)}
    for place, ((x, y), s) in enumerate(zip(at.tolist(), stride.tolist(), strict=True)):
        fits = []
        for number, (x1, y1, x2, y2, _) in enumerate(boxes[0, :2].tolist()):
            sides = (x - x1, y - y1, x2 - x, y2 - y)
            near = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2)) < 1.5 * s
            low, high = ranges[int(s)]
            if min(sides) > 0 and near and low <= max(sides) < high:
                fits.append(((x2 - x1) * (y2 - y1), number))
        assert bool(positive[0, place]) == bool(fits)
        if fits:
            assert int(which[0, place]) == min(fits)[1]
    assert positive.sum() > 4


def test_the_middle_of_a_box_is_its_centre():
    sides = torch.tensor([[[10.0, 10, 10, 10], [5, 10, 15, 10]]])
    assert fcos.centrality(sides)[0].tolist() == pytest.approx([1.0, math.sqrt(1 / 3)])
    at = torch.tensor([[5.0, 7]])
    boxes = torch.tensor([[[1.0, 2, 9, 20]]])
    torch.testing.assert_close(fcos.around(at, fcos.distances(boxes, at)), boxes)
