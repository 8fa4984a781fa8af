"""Boxes of one detector, of several, and of several views."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from hilum.detecting import Look, check_look, detect
from hilum.errors import ConfigError
from hilum.images.spec import InputSpec
from hilum.images.store import build_store
from hilum.metrics.boxes import overlap
from hilum.models.detector import Detector
from hilum.models.encoder import Encoder
from hilum.records.detections import CORNERS
from hilum.records.table import Records


class Bright(Detector):
    """Finds what is bright; a wider view makes it surer."""

    def __init__(self, classes=()):
        super().__init__(
            "bright", Encoder("resnet18", InputSpec(side=128, fit="pad")), ("Mass",), classes, {}
        )
        self.seen = []

    def forward(self, images):
        self.seen.append(images.shape[-1])
        film = torch.tensor([[0.0, 1.0, 2.0]]).expand(len(images), -1)
        return {"images": images} | ({"film": film} if self.classes else {})

    def candidates(self, raw, side):
        boxes = []
        for (image,) in raw["images"]:
            y, x = torch.where(image > image.min() + (image.max() - image.min()) * 0.7)
            boxes.append(torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float())
        return torch.stack(boxes)[:, None], torch.full((len(boxes), 1, 1), min(0.99, side / 300))


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    place = tmp_path_factory.mktemp("bright")
    random = np.random.default_rng(0)
    rows = []
    for number in range(5):
        height, width = (int(side) for side in random.integers(300, 500, 2))
        x, y = int(width * 0.1), int(height * 0.6)
        film = np.full((height, width), 20, np.uint8)
        film[y : y + 70, x : x + 90] = 250
        cv2.imwrite(str(place / f"{number}.png"), film)
        box = json.dumps([["Mass", x, y, x + 90, y + 70]])
        rows.append(
            {"image": str(place / f"{number}.png"), "patient": str(number), "split": "test", "boxes": box}
        )
    records = Records(pd.DataFrame(rows), ())
    return records, build_store(records.table["image"].tolist(), folder=place / "store", size=256, quiet=True)


@pytest.mark.parametrize("look", [Look(), Look(flip=True), Look(scales=(0.5, 1.0, 2.0)), Look(True, (1.5,))])
def test_boxes_of_every_view_come_back_to_the_file(films, look):
    records, store = films
    model = Bright()
    found = detect([model], records, store, overlaps=[0.99], floor=0.01, look=look, device="cpu")
    assert set(model.seen) == {int(128 * scale) for scale in look.scales}
    table = found.boxes[0.99].table
    for image, cell in zip(records.table["image"], records.table["boxes"], strict=True):
        boxes = table.loc[table["image"] == image, list(CORNERS)].to_numpy()
        assert 1 <= len(boxes) <= len(look.scales) * len(look.flips)
        true = np.tile(json.loads(cell)[0][1:], (len(boxes), 1)).astype(float)
        assert (overlap(boxes, true) > 0.75).all()  # a pixel of the smallest view is seven of the film
    surest = table.groupby("image")["score"].max()
    np.testing.assert_allclose(surest, min(0.99, 128 * max(look.scales) / 300), rtol=1e-5)


def test_one_suppression_of_all_views_leaves_one_box(films):
    records, store = films
    look = Look(True, (1.0, 1.5))
    table = (
        detect([Bright()], records, store, overlaps=[0.5], floor=0.01, look=look, device="cpu")
        .boxes[0.5]
        .table
    )
    assert len(table) == len(records)


def test_the_gate_multiplies_scores_by_weighted_classes(films):
    records, store = films
    model = Bright(("Normal", "Other", "Opacity"))
    given = {"overlaps": [0.5], "floor": 0.01, "device": "cpu"}
    plain = detect([model], records, store, **given)
    gated = detect([model], records, store, look=Look(gate={"Opacity": 1.0, "Other": 0.1}), **given)
    chances = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()
    np.testing.assert_allclose(plain.classes, np.tile(chances, (len(records), 1)), rtol=1e-6)
    factor = chances[2] + 0.1 * chances[1]
    np.testing.assert_allclose(
        gated.boxes[0.5].table["score"], plain.boxes[0.5].table["score"] * factor, rtol=1e-6
    )
    with pytest.raises(ConfigError, match="the gate names 'x'; the detector tells films apart into Normal"):
        check_look(Look(gate={"x": 1.0}), model)


class Four(Bright):
    """Four boxes side by side, two of each finding."""

    def candidates(self, raw, side):
        num = len(raw["images"])
        boxes = torch.tensor([[10.0 * k, 40, 10 * k + 8, 80] for k in range(4, 8)]).expand(num, -1, -1)
        scores = torch.tensor([[0.8, 0.0], [0.39, 0.0], [0.0, 0.3], [0.0, 0.16]])
        return boxes, scores.expand(num, -1, -1)


def test_boxes_much_less_sure_than_the_surest_of_their_finding_go(films):
    records, store = films
    model = Four(("Normal", "Other", "Opacity"))
    model.findings = ("Mass", "Nodule")
    given = {"overlaps": [0.5], "floor": 0.01, "device": "cpu"}
    every = detect([model], records, store, **given).boxes[0.5]
    near = detect([model], records, store, look=Look(of_surest=0.5), **given).boxes[0.5]
    assert len(every) == 4 * len(records)
    assert sorted(near.table["score"].round(2).unique()) == [0.16, 0.3, 0.8]
    gated = detect([model], records, store, look=Look(gate={"Opacity": 0.5}, of_surest=0.5), **given)
    assert len(gated.boxes[0.5]) == len(near)  # a gate is of whole films
