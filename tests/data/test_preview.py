import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from hilum.cli import main
from hilum.data.loader import Loader
from hilum.data.preview import contact_sheet
from hilum.data.views import CXR, CXR_VIEW, ViewRecipe
from hilum.errors import OutputError
from hilum.images.spec import InputSpec
from hilum.images.store import build_store
from hilum.records.table import Records


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    images = []
    for number in range(5):
        film = np.random.default_rng(number).integers(0, 256, (64, 80), np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), film)
        images.append(str(folder / f"{number}.png"))
    store = build_store(images, folder=folder, size=32, quiet=True)
    boxes = [json.dumps([["Mass", 10, 20, 50, 60]]), "", "[]", "", ""]
    table = pd.DataFrame({"image": images, "patient": images, "split": "", "boxes": boxes})
    return store, Records(table.assign(Mass=np.float32(1)), ("Mass",))


def test_the_sheet_shows_the_very_views_of_training(source, tmp_path):
    store, records = source
    contact_sheet(store, records, CXR, tmp_path / "a" / "sheet.png", count=3, seed=6, spec=InputSpec(side=40))
    sheet = cv2.imread(str(tmp_path / "a" / "sheet.png"))
    assert sheet.shape == (3 * (40 + 24) + 6, 5 * (40 + 6) + 6, 3)
    (batch,) = Loader(store, records, CXR.at(InputSpec(side=40)), batch_size=3, seed=6).batches(0, 1)
    for place in range(3):
        for view in range(2):
            top, left = 6 + place * 64, 6 + (1 + view) * 46
            shown = sheet[top : top + 40, left : left + 40]
            grey = (shown == shown[..., :1]).all(-1)  # where no box is drawn
            assert grey.mean() > 0.8
            assert np.array_equal(shown[..., 0][grey], batch.views[view][place, 0].numpy()[grey])


def test_views_of_unequal_sides_stand_in_columns_of_their_own_width(source, tmp_path):
    store, records = source
    small = replace(CXR_VIEW.change(crop_min=0.1, crop_max=0.4), side=16)
    recipe = ViewRecipe((CXR_VIEW, CXR_VIEW, small, small), side=40)
    contact_sheet(store, records, recipe, tmp_path / "sheet.png", count=3, epochs=1)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (3 * (40 + 24) + 6, 3 * (40 + 6) + 2 * (16 + 6) + 6, 3)
    (batch,) = Loader(store, records, recipe, batch_size=3, seed=0).batches(0, 1)
    for place in range(3):
        for view, left in ((2, 6 + 3 * 46), (3, 6 + 3 * 46 + 22)):
            shown = sheet[6 + 64 * place : 22 + 64 * place, left : left + 16]
            grey = (shown == shown[..., :1]).all(-1)  # where no box is drawn
            assert grey.mean() > 0.7
            assert np.array_equal(shown[..., 0][grey], batch.views[view][place, 0].numpy()[grey])


def test_boxes_are_drawn_in_pixels_of_the_film(source, tmp_path):
    store, records = source
    one = Records(records.table.iloc[:1], records.findings)
    contact_sheet(store, one, CXR, tmp_path / "sheet.png", spec=InputSpec(side=40))
    film = cv2.imread(str(tmp_path / "sheet.png"))[6:46, 6:46]
    coloured = np.argwhere((film != film[..., :1]).any(-1))
    assert coloured.min(0).tolist() == [10, 5]  # the file's 64 x 80 became 32 x 40: (x, y) = (10, 20) halved
    assert coloured.max(0).tolist() == [29, 24]


def test_a_place_that_cannot_be_written_is_named(source, tmp_path):
    Path(tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="contact sheet"):
        contact_sheet(*source, CXR, tmp_path / "file" / "sheet.png", count=1)


def test_a_sheet_replaces_nothing_and_is_a_png(tmp_path, capsys):
    (tmp_path / "sheet.png").write_bytes(b"mine")
    for out, message in (("sheet.png", "is there already"), ("sheet", "ends in .png")):
        assert main(["records", "preview", "films.csv", "--out", str(tmp_path / out)]) != 0
        assert message in capsys.readouterr().err
    assert (tmp_path / "sheet.png").read_bytes() == b"mine"
