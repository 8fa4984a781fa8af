"""Tables written whole or not at all."""

import errno
import io
import os
import tempfile
from pathlib import Path
from typing import IO

import pandas as pd

from hilum.errors import OutputError, StorageError


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Writes a table as UTF-8 with commas; unknown is an empty cell, and floats keep all their digits.

    Raises:
        OutputError: the place cannot be written to.
        StorageError: the disk is full or fails; a file that was there before is unchanged.
    """
    text = io.StringIO(newline="")
    table.to_csv(text, index=False, lineterminator="\n")
    write_text(text.getvalue(), path)


def write_text(text: str, path: Path) -> None:
    """Writes a text file as UTF-8; raises as `write_csv` does."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{path.name}."
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", newline="", dir=path.parent, prefix=prefix, delete=False
        ) as stream:
            try:
                _commit(text, stream, Path(stream.name), path)
            except BaseException:
                Path(stream.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise StorageError(f"{path}: the disk is full or fails ({error.strerror})") from None
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from None


def _commit(text: str, stream: IO[str], temporary: Path, path: Path) -> None:
    stream.write(text)
    stream.flush()
    os.fsync(stream.fileno())
    os.fchmod(stream.fileno(), path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
