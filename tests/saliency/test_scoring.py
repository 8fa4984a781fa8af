import json

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from hilum.images.phantom import draw_phantom
from hilum.images.spec import InputSpec
from hilum.images.store import build_store
from hilum.metrics.localisation import box_mask, localisation
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.records.table import Records
from hilum.saliency.maps import film_maps
from hilum.saliency.occlusion import occlusion
from hilum.saliency.placement import peak
from hilum.saliency.scoring import Judged, score

SPOTS = ((100, 40), (70, 90), (60, 60))
"""x, y of a bright spot on films of 120×160 pixels."""


@pytest.fixture(scope="module")
def spots(tmp_path_factory):
    """Oblong films with one bright spot each, and a box around it."""
    folder = tmp_path_factory.mktemp("spots")
    rows = []
    for number, (x, y) in enumerate(SPOTS):
        film = np.full((120, 160), 40, np.uint8)
        cv2.circle(film, (x, y), 7, 255, -1)
        cv2.imwrite(str(folder / f"{number}.png"), film)
        box = [["Nodule", x - 8, y - 8, x + 8, y + 8], ["Mass", 0, 0, 9, 9]]
        rows.append({"image": f"{number}.png", "patient": str(number), "boxes": json.dumps(box), "Nodule": 1})
    pd.DataFrame(rows).to_csv(folder / "films.csv", index=False)
    records = Records.read(folder / "films.csv")
    # The store's films are half as large as the files: boxes and points must follow.
    return records, build_store(records.table["image"].tolist(), folder=folder, size=60, quiet=True)


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_a_model_that_sees_light_points_at_the_light_in_pixels_of_the_file(spots, fit):
    records, store = spots
    model = Classifier(Encoder("pixels/64", InputSpec(side=64, fit=fit)), ("Nodule",), exclusive=False).eval()
    torch.nn.init.constant_(model.head.weight, 0.01)
    explain = {"finding": 0, "device": "cpu", "precision": "float32"}
    maps = list(film_maps(occlusion, model, records, store, **explain))
    for one, (x, y), row in zip(maps, SPOTS, range(3), strict=True):
        at = peak(one.scores, store.source_size(row), fit=fit)
        assert np.allclose(at, (x, y), atol=12), (at, fit)
        assert 0 < one.probability < 1
    judged = Judged.of(maps, records, store, finding="Nodule", fit=fit)
    found = localisation(judged.heats, judged.masks, threshold=0.5)
    assert found["pointing"].tolist() == [1, 1, 1]
    assert (found["energy"] > 5 * 64 / (60 * 80)).all()  # five times the share of the area
    assert judged.masks[0].shape == (60, 80)
    assert judged.masks[0].sum() == 8 * 8


def test_scores_stand_beside_their_floors(spots):
    records, store = spots
    maps = list(
        film_maps(
            occlusion, _light(), records, store, finding=0, device="cpu", precision="float32"
        )
    )  # fmt: skip
    judged = Judged.of(maps, records, store, finding="Nodule", fit="squash")
    found = score(
        {"occlusion": (judged, judged), "blank": (_blank(judged), _blank(judged))},
        finding="Nodule", patients=records.patients, tolerance=0.0, replicates=100,
    )  # fmt: skip
    assert list(found.estimates["pointing"]) == ["occlusion", "blank", "centre", "uniform"]
    area = 64 / (60 * 80)
    assert found.estimates["pointing"]["uniform"].value == pytest.approx(area)
    assert found.estimates["energy"]["blank"].value == pytest.approx(area)
    assert found.flat == {"occlusion": 0, "blank": 3}
    assert found.differences["pointing"]["uniform"].value == pytest.approx(1 - area)
    assert set(found.differences["iou"]) == {"blank", "centre", "uniform"}


def _light():
    model = Classifier(Encoder("pixels/64", InputSpec(side=64, fit="squash")), ("Nodule",), exclusive=False)
    torch.nn.init.constant_(model.head.weight, 0.01)
    return model.eval()


def _blank(judged):
    return Judged([np.zeros_like(heat) for heat in judged.heats], judged.masks)


def test_masks_of_phantoms_are_scored_as_boxes_are():
    """A map that is the mask scores full marks on the mask; on its box it misses the corners."""
    phantom = next(p for i in range(99) if "Effusion" in (p := draw_phantom(3, i, size=96)).masks)
    mask = phantom.masks["Effusion"]
    (box,) = (box[1:] for box in phantom.boxes if box[0] == "Effusion")
    exact = localisation([mask.astype(float)], [mask], threshold=0.5)
    boxed = localisation([mask.astype(float)], [box_mask(np.array([box]), mask.shape)], threshold=0.5)
    assert exact["iou"][0] == exact["pointing"][0] == exact["energy"][0] == 1
    x1, y1, x2, y2 = box
    assert boxed["iou"][0] == pytest.approx(mask.sum() / ((x2 - x1) * (y2 - y1)))
    assert boxed["energy"][0] == 1
