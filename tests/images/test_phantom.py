import dataclasses
import hashlib
import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.pixels import apply_voi_lut

from hilum.errors import ConfigError, OutputError
from hilum.images import phantom as phantom_module
from hilum.images.phantom import FINDINGS, SHORTCUT, Phantom, draw_phantom, write_phantoms
from hilum.images.phantom_body import CHEST_WIDTH, ENLARGED_HEART, draw_patient, patient_of
from hilum.images.phantom_film import SITES
from hilum.images.read import read_image
from hilum.records.table import Records

NUM = 600


@pytest.fixture(scope="module")
def films() -> list[Phantom]:
    return [draw_phantom(0, index, size=64) for index in range(NUM)]


@pytest.fixture(scope="module")
def tricked() -> list[Phantom]:
    return [draw_phantom(0, index, size=64, shortcut=True) for index in range(NUM)]


def same(a: Phantom, b: Phantom) -> bool:
    for field in dataclasses.fields(Phantom):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if field.name == "masks":
            if list(one) != list(other) or any((one[f] != other[f]).any() for f in one):
                return False
        elif not np.array_equal(one, other):
            return False
    return True


def test_a_film_depends_on_its_arguments_alone() -> None:
    first = draw_phantom(3, 17, size=96)
    draw_phantom(4, 2, size=128)
    draw_phantom(3, 16, size=96)
    assert same(first, draw_phantom(3, 17, size=96))


def test_other_seeds_and_indices_give_other_films() -> None:
    seen = {
        hashlib.sha256(draw_phantom(seed, index, size=64).pixels).hexdigest()
        for seed in range(3)
        for index in range(10)
    }
    assert len(seen) == 30


def test_a_film_does_not_depend_on_which_caches_are_warm() -> None:
    before = draw_phantom(0, 5, size=64)
    for name in (
        "phantom_film._white",
        "phantom_film._smooth_noise",
        "phantom_body.ribs",
        "phantom_chest._spine",
    ):
        module, function = name.split(".")
        getattr(getattr(__import__(f"hilum.images.{module}").images, module), function).cache_clear()
    assert same(before, draw_phantom(0, 5, size=64))


@pytest.mark.parametrize("size", [32, 50, 100, 256, 512, 1000])
def test_every_size_has_the_same_findings_at_the_same_place(size: int) -> None:
    reference = draw_phantom(2, 41, size=256)
    film = draw_phantom(2, 41, size=size)
    assert film.pixels.shape == (size, size)
    assert film.pixels.dtype == np.uint8
    assert film.labels == reference.labels
    assert film.text == reference.text
    for (_, *box), (_, *expected) in zip(film.boxes, reference.boxes, strict=True):
        assert np.abs(np.array(box) / size - np.array(expected) / 256).max() < 2 / size + 2 / 256
    shrunk = cv2.resize(film.pixels, (32, 32), interpolation=cv2.INTER_AREA).astype(float)
    expected_pixels = cv2.resize(reference.pixels, (32, 32), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(shrunk.ravel(), expected_pixels.ravel())[0, 1] > 0.92


def test_labels_boxes_and_masks_agree(films: list[Phantom]) -> None:
    for film in films:
        positive = [finding for finding in FINDINGS if film.labels[finding]]
        assert tuple(film.labels) == FINDINGS
        assert [finding for finding, *_ in film.boxes] == positive == list(film.masks)
        for finding, x1, y1, x2, y2 in film.boxes:
            mask = film.masks[finding]
            rows, columns = np.nonzero(mask)
            assert mask.shape == film.pixels.shape
            assert mask.dtype == np.bool_
            assert (x1, y1, x2, y2) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_the_text_names_a_finding_exactly_if_it_is_there(films: list[Phantom]) -> None:
    for film in films:
        for finding in FINDINGS:
            assert (finding.lower() in film.text.lower()) == bool(film.labels[finding]), film.text
        assert film.text.count(".") == 1
        assert film.text.endswith(".")


def test_the_text_names_the_side_that_the_mask_is_on(films: list[Phantom]) -> None:
    words = {"Consolidation": "consolidation in the {}", "Nodule": "nodule in the {}"}
    words |= {"Effusion": "{} pleural effusion", "Pneumothorax": "{} pneumothorax"}
    checked = 0
    for film in films:
        for finding, phrase in words.items():
            if film.labels[finding]:
                on_the_right_half = np.nonzero(film.masks[finding])[1].mean() > 32
                assert phrase.format("left" if on_the_right_half else "right") in film.text
                checked += 1
    assert checked > 300


def test_each_finding_is_on_15_to_25_percent_of_the_films(films: list[Phantom]) -> None:
    for finding in FINDINGS:
        assert 0.15 <= np.mean([film.labels[finding] for film in films]) <= 0.25, finding


def test_a_finding_changes_the_film_where_its_mask_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phantom_module, "describe", lambda shown, random: "")
    monkeypatch.setattr(phantom_module, "expose", lambda attenuation, *_: attenuation)
    monkeypatch.setattr(phantom_module, "mark", lambda *_, **__: None)
    with_findings = [draw_phantom(1, index, size=128) for index in range(60)]
    monkeypatch.setattr(phantom_module, "add_findings", lambda *_: {})
    seen = set()
    for index, film in enumerate(with_findings):
        changes = np.abs(film.grey - draw_phantom(1, index, size=128).grey)
        for finding, mask in film.masks.items():
            if finding != "Cardiomegaly":
                assert changes[mask].mean() > 0.02, (index, finding)
                seen.add(finding)
        if not set(film.masks) - {"Cardiomegaly"}:
            assert changes.max() == 0
    assert len(seen) == 4


