import contextlib
import io
import os
import random
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from hilum.errors import ImageError
from hilum.images.facts import FilmFacts
from hilum.images.read import film_facts, read_image
from tests.images.dicom_films import as_jpeg, as_lossless_jpeg, film, lut_item, ramp, save
from tests.real_films import FILMS, needs_films


def encoded(suffix: str, pixels: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(suffix, pixels, list(options))[1].tobytes()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def smooth(height: int = 50, width: int = 60) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def test_a_grey_png_is_returned_unchanged(tmp_path):
    found = read_image(written(tmp_path / "film.png", encoded(".png", ramp(8))))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, ramp(8))


def test_twelve_bits_in_a_16_bit_png_keep_their_levels(tmp_path):
    found = read_image(written(tmp_path / "film.png", encoded(".png", ramp(12, height=64, width=64))))
    assert found.dtype == np.uint16
    assert len(np.unique(found)) == 4096
    np.testing.assert_array_equal(found, np.rint(ramp(12, height=64, width=64) * (65_535 / 4095)))


@pytest.mark.parametrize(
    ("brightest", "top"), [(200, 255), (700, 1023), (4095, 4095), (4096, 8191), (65_535, 65_535)]
)
def test_a_16_bit_png_is_divided_by_what_its_brightest_pixel_needs(tmp_path, brightest, top):
    pixels = np.linspace(0, brightest, 40 * 40).round().astype(np.uint16).reshape(40, 40)
    found = read_image(written(tmp_path / "film.png", encoded(".png", pixels)))
    np.testing.assert_array_equal(found, np.rint(pixels * (65_535 / top)))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1"])
def test_png_of_every_kind_that_is_grey_gives_the_same_film(tmp_path, mode):
    grey = Image.fromarray(np.where(smooth() > 127, 255, 0).astype(np.uint8) if mode == "1" else smooth())
    image = grey.convert(mode) if mode != "P" else grey.copy()
    if mode == "P":
        image.putpalette([level for level in range(256) for _ in range(3)])
    image.save(tmp_path / "film.png")
    np.testing.assert_array_equal(read_image(tmp_path / "film.png"), np.asarray(grey))


def test_a_16_bit_rgb_png_keeps_its_depth(tmp_path):
    pixels = ramp(16)
    found = read_image(written(tmp_path / "film.png", encoded(".png", cv2.merge([pixels] * 3))))
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_coloured_pictures_are_refused_and_a_coloured_marker_is_not(tmp_path, suffix):
    pixels = cv2.merge([smooth(200, 200)] * 3)
    pixels[5:9, 5:9] = (0, 0, 255)
    if suffix == ".png":
        assert read_image(written(tmp_path / "film", encoded(suffix, pixels))).shape == (200, 200)
    pixels[:60, :60, 2] = 255 - pixels[:60, :60, 2]
    with pytest.raises(ImageError, match="colour image"):
        read_image(written(tmp_path / "film", encoded(suffix, pixels)))


def test_transparent_pixels_are_refused(tmp_path):
    pixels = cv2.merge([smooth()] * 3 + [np.full((50, 60), 255, np.uint8)])
    pixels[0, 0, 3] = 0
    with pytest.raises(ImageError, match="transparent"):
        read_image(written(tmp_path / "film.png", encoded(".png", pixels)))


@pytest.mark.parametrize(
    "options", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 4)]
)
def test_a_jpeg_is_what_pillow_decodes(tmp_path, options):
    content = encoded(".jpg", smooth(), *options)
    found = read_image(written(tmp_path / "film.jpg", content))
    np.testing.assert_array_equal(found, np.asarray(Image.open(io.BytesIO(content))))


def test_a_grey_jpeg_stored_in_colour_is_grey(tmp_path):
    content = encoded(".jpg", cv2.merge([smooth()] * 3))
    by_pillow = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), int).mean(axis=2)
    found = read_image(written(tmp_path / "film.jpg", content)).astype(int)
    assert np.abs(found - by_pillow).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_as_its_exif_says(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(smooth()).save(tmp_path / "film.jpg", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "film.jpg"))
    np.testing.assert_array_equal(read_image(tmp_path / "film.jpg"), np.asarray(upright))


