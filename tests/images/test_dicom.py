import os
import re
import subprocess
import sys
from pathlib import Path

import jpeg_ls
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence
from pydicom.uid import (
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from hilum.errors import DependencyError, ImageError
from hilum.images import lossless_jpeg
from hilum.images.facts import FilmFacts
from hilum.images.limits import Limits
from hilum.images.read import film_facts, read_image
from tests.images.dicom_films import (
    JPEG_LOSSLESS,
    as_jpeg,
    as_lossless_jpeg,
    compressed,
    film,
    levels_of,
    lut_item,
    ramp,
    save,
    shown,
)

PUBLIC = Path(pydicom.__file__).parent / "data" / "test_files"
WHOLE = {"WindowCenter": 2048, "WindowWidth": 4096, "VOILUTFunction": "LINEAR_EXACT"}


def read(dataset: Dataset, folder: Path) -> np.ndarray:
    return read_image(save(dataset, folder / "film.dcm"))


def expected(stored: np.ndarray, bits: int, *, slope=1.0, intercept=0.0, window, invert=False) -> np.ndarray:
    rows = [
        [shown(float(value) * slope + intercept, *window) for value in line]
        for line in stored.astype(int).tolist()
    ]
    fractions = np.array(rows)
    return levels_of(1 - fractions if invert else fractions, bits)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize(
    ("bits", "signed"), [(8, False), (10, False), (12, False), (12, True), (16, False), (16, True)]
)
def test_a_window_follows_the_standards_formula(tmp_path, function, invert, bits, signed):
    pixels = ramp(bits, signed=signed)
    centre, width = float(pixels.mean()) * 1.1 + 3, 2**bits / 3
    dataset = film(
        pixels,
        bits,
        WindowCenter=f"{centre:.6g}",
        WindowWidth=f"{width:.6g}",
        VOILUTFunction=function,
        PhotometricInterpretation="MONOCHROME1" if invert else "MONOCHROME2",
    )
    window = (float(f"{centre:.6g}"), float(f"{width:.6g}"), function)
    found = read(dataset, tmp_path)
    assert found.dtype == (np.uint8 if bits <= 8 else np.uint16)
    np.testing.assert_array_equal(found, expected(pixels, bits, window=window, invert=invert))


def test_rescaling_comes_before_the_window(tmp_path):
    pixels = ramp(12)
    dataset = film(
        pixels, 12, RescaleSlope="-2.5", RescaleIntercept="300", WindowCenter=-4000, WindowWidth=6000
    )
    want = expected(pixels, 12, slope=-2.5, intercept=300, window=(-4000, 6000, "LINEAR"))
    np.testing.assert_array_equal(read(dataset, tmp_path), want)


def test_a_window_without_a_function_is_linear_and_the_first_of_several_counts(tmp_path):
    pixels = ramp(12)
    dataset = film(pixels, 12, WindowCenter=[1000, 3000], WindowWidth=[900, 100])
    want = expected(pixels, 12, window=(1000, 900, "LINEAR"))
    np.testing.assert_array_equal(read(dataset, tmp_path), want)


def test_a_window_of_width_one_is_a_threshold(tmp_path):
    pixels = ramp(12)
    found = read(film(pixels, 12, WindowCenter=1000, WindowWidth=1), tmp_path)
    np.testing.assert_array_equal(found, np.where(pixels > 999.5, 65_535, 0))


@pytest.mark.parametrize("signed", [False, True])
def test_a_modality_table_replaces_the_rescaling(tmp_path, signed):
    pixels = ramp(8, signed=signed).astype(np.int16 if signed else np.uint16)
    entries = [(7 * i * i) % 4096 for i in range(200)]
    item = lut_item(-100 if signed else 10, 12, entries, signed=signed)
    dataset = film(
        pixels, 12, ModalityLUTSequence=Sequence([item]), RescaleSlope=9, RescaleIntercept=9, **WHOLE
    )
    first = -100 if signed else 10
    table = np.vectorize(lambda value: entries[min(max(value - first, 0), 199)])(pixels.astype(int))
    want = expected(table, 12, window=(2048, 4096, "LINEAR_EXACT"))
    np.testing.assert_array_equal(read(dataset, tmp_path), want)


def test_a_voi_table_is_preferred_to_a_window(tmp_path):
    pixels = ramp(12)
    entries = [int(1023 * (i / 2999) ** 2) for i in range(3000)]
    dataset = film(
        pixels, 12, VOILUTSequence=Sequence([lut_item(500, 10, entries)]), WindowCenter=9, WindowWidth=9
    )
    values = np.vectorize(lambda value: entries[min(max(value - 500, 0), 2999)])(pixels.astype(int))
    np.testing.assert_array_equal(read(dataset, tmp_path), levels_of(values / 1023, 12))


def test_a_voi_table_of_65536_entries_declares_none(tmp_path):
    pixels = ramp(16)
    item = lut_item(0, 16, [65_535 - i for i in range(65_536)])
    np.testing.assert_array_equal(
        read(film(pixels, 16, VOILUTSequence=Sequence([item])), tmp_path), 65_535 - pixels
    )


def test_tables_and_windows_agree_with_pydicom(tmp_path):
    pixels = ramp(12, signed=True)
    dataset = film(pixels, 12, RescaleSlope="1.5", RescaleIntercept="-20", WindowCenter=200, WindowWidth=2500)
    by_pydicom = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    low, high = -2048 * 1.5 - 20, 2047 * 1.5 - 20
    fraction = (by_pydicom - low) / (high - low)
    assert np.abs(read(dataset, tmp_path) / 65_535 - fraction).max() < 1e-5


def test_monochrome1_is_the_negative_of_its_monochrome2_copy(tmp_path):
    pixels = ramp(12)
    negative = read(film(pixels, 12, PhotometricInterpretation="MONOCHROME1", **WHOLE), tmp_path)
    positive = read(
        film(4095 - pixels, 12, WindowCenter=2047, WindowWidth=4096, VOILUTFunction="LINEAR_EXACT"), tmp_path
    )
    np.testing.assert_array_equal(negative, positive)


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME1", "IDENTITY", True),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
    ],
)
def test_the_presentation_lut_shape_never_inverts_twice(tmp_path, photometric, shape, inverted):
    pixels = ramp(12)
    tags = {"PresentationLUTShape": shape} if shape else {}
    dataset = film(pixels, 12, PhotometricInterpretation=photometric, **tags, **WHOLE)
    want = expected(pixels, 12, window=(2048, 4096, "LINEAR_EXACT"), invert=inverted)
    np.testing.assert_array_equal(read(dataset, tmp_path), want)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("value", "limit"), [(0, None), (0, 600), (600, 0)])