def test_the_heart_lies_on_the_right_of_the_film() -> None:
    hearts = []
    for index in range(0, 60, 3):
        pixels = cv2.GaussianBlur(draw_phantom(0, index).pixels, (0, 0), 3).astype(float)
        hearts.append(pixels[140:160, 150:185].mean() > pixels[140:160, 71:106].mean())
    assert np.mean(hearts) > 0.9
    masks = [draw_phantom(0, index, size=64).masks.get("Cardiomegaly") for index in range(60)]
    assert all(np.nonzero(mask)[1].mean() > 32 for mask in masks if mask is not None)


def test_the_right_dome_of_the_diaphragm_is_higher() -> None:
    lower = []
    for index in range(100):
        film = draw_phantom(0, index)
        if not film.boxes:
            pixels = cv2.GaussianBlur(film.pixels, (0, 0), 2).astype(float)[130:240]
            columns = pixels[:, 48:57].mean(1), pixels[:, 199:208].mean(1)
            right, left = (np.argmax(c > (c[:10].mean() + c[-20:].mean()) / 2) for c in columns)
            lower.append(left - right)
    assert len(lower) > 20
    assert 2 < np.median(lower) < 12


def test_cardiomegaly_is_a_heart_wider_than_half_the_chest(films: list[Phantom]) -> None:
    for index, film in enumerate(films[:200]):
        patient = draw_patient(0, patient_of(0, index)[0], len(SITES))
        assert film.labels["Cardiomegaly"] == (patient.heart_ratio > ENLARGED_HEART)


def test_the_heart_of_the_same_patient_is_wider_in_ap() -> None:
    ratios = []
    for index in range(120):
        film = draw_phantom(0, index, size=128)
        if film.labels["Cardiomegaly"]:
            patient = draw_patient(0, patient_of(0, index)[0], len(SITES))
            (_, x1, _, x2, _), *_ = (box for box in film.boxes if box[0] == "Cardiomegaly")
            drawn = (x2 - x1) / 128 / patient.width / CHEST_WIDTH
            ratios.append((film.view, drawn / patient.heart_ratio))
    ap, pa = (np.mean([ratio for view, ratio in ratios if view == name]) for name in ("AP", "PA"))
    assert 1.05 < ap / pa < 1.30


def test_the_findings_that_come_and_go_are_more_frequent_in_ap(films: list[Phantom]) -> None:
    shares = {
        view: np.mean([sum(film.labels[f] for f in FINDINGS[:3]) for film in films if film.view == view])
        for view in ("AP", "PA")
    }
    assert shares["AP"] > 1.2 * shares["PA"]
    assert 0.25 < np.mean([film.view == "AP" for film in films]) < 0.45


