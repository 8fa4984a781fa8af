"""Records: radiographs with their patients, labels, boxes and texts."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from jaxtyping import Float32
from numpy.typing import NDArray

from hilum.errors import ConfigError, MissingError
from hilum.records.defects import Defects
from hilum.records.folders import read_folders
from hilum.records.gather import gather
from hilum.records.labels import Uncertain
from hilum.records.ranking import ranking
from hilum.records.sealing import check_seal, seal, seal_of
from hilum.records.writing import write_csv


@dataclass(frozen=True, eq=False)
class Records:
    """Radiographs with their patients, labels, boxes and texts.

    The table has the columns `image` (absolute path), `patient`, `split` (train, val, test or empty), where
    known `view`, `sex`, `age` (years), `site`, `text` and `boxes` (JSON list of [finding, x1, y1, x2, y2] in
    pixels of the file), all as text, and one column per finding: 1, 0 or NaN (unknown).
    """

    table: pd.DataFrame
    findings: tuple[str, ...]

    @classmethod
    def read(
        cls,
        path: Path,
        *,
        findings: Sequence[str] = (),
        uncertain: Uncertain = "refuse",
        columns: Mapping[str, str] | None = None,
        root: Path | None = None,
        check_files: bool = True,
        labels: bool = True,
    ) -> Self:
        """Reads a CSV, or a folder with one sub-folder per class.

        Args:
            path: the file or folder.
            findings: the columns (or sub-folders) that are labels; none: all whose cells are 1, 0 or empty.
            uncertain: what a label of -1 becomes: an error, unknown, 0 or 1.
            columns: which column plays which part, by part; `patient=image` makes every film a patient of its
                own.
            root: where relative image paths start; None: the folder of the file.
            check_files: whether every image file must be there.
            labels: whether findings are read at all.

        Raises:
            MissingError: there is nothing at `path` or `root`.
            RecordsError: the file has defects; all of them are in the message.
        """
        path = Path(path).expanduser().absolute()
        if not path.exists():
            raise MissingError(f"{path}: no such file or folder")
        defects = Defects(path)
        if path.is_dir():
            table, kept = read_folders(path, findings, defects)
            table, kept = (table, kept) if labels else (table.drop(columns=list(kept)), ())
        else:
            check_seal(path)
            start = path.parent if root is None else Path(root).expanduser().absolute()
            if not start.is_dir():
                raise MissingError(f"{start}: no such folder; --root is where image paths start from")
            table, kept = gather(
                path,
                findings=findings,
                uncertain=uncertain,
                columns=columns or {},
                root=start,
                check_files=check_files,
                labels=labels,
                defects=defects,
            )
        defects.check()
        return cls(table, kept)

    def write(self, path: Path) -> None:
        """Writes the table as `read` takes it; images below the file's folder are written relative to it.

        Where a file of its hash lies beside it, that is renewed.

        Raises:
            OutputError: the place cannot be written to.
            StorageError: the disk is full or fails.
        """
        path = Path(path).expanduser().absolute()
        table = self.table.assign(image=relative(self.table["image"], path.parent))
        for finding in self.findings:
            table[finding] = table[finding].map({0.0: "0", 1.0: "1"}).fillna("")
        write_csv(table, path)
        if seal_of(path).exists():
            seal(path)

    def where(self, split: str) -> Self:
        """The radiographs of one split, in order."""
        return self.take(self.table["split"].to_numpy() == split)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Self:
        """Some radiographs, by mask or by place."""
        return type(self)(self.table.iloc[rows].reset_index(drop=True), self.findings)

    def share(self, fraction: float, *, seed: int) -> Self:
        """A fraction of the patients with all their films, in the table's order.

        The choice is stratified over findings, does not depend on the order of rows, and is nested: of one
        seed, a smaller share lies within a larger. Even a tiny share keeps a positive and a negative patient
        of each finding while there are places.

        Raises:
            ConfigError: the fraction is not above 0 and at most 1.
        """
        if not 0 < fraction <= 1:
            raise ConfigError(f"the fraction of patients is {fraction}; expected above 0 and at most 1")
        ranked = ranking(self.patients, self.labels, seed=seed)
        chosen = ranked[: max(1, round(fraction * len(ranked)))]
        return self.take(self.table["patient"].isin(chosen).to_numpy())

    @property
    def labels(self) -> Float32[np.ndarray, "N F"]:
        """1, 0 or NaN (unknown) per radiograph and finding."""
        return np.array(self.table[list(self.findings)], np.float32, order="C")

    @property
    def patients(self) -> NDArray[np.object_]:
        """The patient of every radiograph."""
        return self.table["patient"].to_numpy(object)

    @cached_property
    def sha256(self) -> str:
        """Hash of the table's content: names and cells of all columns, in order."""
        digest = hashlib.sha256()
        for name in self.table.columns:
            digest.update(f"{name}\0".encode())
            column = self.table[name]
            if name in self.findings:
                digest.update(column.map({0.0: 0, 1.0: 1}).fillna(2).to_numpy(np.uint8).tobytes())
            else:
                digest.update(
                    "".join(f"{len(cell)}:{cell}" for cell in column).encode("utf-8", "surrogatepass")
                )
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.table)


def relative(images: pd.Series, folder: Path) -> list[str]:
    """Paths relative to a folder where they lie below it, as they are elsewhere."""
    start = f"{folder}/"
    return [image.removeprefix(start) for image in images]
