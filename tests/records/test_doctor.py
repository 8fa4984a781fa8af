from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from hilum.cli import main
from hilum.errors import ImageError
from hilum.records.doctor import count_splits, inspect, lines
from hilum.records.looks import look, mirror_mask, perceptual_hash
from hilum.records.table import Records
from tests.real_films import FILMS


def film(seed, side=200):
    """A smooth chest-like picture with its own details."""
    rng = np.random.default_rng(seed)
    noise = cv2.resize(rng.normal(size=(12, 12)), (side, side), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:side, :side] / side
    lungs = np.exp(-((x - 0.28) ** 2 + (y - 0.4) ** 2) / 0.02) + np.exp(
        -((x - 0.72) ** 2 + (y - 0.4) ** 2) / 0.02
    )
    picture = 1.2 * y - 2 * lungs + 0.4 * noise
    low, high = picture.min(), picture.max()
    return np.rint(255 * (picture - low) / (high - low)).astype(np.uint8)


def jpeg(pixels, quality=80):
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0)


def resized(pixels, share):
    return cv2.resize(pixels, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)


COPIES = {
    "re-encoded": lambda pixels: jpeg(pixels),
    "resized": lambda pixels: resized(pixels, 0.6),
    "mirrored": lambda pixels: np.ascontiguousarray(pixels[:, ::-1]),
    "inverted": lambda pixels: 255 - pixels,
    "all of it": lambda pixels: jpeg(resized(255 - pixels[:, ::-1], 0.6)),
}


def records_of(images, splits=None, **columns):
    count = len(images)
    table = pd.DataFrame(
        {
            "image": pd.Series(images, dtype="str"),
            "patient": pd.Series([f"p{i}" for i in range(count)], dtype="str"),
            "split": pd.Series(splits or ["train"] * count, dtype="str"),
            **columns,
        }
    )
    return Records(table, tuple(name for name in columns if name != "boxes"))


def diagnose(pixels, splits=None, **settings):
    return inspect(records_of(list(pixels), splits), pixels.__getitem__, **settings)


def kinds(diagnosis):
    return [(problem.kind, problem.image) for problem in diagnosis.problems]


def test_different_films_have_no_problems():
    diagnosis = diagnose({f"{i}.png": film(i) for i in range(60)})
    assert diagnosis.problems == ()
    assert lines(diagnosis) == ["train: 60 radiographs, 60 patients", "no problems found"]


def test_the_hash_of_a_mirrored_and_of_an_inverted_film_follow_from_its_own():
    for seed in range(20):
        thumb = film(seed, 32)
        own = perceptual_hash(thumb)
        assert perceptual_hash(np.ascontiguousarray(thumb[:, ::-1])) == own ^ mirror_mask()
        assert perceptual_hash(255 - thumb) == own ^ (2**64 - 1)


@pytest.mark.parametrize("kind", COPIES)
def test_every_copy_is_found_and_named_and_nothing_else(kind):
    pixels = {f"{i}.png": film(i) for i in range(30)}
    pixels |= {f"copy of {i}": COPIES[kind](film(i)) for i in range(30)}
    near = [p for p in diagnose(pixels).problems if p.kind == "near duplicate"]
    assert [p.image for p in near] == [f"copy of {i}" for i in range(30)]
    for number, problem in enumerate(near):
        assert f"copy of {number}.png" in problem.what
        assert ("mirrored" in problem.what) == (kind in ("mirrored", "all of it"))
        assert ("inverted" in problem.what) == (kind in ("inverted", "all of it"))


def test_equal_pixels_are_duplicates_however_they_are_stored_and_an_error_across_splits():
    sixteen = film(0).astype(np.uint16) * 257
    pixels = {"a": film(0), "b": film(1), "c": sixteen, "d": film(0), "e": film(1)}
    diagnosis = diagnose(pixels, ["train", "train", "train", "test", ""])
    assert [(p.severity, p.kind, p.row) for p in diagnosis.problems] == [
        ("error", "overlap", 3),
        ("warning", "duplicate", 2),
        ("warning", "duplicate", 4),
    ]
    assert diagnosis.errors == diagnosis.problems[:1]
    assert "is in test, not train" in diagnosis.errors[0].what


def test_a_near_copy_across_splits_is_a_warning_that_says_so():
    diagnosis = diagnose({"a": film(0), "b": jpeg(film(0))}, ["train", "test"])
    assert [(p.severity, p.kind) for p in diagnosis.problems] == [("warning", "near overlap")]


def test_what_is_wrong_with_single_films_is_named():
    rng = np.random.default_rng(0)
    white = film(9)
    white[:80] = 255
    black = film(10)
    black[:170] = 0
    pixels = {
        "constant": np.full((100, 100), 7, np.uint8),
        "also constant": np.full((100, 100), 7, np.uint8),
        "inverted": 255 - film(1),
        "12 bits in 16": film(2).astype(np.uint16) * 16,
        "mask": (film(3) > 100).astype(np.uint8) * 255,
        "white": white,
        "black": black,
        "strip": cv2.resize(film(4), (600, 200)),
        "small": film(5, 40),
        "noise": rng.integers(0, 256, (100, 100)).astype(np.uint8),
        "fine": film(6),
    }
    found = Counter(kinds(diagnose(pixels)))
    for kind, image in (
        ("constant", "constant"),
        ("constant", "also constant"),
        ("duplicate", "also constant"),
        ("inverted", "inverted"),
        ("scale", "12 bits in 16"),
        ("scale", "mask"),
        ("scale", "white"),
        ("scale", "black"),
        ("shape", "strip"),
        ("small", "small"),
    ):
        assert found[kind, image] >= 1, (kind, image)
    assert not [image for _, image in found if image == "fine"]