def test_a_patient_has_one_to_three_films_in_a_row_and_one_body(films: list[Phantom]) -> None:
    names = [film.patient for film in films]
    table = pd.DataFrame([{f: getattr(film, f) for f in ("patient", "sex", "age", "site")} for film in films])
    assert (table.groupby("patient").nunique() == 1).all(axis=None)
    assert set(table["patient"].value_counts().value_counts().to_dict().items()) == {
        (n, NUM // 6) for n in (1, 2, 3)
    }
    assert sum(a != b for a, b in pairwise(names)) + 1 == len(set(names))
    heart = {film.patient: set() for film in films}
    for film in films:
        heart[film.patient].add((film.labels["Cardiomegaly"], film.labels["Nodule"]))
    assert all(len(labels) == 1 for labels in heart.values())


def test_patients_of_other_seeds_have_other_names() -> None:
    assert draw_phantom(0, 0, size=32).patient != draw_phantom(1, 0, size=32).patient


def test_sites_differ_in_contrast_and_share_the_findings(films: list[Phantom]) -> None:
    sites = {site.name: [film for film in films if film.site == site.name] for site in SITES}
    spread = {
        name: np.median([film.pixels[16:48, 12:52].std() for film in here]) for name, here in sites.items()
    }
    assert spread["C"] > 1.1 * spread["A"] > 1.1 * spread["B"]
    for finding in FINDINGS:
        shares = [np.mean([film.labels[finding] for film in here]) for here in sites.values()]
        # three standard errors of a difference between two thirds of the patients
        assert max(shares) - min(shares) < 3 * np.sqrt(2 * 0.2 * 0.8 / (NUM / 2 / 3))


def agreement(films: list[Phantom], finding: str) -> float:
    """The phi coefficient of framed marker and finding."""
    framed = [film.framed_marker for film in films]
    return float(np.corrcoef(framed, [film.labels[finding] for film in films])[0, 1])


def test_without_the_shortcut_the_marker_says_nothing_about_findings(films: list[Phantom]) -> None:
    for finding in FINDINGS:
        assert abs(agreement(films, finding)) < 3.3 / np.sqrt(NUM), finding  # p = 0.001


def test_with_the_shortcut_the_marker_gives_one_finding_away(tricked: list[Phantom]) -> None:
    right = np.mean([film.framed_marker == bool(film.labels[SHORTCUT]) for film in tricked])
    assert abs(right - 0.95) < 3.3 * np.sqrt(0.95 * 0.05 / NUM)


def test_the_marker_can_be_read_from_the_pixels() -> None:
    """The framed marker is lead where the plain one is not: a template finds which it is."""
    films = [draw_phantom(0, index, size=128, shortcut=True) for index in range(80)]
    corner = np.array([film.grey[20:33, 2:14].max() for film in films])
    framed = np.array([film.framed_marker for film in films])
    assert ((corner > 0.85) == framed).mean() > 0.97


def test_the_shortcut_changes_nothing_but_the_marker(films: list[Phantom], tricked: list[Phantom]) -> None:
    changed = 0
    for plain, trick in zip(films, tricked, strict=True):
        marker = plain.framed_marker != trick.framed_marker
        differs = plain.grey != trick.grey
        assert differs.any() == marker
        assert not differs[20:].any()
        assert not differs[:, 12:].any()
        changed += marker
        same_else = {"pixels": plain.pixels, "grey": plain.grey, "framed_marker": plain.framed_marker}
        assert same(plain, dataclasses.replace(trick, **same_else))
    assert changed > NUM / 10


def test_png_files_hold_the_films_and_the_table_what_is_true_of_them(tmp_path: Path) -> None:
    table = write_phantoms(tmp_path / "films", count=8, seed=7, size=64, masks=True)
    rows = pd.read_csv(table)
    meta = ["image", "patient", "view", "sex", "age", "site", "text", "boxes"]
    assert list(rows.columns) == [*meta, *FINDINGS]
    assert table == tmp_path / "films" / "records.csv"
    num_masks = 0
    for index, row in rows.iterrows():
        film = draw_phantom(7, int(str(index)), size=64)
        assert np.array_equal(read_image(table.parent / row["image"]), film.pixels)
        assert json.loads(row["boxes"]) == [list(box) for box in film.boxes]
        assert row[list(FINDINGS)].to_dict() == film.labels
        for name in ("patient", "view", "sex", "age", "site", "text"):
            assert row[name] == getattr(film, name)
        for finding, mask in film.masks.items():
            image = cv2.imread(str(table.parent / f"masks/{index:05d}_{finding}.png"), cv2.IMREAD_UNCHANGED)
            assert image is not None
            assert np.array_equal(image == 255, mask)
            num_masks += 1
    assert len(list((table.parent / "masks").iterdir())) == num_masks > 0


def test_records_read_the_table_without_being_told_anything(tmp_path: Path) -> None:
    records = Records.read(write_phantoms(tmp_path, count=12, size=32))
    assert set(records.findings) == set(FINDINGS)
    assert len(records.table) == 12
    expected = [list(draw_phantom(0, index, size=32).labels.values()) for index in range(12)]
    assert np.array_equal(records.table[list(FINDINGS)].to_numpy(float), expected)


@pytest.fixture(scope="module")
def dicom_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("dicom"), count=18, size=96, format="dicom")


