"""Files that no reader ever meets half written, whatever moment the power goes at.

They are written under a temporary name in the same directory, flushed, synced and renamed.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from pathlib import Path

from hilum.errors import HilumError, MissingError, OutputError, StorageError


def write_atomically(path: Path, content: bytes) -> None:
    """Temporary name in the same directory, flush, fsync, replace, fsync of the directory.

    The name is hidden, ends in .part, and is another for each writer. A file has the permissions of the one
    that it replaces.

    Raises:
        StorageError: the disk is full or failing; what was at `path` is still there.
        OutputError: the place cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            if path.exists():
                os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise write_error(path, error) from None
    finally:
        with contextlib.suppress(OSError):  # it is gone, or the folder is none
            temporary.unlink(missing_ok=True)


def remove_partial(folder: Path) -> None:
    """Removes what a process left that was killed while it wrote; nobody else may be writing there."""
    for partial in folder.glob(".*.part"):
        partial.unlink()


def sha256(path: Path) -> str:
    """The hash of a file's content.

    Raises:
        MissingError: there is no such file.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise MissingError(f"{path}: no such file") from None


def sync(path: Path) -> None:
    """Returns when a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_error(path: Path, error: OSError) -> HilumError:
    """What to raise where a file could not be written: a disk's failure is another matter than the place."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        try:
            free = (
                f"; {shutil.disk_usage(path.parent if path.parent.exists() else '.').free >> 20} MiB are free"
            )
        except OSError:
            free = ""
        return StorageError(
            f"{path}: the disk is full{free}. What was saved before is good: make room and give the same "
            "command again"
        )
    kind = StorageError if error.errno == errno.EIO else OutputError
    return kind(f"{path}: cannot be written: {error.strerror or error}")