def test_padding_is_black_whatever_the_inversion(tmp_path, photometric, value, limit):
    pixels = ramp(12)
    tags = {} if limit is None else {"PixelPaddingRangeLimit": limit}
    dataset = film(
        pixels, 12, PhotometricInterpretation=photometric, PixelPaddingValue=value, **tags, **WHOLE
    )
    found = read(dataset, tmp_path)
    outside = pixels == 0 if limit is None else pixels <= 600
    want = expected(pixels, 12, window=(2048, 4096, "LINEAR_EXACT"), invert=photometric == "MONOCHROME1")
    np.testing.assert_array_equal(found, np.where(outside, 0, want))


def test_the_padding_of_a_signed_film_is_signed(tmp_path):
    pixels = ramp(12, signed=True)
    dataset = film(pixels, 12, WindowCenter=0, WindowWidth=4096)
    dataset.add_new(0x00280120, "SS", -2048)
    dataset.PhotometricInterpretation = "MONOCHROME1"
    found = read(dataset, tmp_path)
    assert (found[pixels == -2048] == 0).all()
    assert (found[pixels == -2047] > 65_000).all()


def test_percentiles_outside_the_padding_are_the_window_of_a_film_without_one(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.gamma(4, 300, (60, 70)).clip(1, 4095).astype(np.uint16)
    pixels[:, :20] = 0
    found = read(film(pixels, 12, PixelPaddingValue=0), tmp_path)
    inside = pixels[:, 20:].astype(float)
    low, high = np.percentile(inside, [0.5, 99.5], method="inverted_cdf")
    want = levels_of(np.clip((inside - low) / (high - low), 0, 1), 12)
    np.testing.assert_array_equal(found[:, 20:], want)
    assert not found[:, :20].any()


def test_eight_bits_without_a_window_stay_as_they_are(tmp_path):
    pixels = ramp(8)
    pixels[pixels > 200] = 200
    np.testing.assert_array_equal(read(film(pixels, 8), tmp_path), pixels)


@pytest.mark.parametrize(
    "window", [{"WindowWidth": 0}, {"WindowCenter": 60_000, "WindowWidth": 10}, {"WindowWidth": -5}]
)
def test_a_window_that_shows_nothing_counts_as_none(tmp_path, window):
    pixels = ramp(12)
    without = read(film(pixels, 12), tmp_path)
    np.testing.assert_array_equal(read(film(pixels, 12, **{"WindowCenter": 100} | window), tmp_path), without)


def test_bits_above_the_stored_ones_are_not_brightness(tmp_path):
    pixels = ramp(12)
    overlay = pixels | np.uint16(0x8000)
    np.testing.assert_array_equal(
        read(film(overlay, 12, **WHOLE), tmp_path), expected(pixels, 12, window=(2048, 4096, "LINEAR_EXACT"))
    )
    np.testing.assert_array_equal(
        read(film(pixels << 4, 12, HighBit=15, **WHOLE), tmp_path),
        expected(pixels, 12, window=(2048, 4096, "LINEAR_EXACT")),
    )


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
@pytest.mark.parametrize(("bits", "signed"), [(8, False), (12, False), (12, True)])
def test_every_uncompressed_syntax_reads_alike(tmp_path, syntax, bits, signed):
    pixels = ramp(bits, signed=signed)
    dataset = film(pixels, bits, WindowCenter=100, WindowWidth=200, syntax=syntax)
    want = expected(pixels, bits, window=(100, 200, "LINEAR"))
    np.testing.assert_array_equal(read(dataset, tmp_path), want)


def test_sequences_are_found_in_implicit_big_endian_and_deflated_files(tmp_path):
    pixels = ramp(12)
    entries = [i // 4 for i in range(4096)]
    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        item = lut_item(0, 10, entries)
        if syntax == ExplicitVRBigEndian:
            item[0x00283006].value = np.array(entries, ">u2").tobytes()
        dataset = film(pixels, 12, VOILUTSequence=Sequence([item]), syntax=syntax)
        np.testing.assert_array_equal(read(dataset, tmp_path), levels_of((pixels // 4) / 1023, 12))


@pytest.mark.parametrize("undefined", [False, True])
def test_private_and_nested_sequences_are_stepped_over(tmp_path, undefined):
    inner = film(ramp(8), 8)
    del inner.file_meta
    middle = Dataset()
    middle.IconImageSequence = Sequence([inner])
    middle["IconImageSequence"].is_undefined_length = undefined
    dataset = film(ramp(12), 12, RequestAttributesSequence=Sequence([middle, Dataset()]), **WHOLE)
    dataset["RequestAttributesSequence"].is_undefined_length = undefined
    dataset.private_block(0x0021, "ACME", create=True).add_new(1, "UN", b"\xfe\xff\x00\xe0\x08\0\0\0junkjunk")
    want = expected(ramp(12), 12, window=(2048, 4096, "LINEAR_EXACT"))
    np.testing.assert_array_equal(read(dataset, tmp_path), want)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize(("bits", "signed"), [(8, False), (12, False), (12, True), (16, False)])
def test_lossless_compression_changes_nothing(tmp_path, syntax, bits, signed):
    dataset = film(ramp(bits, signed=signed), bits, WindowCenter=100, WindowWidth=300)
    plain = read(dataset, tmp_path)
    if syntax == JPEGLSLossless and signed:
        # pydicom refuses to encode signed films; scanners encode their two's complement bits
        patterns = ramp(bits, signed=True).view(np.uint16) & 0xFFF
        compressed(dataset, bytes(jpeg_ls.encode_array(patterns)), JPEGLSLossless)
    else:
        dataset.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(read(dataset, tmp_path), plain)


@pytest.mark.parametrize(("bits", "signed"), [(8, False), (12, False), (16, False), (12, True)])
def test_jpeg_lossless_is_decoded_in_a_child(tmp_path, bits, signed):
    pytest.importorskip("gdcm", reason="the extra jpeg-lossless is not installed")
    dataset = film(ramp(bits, signed=signed), bits, WindowCenter=100, WindowWidth=300)
    plain = read(dataset, tmp_path)
    encoded = as_lossless_jpeg(dataset, tmp_path / "source.dcm")
    assert encoded.file_meta.TransferSyntaxUID == JPEG_LOSSLESS
    np.testing.assert_array_equal(read(encoded, tmp_path), plain)


def test_without_gdcm_the_error_names_the_extra(tmp_path, monkeypatch):
    pytest.importorskip("gdcm", reason="the extra jpeg-lossless is not installed")
    path = save(as_lossless_jpeg(film(ramp(12), 12), tmp_path / "source.dcm"), tmp_path / "film.dcm")
    monkeypatch.setattr(lossless_jpeg.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"film\.dcm.*pip install hilum\[jpeg-lossless\]"):
        read_image(path)


def test_a_child_that_hangs_crashes_or_lies_is_an_error(tmp_path, monkeypatch):
    pytest.importorskip("gdcm", reason="the extra jpeg-lossless is not installed")
    path = save(as_lossless_jpeg(film(ramp(12), 12), tmp_path / "source.dcm"), tmp_path / "film.dcm")
    script = tmp_path / "child.py"
    monkeypatch.setattr(lossless_jpeg, "_SCRIPT", script)
    for code, reason in (
        ("import time; time.sleep(60)", "longer than 0.5 s"),
        ("import os; os.kill(os.getpid(), 11)", "signal 11"),
        ("print('short')", "damaged"),
        ("raise SystemExit(3)", "damaged"),
    ):
        script.write_text(code)
        with pytest.raises(ImageError, match=reason):
            read_image(path, limits=Limits(seconds=0.5 if "sleep" in code else 10))


def test_the_child_limits_its_memory(tmp_path):
    pytest.importorskip("gdcm", reason="the extra jpeg-lossless is not installed")
    path = save(as_lossless_jpeg(film(ramp(12), 12), tmp_path / "source.dcm"), tmp_path / "film.dcm")
    with pytest.raises(ImageError, match="JPEG lossless"):
        read_image(path, limits=Limits(child_bytes=20 << 20))


def test_jpeg_baseline_is_what_pillow_decodes(tmp_path):
    dataset, by_pillow = as_jpeg(film(ramp(8), 8))
    np.testing.assert_array_equal(read(dataset, tmp_path), by_pillow)


def test_several_fragments_are_one_frame(tmp_path):
    from pydicom.encaps import encapsulate

    dataset = film(ramp(8), 8)
    dataset, by_pillow = as_jpeg(dataset)
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame], fragments_per_frame=3)
    np.testing.assert_array_equal(read(dataset, tmp_path), by_pillow)


def test_lossy_jpeg_of_12_bits_is_refused_with_a_way_out(tmp_path):
    dataset = pydicom.dcmread(PUBLIC / "JPGExtended.dcm")
    dataset.Modality, dataset.BodyPartExamined = "CR", "CHEST"
    with pytest.raises(ImageError, match=r"12 bits.*dcmconv"):
        read(dataset, tmp_path)


@pytest.mark.parametrize(
    "name",
    ["693_J2KI", "J2K_pixelrep_mismatch", "MR_small", "MR_small_RLE", "MR_small_bigendian", "MR_small_expb",
     "MR_small_implicit", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "MR_small_padded", "CT_small",
     "JPEG2000", "examples_overlay", "image_dfl"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_public_files_agree_with_pydicom(tmp_path, name):
    """Files of other modalities, relabelled: the decoders and the grey scale are the same."""
    source = PUBLIC / f"{name}.dcm"
    if not source.exists():
        pytest.skip("this build of pydicom does not ship the file")
    dataset = pydicom.dcmread(source)
    dataset.Modality, dataset.BodyPartExamined = "CR", "CHEST"
    values = apply_modality_lut(dataset.pixel_array, dataset).astype(float)
    for tag in ("WindowCenter", "WindowWidth", "VOILUTSequence", "PixelPaddingValue"):
        if tag in dataset:
            del dataset[tag]
    low, width = float(values.min()), float(np.ptp(values))
    dataset.WindowCenter, dataset.WindowWidth = low + width / 2, width
    dataset.VOILUTFunction = "LINEAR_EXACT"
    found = read(dataset, tmp_path)
    want = (values - low) / width
    want = 1 - want if dataset.PhotometricInterpretation == "MONOCHROME1" else want
    full = np.iinfo(found.dtype).max
    assert np.abs(found / full - want).max() <= 0.5 / full + 1e-9


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Modality": "CT"}, r"Modality is CT \(computed tomography\)"),
        ({"Modality": "MR"}, "magnetic resonance"),
        ({"Modality": "US"}, "ultrasound"),
        ({"Modality": "NM"}, "nuclear"),
        ({"Modality": "MG"}, "mammography"),
        ({"Modality": "QZ"}, "Modality is unknown"),
        ({"BodyPartExamined": "HAND"}, "BodyPartExamined is HAND; expected CHEST"),
        ({"BodyPartExamined": "C SPINE"}, "CSPINE"),
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour image.*RGB"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour image.*PALETTE"),
        ({"PhotometricInterpretation": "Secret"}, "PhotometricInterpretation is unknown"),
        ({"BitsAllocated": 32}, "BitsAllocated is 32"),
        ({"BitsStored": 14, "HighBit": 3}, "contradict"),
        ({"Rows": None}, "Rows or Columns is missing"),
        ({"Rows": 41}, "bytes of pixels"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_what_is_no_chest_film_is_refused_with_the_reason(tmp_path, tags, reason):
    with pytest.raises(ImageError, match=reason) as caught:
        read(film(ramp(12), 12, **tags), tmp_path)
    assert "Secret" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("syntax", "reason"), [("1.2.840.10008.1.2.4.100", "MPEG2"), ("1.2.840.77777.1.2.4.111", "unknown")]
)
def test_an_unsupported_transfer_syntax_is_refused_by_its_name(tmp_path, syntax, reason):
    path = save(compressed(film(ramp(8), 8), bytes(99), "1.2.840.10008.1.2.4.100"), tmp_path / "film.dcm")
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.4.100", syntax.encode()))
    with pytest.raises(ImageError, match=f"transfer syntax is {reason}") as caught:
        read_image(path)
    assert syntax not in str(caught.value)


@pytest.mark.parametrize("modality", ["CR", "DX", "RG", "DR", "OT", "", None])
def test_radiography_and_an_absent_modality_are_accepted(tmp_path, modality):
    assert read(film(ramp(8), 8, Modality=modality), tmp_path).shape == (40, 48)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize("part", ["CHEST", "Thorax", "", None, "TORAX PA", "RIB", "CHEST_TO_ABDOMEN"])
def test_a_chest_or_an_unknown_body_part_is_accepted(tmp_path, part):
    assert read(film(ramp(8), 8, BodyPartExamined=part), tmp_path).shape == (40, 48)


def test_a_file_without_pixels_is_refused_by_its_type(tmp_path):
    dataset = film(ramp(8), 8, SOPClassUID=BasicTextSRStorage, Modality="SR")
    del dataset.PixelData
    with pytest.raises(ImageError, match=r"no pixels.*Basic Text SR"):
        read(dataset, tmp_path)


def test_a_short_table_is_an_error(tmp_path):
    item = lut_item(0, 12, [1, 2, 3, 4])
    item[0x00283002].value = [400, 0, 12]
    with pytest.raises(ImageError, match=r"VOI LUT.*fewer entries"):
        read(film(ramp(12), 12, VOILUTSequence=Sequence([item])), tmp_path)


def test_a_frame_of_another_size_than_the_header_is_refused(tmp_path):
    dataset, _ = as_jpeg(film(ramp(8), 8))
    dataset.Rows = 39
    with pytest.raises(ImageError, match=r"39 x 48.*40 x 48"):
        read(dataset, tmp_path)


def test_a_frame_that_is_no_image_is_refused(tmp_path):
    for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEG_LOSSLESS):
        with pytest.raises(ImageError):
            read(compressed(film(ramp(8), 8), b"BM" + bytes(500), syntax), tmp_path)


def test_a_missing_transfer_syntax_is_guessed(tmp_path):
    path = save(film(ramp(8), 8), tmp_path / "film.dcm")
    content = path.read_bytes()
    # another element of the meta header in the place of (0002,0010)
    path.write_bytes(content.replace(b"\x02\x00\x10\x00UI", b"\x02\x00\x11\x00UI", 1))
    np.testing.assert_array_equal(read_image(path), ramp(8))


def test_facts_come_from_a_list_of_allowed_values(tmp_path):
    dataset = film(
        ramp(12), 12, ViewPosition="PA", PatientSex="F", PatientAge="097Y", Laterality="U", WindowCenter=5
    )
    dataset.WindowWidth = 9
    dataset.PresentationIntentType = "FOR PRESENTATION"
    assert film_facts(save(dataset, tmp_path / "film.dcm")) == FilmFacts(
        "dicom", 40, 48, 12, "MONOCHROME2", "window", "PA", "F", 90, "U", "FOR PRESENTATION"
    )


@pytest.mark.parametrize(("written", "told"), [("YES", "YES"), ("NO", "NO"), ("", ""), ("CANARY", "")])
def test_a_header_says_whether_writing_in_the_picture_names_the_patient(tmp_path, written, told):
    dataset = film(ramp(8), 8, BurnedInAnnotation=written)
    assert film_facts(save(dataset, tmp_path / "film.dcm")).burned_in == told


@pytest.mark.parametrize(
    ("written", "years"), [("045Y", 45), ("018M", 1), ("003W", 0), ("090Y", 90), ("old", None)]
)
def test_ages_are_whole_years_capped_at_ninety(tmp_path, written, years):
    dataset = film(ramp(8), 8)
    dataset.add_new(0x00101010, "LO", written)
    assert film_facts(save(dataset, tmp_path / "film.dcm")).age == years


ALWAYS_SPOILT = [
    "PatientID",
    "PatientAge",
    "StudyDescription",
    "ViewPosition",
    "Laterality",
    "InstitutionName",
]


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(
    "spoilt",
    ["PatientSex", "BodyPartExamined", "Modality", "PhotometricInterpretation", "PresentationLUTShape",
     "VOILUTFunction", "SOPClassUID", "WindowCenter", "NumberOfFrames", "Rows", "PixelData"],
)  # fmt: skip
def test_no_header_text_reaches_facts_or_messages(tmp_path, recwarn, spoilt):
    path = save(film(ramp(12), 12, **{"WindowCenter": 5, "WindowWidth": 9}), tmp_path / "film.dcm")
    dataset = pydicom.dcmread(path)
    for tag in [*ALWAYS_SPOILT, spoilt]:
        text = "OW" if tag == "PixelData" else "LO"
        dataset.add_new(tag, text, b"CANARY" if tag == "PixelData" else "CANARY")
    dataset.save_as(path, overwrite=True)
    recwarn.clear()
    try:
        text = repr(film_facts(path)) + repr(read_image(path))
    except ImageError as error:
        text = str(error)
    assert "CANARY" not in text
    assert "Secret" not in text
    assert not recwarn


def test_reading_imports_neither_torch_nor_gdcm(tmp_path):
    path = save(film(ramp(12), 12), tmp_path / "film.dcm")
    code = (
        "import sys; from hilum.images.read import read_image; read_image(sys.argv[1]);"
        "assert not {'torch', 'gdcm', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, env=dict(os.environ))


def test_messages_say_where_what_and_the_way_out(tmp_path):
    path = save(film(ramp(12), 12, Modality="CT"), tmp_path / "film.dcm")
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert re.fullmatch(rf"{re.escape(str(path))}: Modality is CT .*; expected .*", str(caught.value))
