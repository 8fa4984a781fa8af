"""The filling of a store: chunk by chunk, so that an interruption costs one of them."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from hilum.durable import remove_partial, write_atomically
from hilum.errors import ImageError, StorageError
from hilum.images.shrink import HASH_BYTES, Aspect, Film, Reading, Unreadable, read_in_order
from hilum.progress import Progress

FORMAT = 2
"""Raised whenever the same files would give another store, so that old ones are not met."""


@dataclass(frozen=True)
class Plan:
    """What a store will hold, and where."""

    images: list[str]
    size: int
    aspect: Aspect
    digest: str
    path: Path

    @property
    def chunk(self) -> int:
        """Films per chunk, about 32 MB: what an interruption may cost."""
        return int(np.clip(2**25 // self.size**2, 8, 512))


_Sides = tuple[int, int, int, int]


@dataclass
class _Built:
    """What the finished chunks hold: sides of each film, then of its source; its hash; files that failed."""

    films: list[_Sides]
    hashes: list[str]
    failed: dict[str, str]

    @property
    def bytes(self) -> int:
        return sum(height * width for height, width, *_ in self.films)


def fill(plan: Plan, *, exclude_unreadable: bool, workers: int | None, quiet: bool) -> None:
    """Decodes what the journal lacks, then writes the index and, last, meta.json."""
    built = _resume(plan)
    done, total = len(built.films) + len(built.failed), len(plan.images)
    try:
        stream = io.StringIO() if quiet else None
        with (
            Progress("Decoding radiographs", total, done=done, stream=stream) as progress,
            (plan.path / "pixels.u8").open("ab") as pixels,
        ):
            pixels.truncate(built.bytes)
            chunks = read_in_order(
                plan.images[done:], plan.size, aspect=plan.aspect, chunk=plan.chunk, workers=workers
            )
            for chunk in chunks:
                _refuse_full(plan.path, chunk, left=total - done)
                _append(plan, pixels, chunk, built)
                done += len(chunk)
                progress.update(done)
        refuse_unreadable(built.failed, total, exclude_unreadable)
        if digest_of(plan.images, plan.size, plan.aspect) != plan.digest:
            raise ImageError(
                f"{plan.path}: files changed while they were decoded; run the same command again"
            )
        _commit(plan, built)
    except OSError as error:
        raise StorageError(
            f"{plan.path}: {error.strerror or error} ({_free(plan.path) / 1e9:.1f} GB free). What was "
            "decoded is kept: make room there, or name another folder with --store, and run again"
        ) from None


def _append(plan: Plan, pixels: BinaryIO, chunk: list[Reading], built: _Built) -> None:
    """Pixels reach the disk before the journal's line that vouches for them."""
    films = [(*one.pixels.shape, *one.source) for one in chunk if isinstance(one, Film)]
    hashes = [one.hash for one in chunk if isinstance(one, Film)]
    failed = {one.path: one.reason for one in chunk if isinstance(one, Unreadable)}
    for one in chunk:
        if isinstance(one, Film):
            pixels.write(one.pixels.data)
    _flush(pixels)
    with (plan.path / "journal.jsonl").open("ab") as journal:
        journal.write(json.dumps(vars(_Built(films, hashes, failed))).encode() + b"\n")
        _flush(journal)
    built.films += films
    built.hashes += hashes
    built.failed |= failed


def _resume(plan: Plan) -> _Built:
    """What an interrupted building left: whole chunks, up to a torn line or to a failure that has passed."""
    remove_partial(plan.path)
    journal, pixels = plan.path / "journal.jsonl", plan.path / "pixels.u8"
    written = pixels.stat().st_size if pixels.exists() else 0
    chunks: list[_Built] = []
    length = 0
    for line in journal.read_bytes().splitlines(keepends=True) if journal.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            break
        chunks.append(_Built([tuple(sides) for sides in entry["films"]], entry["hashes"], entry["failed"]))
        length += chunks[-1].bytes
        if not line.endswith(b"\n") or length > written:
            chunks.pop()
            break
    passed = _readable([path for chunk in chunks for path in chunk.failed], plan)
    built, kept = _Built([], [], {}), b""
    for chunk in chunks:
        if passed & chunk.failed.keys():
            break
        built.films += chunk.films
        built.hashes += chunk.hashes
        built.failed |= chunk.failed
        kept += json.dumps(vars(chunk)).encode() + b"\n"
    write_atomically(journal, kept)
    return built