def test_unreadable_files_are_errors_with_their_reason():
    def read(image):
        if image == "bad":
            raise ImageError("bad: the file ends early")
        return film(0)

    (problem,) = inspect(records_of(["bad", "good"]), read).problems
    assert (problem.severity, problem.kind, problem.row) == ("error", "corrupt", 0)
    assert problem.what == "the file ends early"


def test_a_missing_file_hides_neither_blank_nor_unreadable_ones(tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "good.png"), film(0))
    cv2.imwrite(str(tmp_path / "blank.png"), np.full((200, 200), 9, np.uint8))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    rows = [f"{name}.png,{name},{i % 2}" for i, name in enumerate(["god", "good", "blank", "bad"])]
    (tmp_path / "films.csv").write_text("\n".join(["image,patient,Edema", *rows, ""]))
    assert main(["records", "check", str(tmp_path / "films.csv")]) == 65
    said = capsys.readouterr().out
    assert f"error: missing: 1\n  {tmp_path}/god.png: is not there; did you mean 'good.png'?" in said
    assert "error: corrupt: 1" in said
    assert "constant: 1" in said
    (tmp_path / "films.csv").write_text("\n".join(["image,patient,Edema", *rows, "bad.png,,2", ""]))
    assert main(["records", "check", str(tmp_path / "films.csv")]) == 65
    error = capsys.readouterr().err
    assert "god.png' is not there" in error
    assert "column 'patient': the cell is empty" in error


def test_boxes_beyond_the_image_are_errors():
    boxes = pd.Series(
        ['[["N", 0, 0, 200, 200]]', '[["N", 0, 0, 201, 20], ["N", 1, 1, 2, 2]]', ""], dtype="str"
    )
    pixels = {f"{i}": film(i) for i in range(3)}
    diagnosis = inspect(records_of(list(pixels), boxes=boxes), pixels.__getitem__)
    assert [(p.severity, p.kind, p.row) for p in diagnosis.problems] == [("error", "boxes", 1)]


def test_patients_in_two_splits_and_findings_without_positives_are_named():
    labels = pd.Series([1, 0, np.nan, 0], dtype=np.float32)
    records = records_of(list("abcd"), ["train", "train", "test", "test"], Edema=labels)
    records.table["patient"] = pd.Series(["1", "2", "2", "3"], dtype="str")
    pixels = {name: film(i) for i, name in enumerate("abcd")}
    diagnosis = inspect(records, pixels.__getitem__)
    assert [(p.severity, p.kind, p.what) for p in diagnosis.problems] == [
        ("error", "patient", "patient '2' is in test and train"),
        ("warning", "classes", "'Edema' has no positive radiograph in test"),
    ]
    train, test = count_splits(records)
    assert (train.split, train.radiographs, train.patients) == ("train", 2, 2)
    assert (train.positives, train.negatives, train.unknown) == ({"Edema": 1}, {"Edema": 1}, {"Edema": 0})
    assert (test.positives, test.negatives, test.unknown) == ({"Edema": 0}, {"Edema": 1}, {"Edema": 1})
    assert "  Edema: 1 positive, 1 negative, 0 unknown" in lines(diagnosis)


def test_the_diagnosis_does_not_depend_on_the_number_of_workers():
    pixels = {f"{i}": film(i % 40) for i in range(70)}
    done = []
    one = diagnose(pixels, progress=done.append)
    assert diagnose(pixels, workers=2) == one
    assert done == list(range(1, 71))
    assert Counter(p.kind for p in one.problems) == {"duplicate": 30}


def test_long_lists_are_cut_and_counted():
    text = lines(diagnose({f"{i}": film(0) for i in range(31)}), shown=10)
    assert "warning: duplicate: 30" in text
    assert "  and 20 more" in text
    assert len([line for line in text if "has the pixels" in line]) == 10


def test_a_header_that_says_that_writing_names_the_patient_is_believed():
    pixels = {f"{i}.png": film(i) for i in range(4)}
    diagnosis = diagnose(pixels, burned_in=lambda image: image == "2.png", workers=2)
    (problem,) = diagnosis.problems
    assert (problem.severity, problem.kind, problem.image) == ("warning", "writing", "2.png")
    assert "BurnedInAnnotation is YES" in problem.what


def real(folder, step):
    paths = sorted((FILMS / folder / "images").glob("*.jpg"))[::step]
    if not paths:
        pytest.skip(f"{folder}: the real films are not here")
    return {str(path): cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths}


def test_of_a_thousand_real_films_only_true_copies_and_inversions_are_reported():
    films = real("nih_rsna", 1)
    paths = {Path(path).name: path for path in films}
    found = [one for one in kinds(diagnose(films)) if one[0] != "writing"]  # of that there is some
    assert set(found) <= {
        ("duplicate", paths["00002658_002.jpg"]),  # the pixels of 00002658_001, published twice
        ("inverted", paths["00017999_000.jpg"]),  # published with bright lungs
    }


@pytest.mark.parametrize("folder", ["nih_rsna", "tuberculosis_shenzhen", "paediatric_pneumonia"])
def test_copies_and_inverses_of_real_films_are_found(folder):
    films = real(folder, {"nih_rsna": 9, "tuberculosis_shenzhen": 6, "paediatric_pneumonia": 29}[folder])
    inverted = [
        any(kind == "inverted" for kind, *_ in look(255 - pixels).problems) for pixels in films.values()
    ]
    assert np.mean(inverted) >= 0.95
    for copy in COPIES.values():
        pixels = films | {f"copy of {path}": copy(one) for path, one in films.items()}
        near = [p for p in diagnose(pixels).problems if p.kind == "near duplicate"]
        assert {p.image for p in near} == {image for image in pixels if image.startswith("copy of")}
