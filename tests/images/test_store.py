import errno
import hashlib
import json
import multiprocessing
import os
import signal
from collections import namedtuple
from pathlib import Path

import cv2
import numpy as np
import pytest

from hilum.errors import ImageError, MissingError, RecordsError, StorageError
from hilum.images import fill, read, shrink
from hilum.images.store import Store, build_store

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def films(tmp_path):
    """Thirty small PNG files of different sizes: four chunks at store size 4096."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(30):
        path = tmp_path / f"film {number}.png"
        cv2.imwrite(str(path), rng.integers(0, 256, (40 + number, 80 - number // 2), np.uint8))
        paths.append(str(path))
    return paths


def content(store: Store) -> list[bytes]:
    return [store[row].tobytes() for row in range(len(store))]


def build(films, folder, **settings):
    return build_store(films, folder=folder, **{"size": 4096, "workers": 0, "quiet": True} | settings)


def test_small_films_are_kept_as_they_are(films, tmp_path):
    store = build(films, tmp_path / "stores")
    assert len(store) == 30
    for row, path in enumerate(films):
        assert np.array_equal(store[row], cv2.imread(path, cv2.IMREAD_UNCHANGED))
        assert store.source_size(row) == store[row].shape
    assert store.path == tmp_path / "stores" / store.digest


def test_films_are_averaged_down_to_the_shorter_side(tmp_path):
    film = np.random.default_rng(0).integers(0, 256, (96, 160), np.uint8)
    cv2.imwrite(str(tmp_path / "film.png"), film)
    kept = build([str(tmp_path / "film.png")], tmp_path, size=32)
    assert kept.source_size(0) == (96, 160)
    assert kept[0].shape == (32, 53)
    squashed = build([str(tmp_path / "film.png")], tmp_path, size=32, aspect="squash")
    assert squashed.aspect == "squash"
    assert np.abs(squashed[0] - film.reshape(32, 3, 32, 5).mean((1, 3))).max() <= 0.51


def test_the_hash_of_a_film_is_of_its_levels_in_full_size_whatever_the_store_and_the_file_are(tmp_path):
    film = np.random.default_rng(0).integers(0, 256, (96, 160), np.uint8)
    other = film.copy()
    other[50, 50] ^= 1  # lost in an average of 3 x 3
    for name, levels in {
        "film": film,
        "again": film,
        "other": other,
        "turned": film.reshape(160, 96),
    }.items():
        compression = [cv2.IMWRITE_PNG_COMPRESSION, 9 if name == "again" else 1]
        cv2.imwrite(str(tmp_path / f"{name}.png"), levels, compression)
    paths = [str(tmp_path / f"{name}.png") for name in ("film", "again", "other", "turned")]
    stores = [build(paths, tmp_path / "stores", size=size) for size in (96, 32, 1)]
    for store in stores:
        hashes = [store.hash(row) for row in range(4)]
        assert hashes[0] == hashes[1]
        assert len(set(hashes)) == 3
        assert hashes == [stores[0].hash(row) for row in range(4)]
    by_hand = hashlib.blake2b(b"(96, 160)" + film.tobytes(), digest_size=12).hexdigest()
    assert stores[0].hash(0) == by_hand


def test_sixteen_bits_are_averaged_before_they_are_rounded_to_eight():
    deep = np.random.default_rng(0).integers(0, 16384, (64, 64)).astype(np.uint16) * 4  # means are whole
    means = deep.reshape(32, 2, 32, 2).astype(np.int64).sum((1, 3)) / 4
    assert np.array_equal(shrink.shrink(deep, 32), np.rint(means / 65535 * 255))
    assert shrink.shrink(np.full((9, 9), 65535, np.uint16), 3).tolist() == [[255] * 3] * 3


def test_reading_copies_nothing_and_cannot_write(films, tmp_path):
    store = build(films, tmp_path)
    film = store[3]
    assert not film.flags.owndata
    assert np.shares_memory(film, store[3])
    with pytest.raises(ValueError, match="read-only"):
        film[0, 0] = 1


def test_a_path_leads_to_its_film(films, tmp_path):
    store = build([*films, films[4]], tmp_path)
    assert len(store) == 30
    wanted = [films[7], films[0], films[7], films[29]]
    assert store.rows(wanted).tolist() == [7, 0, 7, 29]
    assert store.rows([]).tolist() == []
    with pytest.raises(RecordsError, match=r"2 of 3 .*\n  /no/film: not in the store\n  /none"):
        store.rows(["/no/film", films[0], "/none"])


def test_any_number_of_processes_builds_the_same_store(films, tmp_path):
    alone = build(films, tmp_path / "alone")
    together = build(films, tmp_path / "together", workers=2)
    assert content(alone) == content(together)
    assert alone.digest == together.digest


def test_a_complete_store_is_opened_and_nothing_is_decoded(films, tmp_path, monkeypatch):
    first = build(films, tmp_path)
    monkeypatch.setattr(read, "read_image", None)
    assert content(build(films, tmp_path)) == content(first)
    assert content(Store.open(first.path)) == content(first)


def test_a_changed_file_never_meets_stale_pixels(films, tmp_path):
    digests = {build(films, tmp_path).digest}
    times = os.stat(films[5])
    changed = 255 - cv2.imread(films[5], cv2.IMREAD_UNCHANGED)
    cv2.imwrite(films[5], changed)
    os.utime(films[5], ns=(times.st_atime_ns, times.st_mtime_ns))  # as rsync and cp -p do
    assert os.stat(films[5]).st_mtime_ns == times.st_mtime_ns
    store = build(films, tmp_path)
    assert np.array_equal(store[5], changed)
    digests |= {store.digest}
    digests |= {build(films, tmp_path, size=16).digest}
    digests |= {build(films, tmp_path, size=16, aspect="squash").digest}
    digests |= {build(films[:-1], tmp_path).digest}
    assert len(digests) == 5


def test_every_unreadable_file_is_listed_and_may_be_left_out(films, tmp_path):
    Path(films[2]).write_bytes(b"no image")
    Path(films[20]).unlink()
    with pytest.raises(ImageError, match="2 of 30") as refused:
        build(films, tmp_path)
    assert all(film in str(refused.value) for film in (films[2], films[20]))
    assert "--exclude-unreadable" in str(refused.value)
    store = build(films, tmp_path, exclude_unreadable=True)
    assert len(store) == 28
    assert list(store.excluded) == [films[2], films[20]]
    assert store.rows([films[3]]).tolist() == [2]
    with pytest.raises(RecordsError, match=r"film 2\.png"):
        store.rows([films[2]])
    with pytest.raises(ImageError, match="2 of 30"):  # the complete store does not hide them either
        build(films, tmp_path)


def test_a_failure_that_has_passed_is_tried_again(films, tmp_path, monkeypatch):
    whole = build(films, tmp_path / "whole")
    good = read.read_image

    def out_of_reach(path):
        if path.name == "film 11.png":
            raise ImageError(f"{path}: input/output error")
        return good(path)

    monkeypatch.setattr(read, "read_image", out_of_reach)
    with pytest.raises(ImageError, match="1 of 30"):
        build(films, tmp_path)
    monkeypatch.setattr(read, "read_image", good)
    assert content(build(films, tmp_path)) == content(whole)


def test_a_file_that_kills_its_decoder_is_unreadable_and_the_others_go_on(films, tmp_path, monkeypatch):
    good = read.read_image
    monkeypatch.setattr(
        read, "read_image", lambda path: os._exit(9) if path.name == "film 12.png" else good(path)
    )
    store = build(films, tmp_path, workers=2, exclude_unreadable=True)
    assert list(store.excluded) == [films[12]]
    assert "died" in store.excluded[films[12]]
    assert len(store) == 29


def _die_at(films, folder, kill_at):
    flush, write, calls = fill._flush, fill.write_atomically, iter(range(1000))

    def flush_or_die(file):
        if next(calls) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        flush(file)

    def write_or_die(path, content):
        if next(calls) == kill_at:
            path.with_name(f".{path.name}.0.part").write_bytes(content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, content)

    fill._flush, fill.write_atomically = flush_or_die, write_or_die
    build(films, folder)


@pytest.mark.parametrize("kill_at", range(14))
def test_a_build_killed_at_any_write_resumes_to_the_same_store(films, tmp_path, monkeypatch, kill_at):
    """Fourteen writes: the journal's start, pixels and journal of four chunks, five files of the index."""
    whole = build(films, tmp_path / "whole")
    child = FORK.Process(target=_die_at, args=(films, tmp_path, kill_at))
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    decoded = []
    good = read.read_image
    monkeypatch.setattr(read, "read_image", lambda path: decoded.append(path) or good(path))
    resumed = build(films, tmp_path)
    finished = sum(journal_flush < kill_at for journal_flush in (2, 4, 6, 8))
    assert len(decoded) == max(0, 30 - 8 * finished)
    for name in ("pixels.u8", "index.npy", "keys.npy", "hashes.npy", "images.jsonl", "meta.json"):
        assert (resumed.path / name).read_bytes() == (whole.path / name).read_bytes()
    assert not list(resumed.path.glob(".*"))