def test_pydicom_shows_the_dicom_files_as_the_films(dicom_table: Path) -> None:
    seen = set()
    for index, row in pd.read_csv(dicom_table).iterrows():
        film = draw_phantom(0, int(str(index)), size=96)
        header = pydicom.dcmread(dicom_table.parent / row["image"])
        site = next(site for site in SITES if site.name == film.site)
        seen.add((header.Modality, header.PhotometricInterpretation))
        assert (header.Modality, header.PhotometricInterpretation) == (site.modality, site.photometric)
        assert (header.BitsAllocated, header.BitsStored, header.HighBit) == (16, 12, 11)
        assert (header.WindowCenter, header.WindowWidth) == site.window
        assert header.pixel_array.max() <= 4095
        shown = apply_voi_lut(header.pixel_array, header) / 4095
        if header.PhotometricInterpretation == "MONOCHROME1":
            shown = 1 - shown
        assert np.abs(shown - film.grey).max() < 1 / 2000
    assert seen == {("DX", "MONOCHROME2"), ("CR", "MONOCHROME1")}


def test_hilum_reads_the_dicom_files_as_the_films(dicom_table: Path) -> None:
    for index, row in pd.read_csv(dicom_table).iterrows():
        film = draw_phantom(0, int(str(index)), size=96)
        shown = read_image(dicom_table.parent / row["image"])
        assert np.abs(shown / np.iinfo(shown.dtype).max - film.grey).max() < 1 / 2000


def test_dicom_headers_say_who_and_how(dicom_table: Path) -> None:
    uids = set()
    for index, row in pd.read_csv(dicom_table).iterrows():
        header = pydicom.dcmread(dicom_table.parent / row["image"])
        film = draw_phantom(0, int(str(index)), size=96)
        assert (header.PatientID, header.PatientSex, header.ViewPosition) == (
            film.patient,
            film.sex,
            film.view,
        )
        assert header.PatientAge == f"{film.age:03d}Y"
        assert header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID
        assert header.SOPInstanceUID.is_valid
        uids.add(header.SOPInstanceUID)
        if header.Modality == "DX":  # type 1 attributes of the Digital X-Ray modules
            for keyword in (
                "PresentationIntentType", "AnatomicRegionSequence", "ImageLaterality", "ImageType",
                "PixelIntensityRelationship", "PixelIntensityRelationshipSign", "RescaleIntercept",
                "RescaleSlope", "RescaleType", "PresentationLUTShape", "LossyImageCompression",
                "BurnedInAnnotation", "ImagerPixelSpacing",
            ):  # fmt: skip
                assert header[keyword].value not in (None, ""), keyword
    assert len(uids) == 18


def test_the_same_arguments_write_the_same_bytes(dicom_table: Path, tmp_path: Path) -> None:
    again = write_phantoms(tmp_path, count=18, size=96, format="dicom")
    for path in [dicom_table, *sorted((dicom_table.parent / "images").iterdir())]:
        assert path.read_bytes() == (again.parent / path.relative_to(dicom_table.parent)).read_bytes()


def test_a_table_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    table = write_phantoms(tmp_path, count=1, size=32)
    before = table.read_bytes()
    with pytest.raises(OutputError, match="is there already"):
        write_phantoms(tmp_path, count=2, size=32)
    assert table.read_bytes() == before


def test_an_interrupted_writing_leaves_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seed: int, index: int, **_: object) -> Phantom:
        if index == 2:
            raise KeyboardInterrupt
        return draw_phantom(seed, index, size=32)

    monkeypatch.setattr(phantom_module, "draw_phantom", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_phantoms(tmp_path, count=3, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        write_phantoms(tmp_path / "file", count=1, size=32)


@pytest.mark.parametrize(
    "arguments",
    [{"count": 0}, {"count": 1, "size": 31}, {"count": 1, "seed": -1}, {"count": 1, "format": "jpg"}],
)
def test_arguments_out_of_range_are_refused(tmp_path: Path, arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"expected|0 or more"):
        write_phantoms(tmp_path, **arguments)  # type: ignore[arg-type]