def _readable(images: list[str], plan: Plan) -> set[str]:
    """Which of these can be read; in other processes, since one that failed may have crashed its decoder."""
    chunks = read_in_order(images, plan.size, aspect=plan.aspect, chunk=plan.chunk, workers=2)
    return {one.path for chunk in chunks for one in chunk if isinstance(one, Film)}


def _commit(plan: Plan, built: _Built) -> None:
    kept = [image for image in plan.images if image not in built.failed]
    sides = np.array(built.films, np.int64).reshape(-1, 4)
    sizes = sides[:, 0] * sides[:, 1]
    keys = path_keys(kept)
    order = np.argsort(keys, kind="stable")
    assert len(np.unique(keys)) == len(keys), "two paths have one 64-bit hash"
    _save(plan.path / "index.npy", np.column_stack([np.cumsum(sizes) - sizes, sides]))
    hashes = np.frombuffer(bytes.fromhex("".join(built.hashes)), np.uint8)
    _save(plan.path / "hashes.npy", hashes.reshape(len(kept), HASH_BYTES))
    _save(plan.path / "keys.npy", np.stack([keys[order], order.astype(np.uint64)]))
    write_atomically(plan.path / "images.jsonl", "".join(json.dumps(image) + "\n" for image in kept).encode())
    meta = {
        "format": FORMAT,
        "digest": plan.digest,
        "size": plan.size,
        "aspect": plan.aspect,
        "films": len(kept),
        "bytes": built.bytes,
        "excluded": built.failed,
    }
    write_atomically(plan.path / "meta.json", json.dumps(meta, indent=1).encode())
    (plan.path / "journal.jsonl").unlink()


def _refuse_full(path: Path, chunk: list[Reading], *, left: int) -> None:
    """Stops before writing where the films to come, of this chunk's mean size, do not fit."""
    sizes = [one.pixels.size for one in chunk if isinstance(one, Film)]
    need = sum(sizes) / max(1, len(sizes)) * left
    if need > (free := _free(path)):
        raise StorageError(
            f"{path}: {left} radiographs need about {need / 1e9:.2f} GB and {free / 1e9:.2f} GB are free; "
            "make room there, name another folder with --store, or choose a smaller --store-size"
        )


def _free(path: Path) -> int:
    return shutil.disk_usage(path).free


def digest_of(images: list[str], size: int, aspect: Aspect) -> str:
    """SHA-256 of format, settings, and path, size and times of every file.

    The time of the last change of status cannot be set back, so new content under an old modification time
    is noticed.
    """
    digest = hashlib.sha256(f"hilum store {FORMAT} {size} {aspect}\n".encode())
    for image in images:
        try:
            stat = os.stat(image)
            state = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
        except OSError as error:
            state = f"errno {error.errno}"
        digest.update(os.fsencode(image) + b"\0" + state.encode() + b"\n")
    return digest.hexdigest()


def refuse_unreadable(failed: dict[str, str], total: int, exclude_unreadable: bool) -> None:
    """Lists every file that failed, where that is not allowed.

    Raises:
        ImageError: there is any.
    """
    if failed and not exclude_unreadable:
        lines = "\n".join(
            f"  {reason}" if path in reason else f"  {path}: {reason}" for path, reason in failed.items()
        )
        raise ImageError(
            f"{len(failed)} of {total} radiographs cannot be read; "
            f"mend them, or leave them out with --exclude-unreadable\n{lines}"
        )


def path_keys(images: Sequence[str]) -> NDArray[np.uint64]:
    """A 64-bit hash of each path."""
    hashes = (hashlib.blake2b(os.fsencode(image), digest_size=8).digest() for image in images)
    return np.frombuffer(b"".join(hashes), "<u8")


def _save(path: Path, array: NDArray[np.generic]) -> None:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    write_atomically(path, content.getvalue())


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
