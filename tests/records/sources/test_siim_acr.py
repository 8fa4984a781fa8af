"""The pneumothorax challenge in a miniature tree: run lengths against a loop, boxes, and defects."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hilum.cli import main
from hilum.errors import MissingError, RecordsError
from hilum.records.boxes import asked, boxes_of
from hilum.records.sources import siim_acr
from hilum.records.table import Records

UID = "1.2.276.0.7230010.3.1.4.8323329.{}.1517875162.{}"
A, B, C, D = (UID.format(300 + n, 258081 + n) for n in range(4))


def encoded(mask: np.ndarray) -> str:
    """Run lengths by the challenge's own loop: down the columns, starts from the end of the run before."""
    words, start, last, previous = [], -1, 0, 0
    for place, pixel in enumerate(mask.T.ravel().tolist()):
        if pixel and not previous:
            start = place
        if previous and not pixel:
            words += [start - last, place - start]
            last = place
        previous = pixel
    return " ".join(map(str, words))


def rectangle(x1, y1, x2, y2):
    mask = np.zeros((1024, 1024), np.uint8)
    mask[y1:y2, x1:x2] = 1
    return mask


def dicom(path: Path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"films are not opened")


def tree(root: Path, rows: list[str]) -> Path:
    root.mkdir(exist_ok=True)
    (root / "train-rle.csv").write_text("\n".join(["ImageId, EncodedPixels", *rows]) + "\n")
    for number, uid in enumerate((A, B, C, D)):
        dicom(root / "dicom-images-train" / f"1.2.{number}" / f"1.3.{number}" / f"{uid}.dcm")
    dicom(root / "dicom-images-test" / "1.2.9" / "1.3.9" / "ID_test.dcm")
    return root


def test_boxes_surround_the_parts_of_all_masks_of_a_film(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    left, right = rectangle(100, 50, 180, 400), rectangle(700, 20, 701, 1024)
    corner = rectangle(180, 400, 200, 420)  # touches the first at a corner, which joins them
    rows = [f"{A}, {encoded(left)}", f"{B}, -1", f"{A}, {encoded(right | corner)}", f"{C}, -1"]
    root = tree(tmp_path, rows)
    assert main(["records", "read", "siim_acr", "--root", str(root), "--out", str(tmp_path / "s.csv")]) == 0
    records = Records.read(tmp_path / "s.csv")
    assert records.findings == ("Pneumothorax",)
    assert records.table["patient"].tolist() == [A, B, C, D]
    np.testing.assert_array_equal(records.labels[:, 0], [1, 0, 0, np.nan])
    assert boxes_of(records, "Pneumothorax")[0].tolist() == [[100, 50, 200, 420], [700, 20, 701, 1024]]
    assert asked(records, ["Pneumothorax"]).tolist() == [True, True, True, False]
    assert "1 left out: test films, whose masks are not public: 'ID_test'" in caplog.text
    assert f"1 films have no row; whether they show pneumothorax is unknown: '{D}'" in caplog.text
    assert "names no patients: each of 4 films counts as one" in caplog.text


def test_run_lengths_are_what_a_loop_encodes():
    mask = (np.random.default_rng(0).random((1024, 1024)) < 0.01).astype(np.uint8)
    mask[-1, -1] = 0
    runs = np.array(encoded(mask).split(), np.int64).reshape(-1, 2)
    np.testing.assert_array_equal(siim_acr.mask_of(runs), mask)


def test_all_that_is_wrong_with_masks_is_one_list(tmp_path):
    rows = [
        f"{A}, -1",
        f"{A}, 10 5",
        f"{B}, 10 5 7",
        f"{C}, 1048570 10",
        f"{D}, 10 -5",
        "1.2.9.lost, -1",
    ]
    with pytest.raises(RecordsError) as caught:
        siim_acr.read(tree(tmp_path, rows), images=None)
    said = str(caught.value)
    assert "5 defects" in said
    for part in (
        f"line 3: {A} has -1, which is no pneumothorax, and a mask",
        f"line 4: {B}: '10 5 7' is neither -1 nor",
        f"line 5: {C}: '1048570 10' is neither -1 nor starts and lengths within 1024 x 1024",
        f"line 6: {D}: '10 -5' is neither",
        "line 7: 1.2.9.lost is not there",
    ):
        assert part in said
    with pytest.raises(MissingError, match=r"expected stage_2_train\.csv or train-rle\.csv or"):
        siim_acr.read(tmp_path / "nowhere", images=None)


def test_boxes_of_smaller_copies_are_scaled_and_other_shapes_are_refused(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root = tree(tmp_path, [f"{A}, {encoded(rectangle(100, 40, 180, 400))}", f"{B}, -1"])
    folder = tmp_path / "png"
    folder.mkdir()
    for uid in (A, B):
        Image.fromarray(np.zeros((256, 256), np.uint8)).save(folder / f"{uid}.png")
    records = siim_acr.read(root, images=folder)
    assert boxes_of(records, "Pneumothorax")[0].tolist() == [[25, 10, 45, 100]]
    assert "the boxes of 1 films that are not of 1024 pixels were scaled" in caplog.text
    Image.fromarray(np.zeros((200, 256), np.uint8)).save(folder / f"{A}.png")
    with pytest.raises(RecordsError, match=r"256 x 200 pixels; boxes are of films of 1024 x 1024") as caught:
        siim_acr.read(root, images=folder)
    assert "1 defect;" in str(caught.value)


def test_the_second_stage_has_rows_of_test_films(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root = tree(tmp_path / "siim", [f"{A}, -1"])
    dicom(root / "dicom-images-test" / "1.2.8" / "1.3.8" / "late.dcm")
    rows = ["ImageId,EncodedPixels", f"{A},-1", f"late,{encoded(rectangle(1, 2, 3, 4))}"]
    (root / "stage_2_train.csv").write_text("\n".join(rows) + "\n")
    records = siim_acr.read(tmp_path, images=None)
    assert records.table["patient"].tolist() == [A, "late", B, C, D]
    assert boxes_of(records, "Pneumothorax")[1].tolist() == [[1, 2, 3, 4]]
    assert "read stage_2_train.csv" in caplog.text
    assert "1 left out: test films, whose masks are not public: 'ID_test'" in caplog.text