def test_the_content_decides_and_not_the_suffix(tmp_path):
    for suffix, content in ((".jpg", encoded(".png", smooth())), (".dcm", encoded(".jpg", smooth()))):
        assert read_image(written(tmp_path / f"film{suffix}", content)).shape == (50, 60)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><p>Not found</p>", "HTML"),
        (b"GIF89a" + bytes(100), "GIF"),
        (b"II*\0" + bytes(100), "TIFF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"Secret" * 50, "its content is unknown; expected PNG, JPEG, or DICOM"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"\xff\xd8\xff", "truncated"),
        (b"\xff\xd8\xff\xd9", "no image"),
        (bytes(128) + b"DICM", "no pixels"),
    ],
)
def test_what_is_no_image_is_named(tmp_path, content, reason):
    with pytest.raises(ImageError, match=reason) as caught:
        read_image(written(tmp_path / "film.png", content))
    assert str(caught.value).startswith(f"{tmp_path / 'film.png'}: ")
    assert "Secret" not in str(caught.value)


def test_missing_files_folders_and_pipes_are_errors(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (
        ("absent.png", "No such file"),
        (".", "no regular file"),
        ("pipe", "no regular file"),
    ):
        with pytest.raises(ImageError, match=reason):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match="its name"):
        read_image("a\0b")


