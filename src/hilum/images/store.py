"""Radiographs decoded once, kept as grey levels at working size in a file that is mapped into memory.

```
<folder>/<digest>/
  pixels.u8       all films one after another, one byte per pixel
  index.npy       per film: first byte, height, width, height and width of the source file
  keys.npy        hashes of the paths, sorted, and the film of each
  hashes.npy      a hash of each film's grey levels in the size of its file
  journal.jsonl   one line per finished chunk: what an interrupted building resumes from
  images.jsonl    the path of each film
  meta.json       settings and excluded files; written last, so its presence says that the store is complete
```
The digest is the SHA-256 of the format's version, the settings, and path, size and times of every file. A
changed table, file or setting therefore has another store, and can never meet stale pixels.
Reading keeps nothing but the map in memory: the index, the keys and the pixels are pages of files.
"""

import fcntl
import json
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from hilum.errors import MissingError, OutputError, RecordsError, StorageError
from hilum.images.fill import Plan, digest_of, fill, path_keys, refuse_unreadable
from hilum.images.shrink import Aspect


class Store:
    """Grey films by number; made by `build_store`, or opened where one is complete."""

    def __init__(self, path: Path) -> None:
        meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
        self.path = path
        """The folder that holds it."""
        self.digest: str = meta["digest"]
        """Hash of inputs and settings; also the folder's name."""
        self.size: int = meta["size"]
        """Shortest side of a film, pixels; smaller sources are not enlarged."""
        self.aspect: Aspect = meta["aspect"]
        """keep: sides keep their ratio. squash: films are squeezed into a square."""
        self.excluded: dict[str, str] = meta["excluded"]
        """Files that are left out, and why."""
        # Plain arrays over the maps: slicing a np.memmap costs ten times as much.
        self._index = np.asarray(np.load(path / "index.npy", mmap_mode="r", allow_pickle=False))
        self._keys = np.asarray(np.load(path / "keys.npy", mmap_mode="r", allow_pickle=False))
        self._hashes = np.asarray(np.load(path / "hashes.npy", mmap_mode="r", allow_pickle=False))
        self._pixels = _map(path / "pixels.u8", int(meta["bytes"]))

    @classmethod
    def open(cls, path: Path) -> Self:
        """A complete store, by its folder.

        Raises:
            MissingError: there is none.
            StorageError: it is damaged.
        """
        if not (path / "meta.json").is_file():
            raise MissingError(f"{path}: no complete store of radiographs; build it again from the records")
        try:
            return cls(path)
        except (ValueError, KeyError, OSError) as error:
            raise StorageError(
                f"{path}: the store is damaged ({error}); delete this folder and it is built again"
            ) from None

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, row: int) -> UInt8[np.ndarray, "h w"]:
        """One film: a view into the map, read-only."""
        start, height, width = self._index[row, :3].tolist()
        return self._pixels[start : start + height * width].reshape(height, width)

    def source_size(self, row: int) -> tuple[int, int]:
        """Height and width of the file that a film was made from."""
        height, width = self._index[row, 3:].tolist()
        return height, width

    def hash(self, row: int) -> str:
        """Of the film's grey levels in the size of its file: the same in a store of any size."""
        return bytes(self._hashes[row]).hex()

    def rows(self, images: Sequence[str]) -> NDArray[np.int64]:
        """The film of each path.

        Raises:
            RecordsError: some path is not in the store, or was excluded; the message names the first.
        """
        wanted = path_keys(images)
        places = np.searchsorted(self._keys[0], wanted)
        found = (
            self._keys[0][np.minimum(places, len(self) - 1)] == wanted
            if len(self)
            else np.zeros(len(wanted), bool)
        )
        if not found.all():
            lost = [images[place] for place in np.flatnonzero(~found).tolist()]
            more = f"\n  and {len(lost) - 10} more" if len(lost) > 10 else ""
            lines = "\n".join(
                f"  {path}: {self.excluded.get(path, 'not in the store')}" for path in lost[:10]
            )
            raise RecordsError(
                f"{self.path}: {len(lost)} of {len(images)} radiographs have no film here\n{lines}{more}"
            )
        rows: NDArray[np.int64] = self._keys[1][places].astype(np.int64)
        return rows


def build_store(
    images: Sequence[str],
    *,
    folder: Path,
    size: int,
    aspect: Aspect = "keep",
    exclude_unreadable: bool = False,
    workers: int | None = None,
    quiet: bool = False,
) -> Store:
    """Decodes every radiograph once, or opens the store where that was done before.

    An interrupted building continues after its last finished chunk. Of two processes that want the same store
    one builds and the other waits.

    Args:
        images: paths; one that comes twice is kept once.
        folder: where stores live; `~` is understood.
        size: shortest side, pixels (with squash: both); films are averaged down to it and never enlarged.
        aspect: whether sides keep their ratio.
        exclude_unreadable: leave files out that cannot be read; they are listed in `excluded`.
        workers: processes that decode; None is one per CPU, 0 and 1 decode in this process.
        quiet: no progress line.

    Raises:
        ImageError: files are unreadable, and are all listed; or files changed meanwhile.
        StorageError: the disk is full or fails.
        OutputError: the folder cannot be written to.
    """
    assert size > 0
    unique = list(dict.fromkeys(images))
    digest = digest_of(unique, size, aspect)
    path = folder.expanduser() / digest
    plan = Plan(unique, size, aspect, digest, path)
    if not (path / "meta.json").is_file():
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{path}: cannot make this folder ({error.strerror}); name another with --store"
            ) from None
        with _only_builder(path):
            if not (path / "meta.json").is_file():
                fill(plan, exclude_unreadable=exclude_unreadable, workers=workers, quiet=quiet)
    store = Store.open(path)
    refuse_unreadable(store.excluded, len(unique), exclude_unreadable)
    return store


_building = threading.Lock()  # a lock on a file holds against other processes, not against other threads


@contextmanager
def _only_builder(path: Path) -> Iterator[None]:
    """Waits until no other process builds this store; the lock of a process that dies is freed."""
    with _building, (path / "lock").open("ab") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.getLogger(__name__).warning("%s: waiting for the process that builds this store", path)
            fcntl.lockf(lock, fcntl.LOCK_EX)
        yield


def _map(path: Path, size: int) -> NDArray[np.uint8]:
    if path.stat().st_size != size:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes, expected {size}")
    return np.asarray(np.memmap(path, np.uint8, mode="r")) if size else np.empty(0, np.uint8)
