"""Separated text as it is: every cell a string, every row with its line, and nothing guessed but the format.

`pandas.read_csv` turns 00012 into 12 and NA into nothing, renames repeated columns and fills short rows; here
all of these stay visible, so that they can be judged.
"""

import codecs
import csv
import io
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hilum.errors import MissingError, RecordsError
from hilum.records.defects import Defects

if TYPE_CHECKING:
    from _csv import Reader as _Reader

SEPARATORS = ",;\t|"
CHUNK = 2000
"""Rows that are held as text at a time; more fall out of the processor's cache."""
_BLOCK = 1 << 20
_BINARY = {
    b"PK\x03\x04": "an Excel or zip file; save it as CSV",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"\xd0\xcf\x11\xe0": "an Excel file; save it as CSV",
    b"PAR1": "a Parquet file; write it as CSV",
    b"\x89PNG": "a PNG image; expected a table as CSV (`hilum predict` alone takes an image)",
    b"\xff\xd8\xff": "a JPEG image; expected a table as CSV (`hilum predict` alone takes an image)",
}

Rows = list[list[str]]


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file, by column."""

    lines: NDArray[np.int64]
    """The line of the file, from 1, that each row begins in."""
    columns: list[tuple[str, ...]]


@dataclass(frozen=True)
class TextFile:
    """A separated text file whose format is known and whose rows are not read yet."""

    path: Path
    encoding: str
    separator: str
    header: tuple[str, ...]
    header_line: int

    @classmethod
    def open(cls, path: Path) -> "TextFile":
        """Finds out encoding, separator and column names.

        Raises:
            MissingError: there is no such file.
            RecordsError: it is empty, or no text.
        """
        encoding = _encoding(path)
        with path.open(encoding=encoding, newline="") as stream:
            head, line = _first_line(stream)
            if not head:
                raise RecordsError(f"{path}: the file is empty; expected a line of column names, then rows")
            rest = stream.read(_BLOCK)
        separator = _separator(head + rest)
        try:
            names = next(_reader(io.StringIO(head + rest, newline=""), separator))
        except csv.Error as error:
            raise RecordsError(f"{path}, line {line}: the column names cannot be read ({error})") from None
        return cls(path, encoding, separator, tuple(name.strip() for name in names), line)

    def chunks(self, defects: Defects) -> Iterator[Chunk]:
        """The rows, some thousands at a time; rows with too few or too many cells become defects."""
        with self.path.open(encoding=self.encoding, newline="") as stream:
            reader = _reader(stream, self.separator)
            for row in reader:
                if any(row):
                    break  # the header
            more = True
            while more:
                before = reader.line_num
                rows, more = self._some(reader, defects)
                lines = before + 1 + np.arange(len(rows), dtype=np.int64)
                if reader.line_num - before != len(rows):
                    lines[1:] += np.cumsum([_breaks(row) for row in rows[:-1]], dtype=np.int64)
                yield from self._whole(rows, lines, defects)

    def _some(self, reader: "_Reader", defects: Defects) -> tuple[Rows, bool]:
        rows: Rows = []
        before = reader.line_num
        try:
            rows.extend(islice(reader, CHUNK))  # what comes before an error is kept
        except csv.Error as error:
            cure = (
                "close the quotation mark" if "end of data" in str(error) else "correct its quotation marks"
            )
            defects.add(
                "rows that cannot be read",
                f"the row cannot be read ({error}), nor what follows; {cure}",
                line=before + 1 + len(rows) + sum(map(_breaks, rows)),
            )
            return rows, False
        return rows, len(rows) == CHUNK

    def _whole(self, rows: Rows, lines: NDArray[np.int64], defects: Defects) -> Iterator[Chunk]:
        width = len(self.header)
        if set(map(len, rows)) - {width}:
            whole = np.array([len(row) == width for row in rows])
            for place in np.flatnonzero(~whole).tolist():
                if any(cell.strip() for cell in rows[place]):  # an empty line is no row
                    defects.add(
                        "rows with another number of cells",
                        f"{len(rows[place])} cells, expected {width}; "
                        "quote cells that hold the separator, or complete the row",
                        line=int(lines[place]),
                    )
            rows = [row for row, good in zip(rows, whole.tolist(), strict=True) if good]
            lines = lines[whole]
        if rows:
            yield Chunk(lines, list(zip(*rows, strict=True)))


def refuse_repeated(file: TextFile, defects: Defects) -> None:
    """Notes column names that come twice; columns without a name are never used and may."""
    for name in dict.fromkeys(file.header):
        if name and file.header.count(name) > 1:
            defects.add(
                "repeated columns",
                f"the name comes {file.header.count(name)} times; rename all but one",
                line=file.header_line,
                column=name,
            )


def read_text(path: Path, defects: Defects) -> tuple[NDArray[np.int64], dict[str, list[str]]]:
    """The lines and the named columns of a whole file, all as text."""
    file = TextFile.open(path)
    refuse_repeated(file, defects)
    chunks = list(file.chunks(defects))
    lines = np.concatenate([chunk.lines for chunk in chunks]) if chunks else np.empty(0, np.int64)
    return lines, {
        name: [cell for chunk in chunks for cell in chunk.columns[place]]
        for place, name in enumerate(file.header)
        if name
    }


def _reader(stream: io.TextIOBase, separator: str) -> "_Reader":
    return csv.reader(stream, delimiter=separator, skipinitialspace=separator != "\t", strict=True)


def _first_line(stream: io.TextIOBase) -> tuple[str, int]:
    for number, line in enumerate(stream, 1):
        if line.strip():
            return line, number
    return "", 0


def _separator(sample: str) -> str:
    def columns(separator: str) -> int:
        try:
            return len(next(_reader(io.StringIO(sample, newline=""), separator)))
        except csv.Error:
            return 0

    return max(SEPARATORS, key=columns)  # the first of equals, so a comma where nothing separates


def _breaks(row: list[str]) -> int:
    """How many lines a row takes beyond its first."""
    return sum(len(re.findall("\r\n|\r|\n", cell)) for cell in row if "\n" in cell or "\r" in cell)


def _encoding(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            head = stream.read(4096)
            for magic, what in _BINARY.items():
                if head.startswith(magic):
                    raise RecordsError(f"{path}: the file is {what}")
            wide = _wide(head)
            if wide:
                _log().info("%s: read as %s", path, wide)
                return wide
            stream.seek(0)
            return _eight_bit(path, stream)
    except FileNotFoundError:
        raise MissingError(f"{path}: no such file") from None
    except OSError as error:
        raise MissingError(f"{path}: cannot be opened ({error.strerror})") from None


def _wide(head: bytes) -> str:
    """UTF-16 or UTF-32 by their mark, or UTF-16 without one by the zeros that Latin letters leave."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) > 0.4 * len(head) / 2 and min(even, odd) == 0:
        return "utf-16-be" if even else "utf-16-le"
    return ""


def _eight_bit(path: Path, stream: io.BufferedReader) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    latin = False
    undefined = frozenset(b"\x81\x8d\x8f\x90\x9d")
    encoding = "cp1252"
    while block := stream.read(_BLOCK):
        if b"\0" in block:
            raise RecordsError(
                f"{path}: the file holds zero bytes, so it is no text; save it as CSV in UTF-8"
            )
        if not latin:
            try:
                decoder.decode(block)
                line += block.count(b"\n")
            except UnicodeDecodeError as error:
                latin = True
                line += block[: max(error.start, 0)].count(b"\n")
        if latin and undefined.intersection(block):
            encoding = "latin-1"
    if latin:
        _log().warning(
            "%s: not UTF-8 (first at line %d); read as %s. Check names with accents, or save it as UTF-8",
            path,
            line,
            "Latin-1 (Windows-1252)" if encoding == "cp1252" else "Latin-1",
        )
        return encoding
    return "utf-8-sig"


def _log() -> logging.Logger:
    return logging.getLogger(__name__)