def test_unusual_jpegs_are_refused_by_kind(tmp_path):
    cmyk = io.BytesIO()
    Image.new("CMYK", (40, 40)).save(cmyk, "JPEG")
    with pytest.raises(ImageError, match="4 channels"):
        read_image(written(tmp_path / "film.jpg", cmyk.getvalue()))
    content = bytearray(encoded(".jpg", smooth()))
    content[content.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(ImageError, match="12 bits, process 0"):
        read_image(written(tmp_path / "film.jpg", bytes(content)))


def samples(folder: Path) -> dict[str, bytes]:
    """One small film of every format and transfer syntax that is decoded in this process."""
    made = {
        "png": encoded(".png", smooth()),
        "png16": encoded(".png", ramp(12)),
        "rgb": encoded(".png", cv2.merge([smooth()] * 3)),
        "jpg": encoded(".jpg", smooth()),
        "progressive": encoded(".jpg", smooth(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    }
    for name, syntax in {"rle": RLELossless, "jls": JPEGLSLossless, "j2k": JPEG2000Lossless}.items():
        dataset = film(ramp(12), 12, WindowCenter=2000, WindowWidth=3000)
        dataset.compress(syntax, generate_instance_uid=False)
        made[name] = save(dataset, folder / "made.dcm").read_bytes()
    made["lut"] = save(
        film(ramp(12), 12, VOILUTSequence=[lut_item(0, 10, list(range(1000)))]), folder / "made.dcm"
    ).read_bytes()
    made["deflated"] = save(
        film(ramp(8), 8, syntax="1.2.840.10008.1.2.1.99"), folder / "made.dcm"
    ).read_bytes()
    made["implicit"] = save(film(ramp(12), 12, syntax="1.2.840.10008.1.2"), folder / "made.dcm").read_bytes()
    made["baseline"] = save(as_jpeg(film(ramp(8), 8))[0], folder / "made.dcm").read_bytes()
    return made


@pytest.mark.parametrize(
    "name",
    [
        "png",
        "png16",
        "rgb",
        "jpg",
        "progressive",
        "rle",
        "jls",
        "j2k",
        "lut",
        "deflated",
        "implicit",
        "baseline",
    ],
)
def test_a_truncated_file_is_an_error_wherever_it_ends(tmp_path, name):
    content = samples(tmp_path)[name]
    assert read_image(written(tmp_path / "whole", content)).ndim == 2
    positions = {*range(0, min(len(content), 700), 13), *range(0, len(content), len(content) // 40)}
    # a byte of padding may be missing from the end of a DICOM file's last element without loss
    for position in sorted(positions | {len(content) - n for n in (2, 3, 9, 30)}):
        with pytest.raises(ImageError):
            read_image(written(tmp_path / "cut", content[:position]))


def mutated(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    reach = chance.choice([64, 512, len(changed)])
    start = chance.choice([0, 128])
    for _ in range(chance.randint(1, 6)):
        position = min(start + chance.randrange(reach), len(changed) - 1)
        flipped = changed[position] ^ (1 << chance.randrange(8))
        changed[position] = chance.choice([0, 255, 127, flipped, chance.randrange(256)])
    if chance.random() < 0.1:
        position = chance.randrange(len(changed))
        del changed[position : position + chance.randint(1, 64)]
    return bytes(changed)


def fuzz(folder: Path, count: int, seed: int) -> tuple[int, int]:
    """How many mutants were read and refused; anything but an ImageError propagates."""
    chance = random.Random(seed)
    originals = list(samples(folder).values())
    read = refused = 0
    for _ in range(count):
        path = written(folder / "mutant", mutated(chance.choice(originals), chance))
        try:
            pixels = read_image(path)
        except ImageError:
            refused += 1
        else:
            assert pixels.ndim == 2
            assert pixels.dtype in (np.uint8, np.uint16)
            read += 1
        with contextlib.suppress(ImageError):
            film_facts(path)
    return read, refused


def test_mutated_files_give_a_film_or_an_image_error(tmp_path):
    read, refused = fuzz(tmp_path, 600, seed=1)
    assert read > 20
    assert refused > 100


@pytest.mark.slow
def test_very_many_mutated_files_give_a_film_or_an_image_error(tmp_path):
    assert sum(fuzz(tmp_path, 20_000, seed=2)) == 20_000


@pytest.mark.slow
def test_mutated_lossless_jpegs_give_a_film_or_an_image_error(tmp_path):
    pytest.importorskip("gdcm", reason="the extra jpeg-lossless is not installed")
    chance = random.Random(3)
    content = save(as_lossless_jpeg(film(ramp(12), 12), tmp_path / "a.dcm"), tmp_path / "b.dcm").read_bytes()
    start = content.index(b"\xff\xd8\xff")
    for _ in range(300):
        mutant = content[:start] + mutated(content[start:], chance)
        with contextlib.suppress(ImageError):
            assert read_image(written(tmp_path / "mutant", mutant)).shape == (40, 48)


def test_damage_inside_a_png_is_an_error_though_its_header_is_whole(tmp_path):
    content = bytearray(encoded(".png", smooth()))
    content[len(content) // 2] ^= 0x40
    with pytest.raises(ImageError, match="checksum"):
        read_image(written(tmp_path / "film.png", bytes(content)))


def test_an_animated_png_is_refused(tmp_path):
    frames = [Image.fromarray(smooth()), Image.fromarray(255 - smooth())]
    frames[0].save(tmp_path / "film.png", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="animation"):
        read_image(tmp_path / "film.png")


def test_a_png_whose_pixels_are_short_is_an_error(tmp_path):
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 40, 40, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(41 * 20))) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="damaged"):
        read_image(written(tmp_path / "film.png", b"\x89PNG\r\n\x1a\n" + parts))


def test_facts_of_pictures_are_their_size_and_depth(tmp_path):
    assert film_facts(written(tmp_path / "a", encoded(".png", ramp(12)))) == FilmFacts("png", 40, 48, 16)
    assert film_facts(written(tmp_path / "b", encoded(".jpg", smooth()))) == FilmFacts("jpeg", 50, 60, 8)


@needs_films
@pytest.mark.parametrize("folder", ["nih_rsna", "tuberculosis_shenzhen", "paediatric_pneumonia"])
def test_real_films_are_what_pillow_decodes(folder):
    for path in sorted((FILMS / folder / "images").iterdir())[::200][:4]:
        with Image.open(path) as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(read_image(path), np.asarray(image))
