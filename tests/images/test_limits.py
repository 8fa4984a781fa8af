"""Files made to exhaust a machine are refused within a second and 200 MB, each in a process of its own."""

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from hilum.errors import ImageError
from hilum.images.limits import Limits, inflate, read_bytes, require_size
from hilum.images.read import read_image
from tests.images.dicom_films import JPEG_LOSSLESS, compressed, film, ramp, save

SECONDS, MEGABYTES = 1.0, 200
MEASURE = """
import json, re, sys, time
import cv2, numpy
from hilum.errors import ImageError
from hilum.images.read import film_facts, read_image
# getrusage would count the memory of the process that started this one
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
before, start, reasons = peak(), time.process_time(), []
for call in (read_image, film_facts):
    try:
        call(sys.argv[1])
    except ImageError as error:
        reasons.append(str(error))
print(json.dumps([time.process_time() - start, peak() - before, reasons]))
"""


pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is measured with /proc"
)


def refusal(path: Path) -> str:
    """The reason of the refusal by read_image, which must have been quick and small."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True
    )
    seconds, megabytes, reasons = json.loads(done.stdout)
    # processor time: other processes share the machine
    assert seconds < SECONDS
    assert megabytes < MEGABYTES
    assert reasons
    return reasons[0]


def big_header(**tags: object) -> Dataset:
    return film(ramp(12), 12, **{"Rows": 65_535, "Columns": 65_535} | tags)


def test_a_deflate_bomb_is_refused(tmp_path):
    path = save(film(ramp(8), 8, syntax="1.2.840.10008.1.2.1.99"), tmp_path / "bomb.dcm")
    content = path.read_bytes()
    start = content.index(b"\x02\x00\x12\x00")
    start += 8 + struct.unpack("<H", content[start + 6 : start + 8])[0]
    while content[start : start + 2] == b"\x02\x00":
        start += 8 + struct.unpack("<H", content[start + 6 : start + 8])[0]
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    # two gigabytes of zeros are two megabytes; one block is compressed and repeated after a full flush
    zeros = deflate.compress(bytes(1 << 26)) + deflate.flush(zlib.Z_FULL_FLUSH)
    again = deflate.compress(bytes(1 << 26)) + deflate.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(content[:start] + zeros + again * 31)
    assert 1_900_000 < path.stat().st_size < 2_500_000
    assert "inflates beyond the limit" in refusal(path)


@pytest.mark.parametrize(
    "syntax", ["native", RLELossless, JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless, JPEG_LOSSLESS]
)
def test_a_dicom_header_of_65535_squared_is_refused(tmp_path, syntax):
    dataset = big_header()
    if syntax != "native":
        dataset = compressed(dataset, bytes(600), syntax)
    assert "4,294,836,225 pixels" in refusal(save(dataset, tmp_path / "bomb.dcm"))


def test_rows_written_as_a_long_are_refused(tmp_path):
    dataset = film(ramp(12), 12)
    dataset.add_new(0x00280010, "UL", 2**31)
    assert "pixels; the limit" in refusal(save(dataset, tmp_path / "bomb.dcm"))


def jpeg_of(height: int, width: int, marker: int = 0xC0) -> bytes:
    content = cv2.imencode(".jpg", np.zeros((40, 40), np.uint8))[1].tobytes()
    start = content.index(b"\xff\xc0")
    size = struct.pack(">HH", height, width)
    return (
        content[: start + 1] + bytes([marker]) + content[start + 2 : start + 5] + size + content[start + 9 :]
    )


def test_a_compressed_frame_larger_than_its_dicom_header_is_refused(tmp_path):
    siz = struct.pack(
        ">HHHIIIIIIIIHBBB", 0xFF51, 41, 0, 65_535, 65_535, 0, 0, 65_535, 65_535, 0, 0, 1, 7, 1, 1
    )
    frames = {
        JPEGBaseline8Bit: jpeg_of(65_535, 65_535),
        JPEGLSLossless: jpeg_of(65_535, 65_535, 0xF7),
        JPEG_LOSSLESS: jpeg_of(65_535, 65_535, 0xC3),
        JPEG2000Lossless: b"\xff\x4f" + siz + bytes(100),
    }
    for syntax, frame in frames.items():
        path = save(compressed(film(ramp(8), 8), frame, syntax), tmp_path / "bomb.dcm")
        assert "65535 x 65535" in refusal(path)


def test_a_jpeg_2000_of_countless_tiles_is_refused(tmp_path):
    siz = struct.pack(">HHHIIIIIIIIHBBB", 0xFF51, 41, 0, 7000, 7000, 0, 0, 1, 1, 0, 0, 1, 7, 1, 1)
    path = save(
        compressed(film(ramp(8), 8), b"\xff\x4f" + siz + bytes(100), JPEG2000Lossless), tmp_path / "bomb.dcm"
    )
    assert "more tiles" in refusal(path)


def test_a_large_rle_film_of_a_few_bytes_stays_small(tmp_path):
    dataset = film(ramp(8), 8, Rows=6000, Columns=6000)
    header = struct.pack("<16I", 1, 64, *[0] * 14)
    assert "RLE" in refusal(
        save(compressed(dataset, header + b"\x81\0" * 40, RLELossless), tmp_path / "bomb.dcm")
    )


def png_of(height: int, width: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1 << 20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_pictures_of_65535_squared_are_refused(tmp_path):
    for name, content in {"bomb.png": png_of(65_535, 65_535), "bomb.jpg": jpeg_of(65_500, 65_500)}.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert "pixels; the limit is 64,000,000" in refusal(path)


def test_a_progressive_jpeg_of_countless_scans_is_refused(tmp_path):
    content = cv2.imencode(".jpg", np.zeros((64, 64), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[
        1
    ].tobytes()
    last = content.rindex(b"\xff\xda")
    path = tmp_path / "bomb.jpg"
    path.write_bytes(content[:-2] + content[last:-2] * 5000 + b"\xff\xd9")
    assert "passes over the image" in refusal(path)


def nested(depth: int, *, undefined: bool, implicit: bool) -> bytes:
    """Sequences within sequences, written by hand: pydicom would recurse."""
    kind = b"" if implicit else b"SQ\0\0"
    tag = b"\x08\x00\x40\x11" + kind
    if undefined:
        opening = tag + b"\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
        closing = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
        return opening * depth + closing * depth
    content = b""
    for _ in range(depth):
        item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(content)) + content
        content = tag + struct.pack("<I", len(item)) + item
    return content


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("implicit", [False, True])
def test_a_thousand_nested_sequences_are_refused_and_fifty_are_read(tmp_path, undefined, implicit):
    syntax = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
    path = save(film(ramp(8), 8, syntax=syntax), tmp_path / "bomb.dcm")
    content = path.read_bytes()
    start = content.index(b"\x08\x00\x60\x00") + 10
    path.write_bytes(content[:start] + nested(50, undefined=undefined, implicit=implicit) + content[start:])
    np.testing.assert_array_equal(read_image(path), ramp(8))
    path.write_bytes(content[:start] + nested(1000, undefined=undefined, implicit=implicit) + content[start:])
    assert path.stat().st_size < 50_000
    assert "nested deeper than 64" in refusal(path)


def test_too_many_elements_or_too_long_a_header_are_refused(tmp_path):
    path = save(film(ramp(8), 8), tmp_path / "bomb.dcm")
    content = path.read_bytes()
    start = content.index(b"\x08\x00\x60\x00") + 10
    many = b"".join(b"\x09\x00" + struct.pack("<H", i % 65_536) + b"LO\0\0" for i in range(300_000))
    path.write_bytes(content[:start] + many + content[start:])
    assert "20,000 elements" in refusal(path)
    long = b"\x09\x00\x01\x10OB\0\0" + struct.pack("<I", 9 << 20) + bytes(9 << 20)
    path.write_bytes(content[:start] + long + content[start:])
    assert "header exceeds" in refusal(path)


def test_a_file_over_the_limit_is_not_opened(tmp_path):
    path = tmp_path / "bomb.png"
    with open(path, "wb") as file:
        file.truncate(5 << 30)
    assert "5,368,709,120 bytes; the limit" in refusal(path)


def test_limits_can_be_raised_and_lowered(tmp_path):
    path = tmp_path / "film.png"
    path.write_bytes(cv2.imencode(".png", np.zeros((40, 50), np.uint8))[1].tobytes())
    assert read_image(path, limits=Limits(pixels=2000, shorter_side=40)).shape == (40, 50)
    for limits, reason in (
        (Limits(pixels=1999), "40 x 50 = 2,000 pixels; the limit is 1,999"),
        (Limits(shorter_side=41), "shorter side has 41 or more"),
        (Limits(file_bytes=20), "127 bytes; the limit is 20"),
    ):
        with pytest.raises(ImageError, match=reason):
            read_image(path, limits=limits)


def test_thumbnails_are_refused():
    with pytest.raises(ImageError, match="31 x 500 pixels"):
        require_size(31, 500, Limits())
    require_size(32, 32, Limits())


def test_inflating_stops_at_the_limit_and_returns_what_was_deflated():
    deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    plain = np.random.default_rng(0).integers(0, 8, 300_000).astype(np.uint8).tobytes()
    stream = deflate.compress(plain) + deflate.flush()
    assert inflate(memoryview(stream), Limits()) == plain
    assert inflate(memoryview(stream), Limits(inflated_bytes=300_000)) == plain
    for content, limits, reason in (
        (stream, Limits(inflated_bytes=299_999), "beyond"),
        (stream[:-5], Limits(), "truncated"),
        (b"\xff" * 50, Limits(), "damaged"),
        (b"", Limits(), "truncated"),
    ):
        with pytest.raises(ImageError, match=reason):
            inflate(memoryview(content), limits)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_an_error(tmp_path):
    path = tmp_path / "film.png"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(ImageError, match="Permission denied"):
        read_bytes(path, Limits())
