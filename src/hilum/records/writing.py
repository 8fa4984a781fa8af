"""Tables written whole or not at all."""

import io
from pathlib import Path

import pandas as pd

from hilum.durable import write_atomically


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Writes a table as UTF-8 with commas; unknown is an empty cell, and floats keep all their digits.

    Raises:
        OutputError: the place cannot be written to.
        StorageError: the disk is full or fails; a file that was there before is unchanged.
    """
    text = io.StringIO(newline="")
    table.to_csv(text, index=False, lineterminator="\n")
    write_atomically(path, text.getvalue().encode())