def test_a_torn_line_of_the_journal_is_dropped(films, tmp_path, monkeypatch):
    whole = build(films, tmp_path / "whole")
    child = FORK.Process(target=_die_at, args=(films, tmp_path, 5))
    child.start()
    child.join(30)
    (journal,) = tmp_path.glob("*/journal.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) >= 2
    journal.write_bytes(b"".join(lines[:1]) + lines[1][: len(lines[1]) // 2])
    decoded = []
    good = read.read_image
    monkeypatch.setattr(read, "read_image", lambda path: decoded.append(path) or good(path))
    assert content(build(films, tmp_path)) == content(whole)
    assert len(decoded) == 30 - 8


def _build_slowly(films, folder, log):
    good = read.read_image

    def read_and_note(path):
        with log.open("a") as file:
            file.write(f"{path}\n")
        return good(path)

    read.read_image = read_and_note
    build(films, folder)


def test_two_processes_that_build_one_store_decode_each_film_once(films, tmp_path):
    log = tmp_path / "log"
    both = [FORK.Process(target=_build_slowly, args=(films, tmp_path / "stores", log)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    assert [one.exitcode for one in both] == [0, 0]
    assert sorted(log.read_text().splitlines()) == sorted(films)
    assert content(build(films, tmp_path / "stores")) == content(build(films, tmp_path / "alone"))


def test_too_little_room_is_noticed_before_anything_is_written(films, tmp_path, monkeypatch):
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(fill.shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 10_000))
    with pytest.raises(StorageError, match=r"30 radiographs need about 0\.\d+ GB and 0\.00 GB are free"):
        build(films, tmp_path / "stores")
    (pixels,) = (tmp_path / "stores").glob("*/pixels.u8")
    assert pixels.stat().st_size == 0


def test_a_disk_that_fills_up_says_so_and_what_was_decoded_is_kept(films, tmp_path, monkeypatch):
    flush, calls = fill._flush, iter(range(1000))

    def full(file):
        if next(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(file)

    monkeypatch.setattr(fill, "_flush", full)
    with pytest.raises(StorageError, match=r"No space left on device \(\d+\.\d GB free\)"):
        build(films, tmp_path)
    monkeypatch.setattr(fill, "_flush", flush)
    assert content(build(films, tmp_path)) == content(build(films, tmp_path / "whole"))


def test_a_damaged_or_missing_store_is_refused(films, tmp_path):
    store = build(films, tmp_path)
    with (store.path / "pixels.u8").open("ab") as pixels:
        pixels.write(b"x")
    with pytest.raises(StorageError, match="damaged"):
        Store.open(store.path)
    with pytest.raises(MissingError, match="no complete store"):
        Store.open(tmp_path / "none")


def test_files_that_change_while_they_are_decoded_are_noticed(films, tmp_path, monkeypatch):
    good = read.read_image

    def change(path):
        if path.name == "film 29.png":
            os.utime(films[0])
        return good(path)

    monkeypatch.setattr(read, "read_image", change)
    with pytest.raises(ImageError, match="changed while"):
        build(films, tmp_path)


def test_an_empty_list_makes_an_empty_store(tmp_path):
    store = build([], tmp_path)
    assert len(store) == 0
    assert store.rows([]).tolist() == []


def test_a_long_build_shows_plain_lines_where_stderr_is_no_terminal(films, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hilum.progress.PATIENCE", 0.0)
    build(films, tmp_path, quiet=False)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Decoding radiographs 8/30 · ")
    build(films, tmp_path, size=8)
    assert not capsys.readouterr().err


def test_the_metadata_is_plain_json(films, tmp_path):
    store = build(films, tmp_path)
    meta = json.loads((store.path / "meta.json").read_text())
    assert meta["films"] == 30
    assert meta["size"] == 4096
    assert [json.loads(line) for line in (store.path / "images.jsonl").read_text().splitlines()] == films
