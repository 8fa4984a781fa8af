"""Boxes that move with the views of their films."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest

from hilum.data.boxes import BoxSource
from hilum.data.loader import Loader
from hilum.data.views import PLAIN_VIEW, ViewRecipe
from hilum.images.store import build_store
from hilum.images.warp import NUM_UNIFORMS, Geometry
from hilum.records.table import Records

SIDE = 96


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Dark films of odd sizes with one bright rectangle each, the last with none, and boxes around them."""
    place = tmp_path_factory.mktemp("films")
    random = np.random.default_rng(0)
    rows = []
    for number in range(12):
        height, width = int(random.integers(180, 260)), int(random.integers(180, 260))
        film = np.full((height, width), 20, np.uint8)
        boxes = []
        if number < 11:
            x, y, w, h = (int(v) for v in (*random.integers(40, 100, 2), *random.integers(30, 70, 2)))
            film[y : y + h, x : x + w] = 250
            boxes = [["Mass", x, y, x + w, y + h]]
        cv2.imwrite(str(place / f"{number}.png"), film)
        rows.append(
            {
                "image": str(place / f"{number}.png"),
                "patient": str(number),
                "split": "",
                "boxes": json.dumps(boxes),
            }
        )
    records = Records(pd.DataFrame(rows), ())
    store = build_store(records.table["image"].tolist(), folder=place / "store", size=128, quiet=True)
    return records, store


@pytest.mark.parametrize("fit", ["squash", "pad"])
def test_boxes_of_a_batch_are_around_what_is_bright(films, fit):
    records, store = films
    view = PLAIN_VIEW.change(zoom=1.15, translate=0.05, flip=0.5, flip_vertical=0.3)
    loader = Loader(
        store, records, ViewRecipe((view,), side=SIDE, fit=fit), batch_size=12, seed=3,
        boxes=BoxSource(records, store, ["Nodule", "Mass"]),
    )  # fmt: skip
    (batch,) = loader.batches(1, 2)
    assert batch.boxes.shape == (12, 1, 5)
    for pixels, row, (found,) in zip(batch.views[0][:, 0], batch.rows.tolist(), batch.boxes, strict=True):
        if row == 11:
            assert found.isnan().all()
            continue
        y, x = (pixels > 135).nonzero(as_tuple=True)
        seen = [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]
        assert found[:4].tolist() == pytest.approx(seen, abs=1.2)
        assert found[4] == 1
    half = batch.part(1, 2)
    np.testing.assert_array_equal(half.boxes, batch.boxes[6:])
    np.testing.assert_array_equal(batch.to("cpu", _spec()).boxes, batch.boxes)


def _spec():
    from hilum.images.spec import InputSpec

    return InputSpec(side=SIDE)


def test_a_box_whose_middle_is_off_the_view_is_gone_and_others_are_cut(films):
    records, store = films
    source = BoxSource(records, store, ["Mass"])
    x1, y1, x2, y2 = source._boxes[0][0, :4]
    middle = (x1 + x2) / 2
    beside = np.array([[1, 0, middle + 1], [0, 1, 0], [0, 0, 1.0]])
    assert np.isnan(source.on_view(0, beside, 500)).all()
    within = np.array([[1, 0, middle - 1], [0, 1, 0], [0, 0, 1.0]])
    found = source.on_view(0, within, 500)[0]
    assert found.tolist() == pytest.approx([0, y1, x2 - middle + 1, y2, 0])


def test_points_at_thirds_hold_a_turned_box_more_tightly(films):
    records, store = films
    corners, thirds = (BoxSource(records, store, ["Mass"], turned=way) for way in ("corners", "thirds"))
    turn = Geometry(rotate=20)
    u = np.full((1, NUM_UNIFORMS), 0.5)
    u[0, 4] = 0.9
    (matrix,) = turn.matrices(u, sizes=np.array([[128, 128]]), side=128, fit="squash")
    wide, tight = (source.on_view(0, matrix, 128)[0, :4] for source in (corners, thirds))
    assert (tight[:2] > wide[:2]).all()
    assert (tight[2:] < wide[2:]).all()
    straight = np.eye(3)
    np.testing.assert_allclose(corners.on_view(0, straight, 500), thirds.on_view(0, straight, 500))
    # By hand: the eight points, turned one by one.
    x1, y1, x2, y2 = corners._boxes[0][0, :4]
    points = [
        (x1 + (x2 - x1) * a, y1 + (y2 - y1) * b)
        for a, b in (
            (1 / 3, 0),
            (2 / 3, 0),
            (1 / 3, 1),
            (2 / 3, 1),
            (0, 1 / 3),
            (0, 2 / 3),
            (1, 1 / 3),
            (1, 2 / 3),
        )
    ]
    moved = np.array([(np.linalg.inv(matrix) @ [x, y, 1])[:2] for x, y in points])
    assert tight.tolist() == pytest.approx([*moved.min(0), *moved.max(0)])
