"""Records: radiographs with their patients, labels, boxes and texts."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pandas as pd
from jaxtyping import Float32
from numpy.typing import NDArray

from hilum.errors import ConfigError, MissingError
from hilum.records.defects import Defects
from hilum.records.films import film_table, films_in, is_film
from hilum.records.folders import read_folders
from hilum.records.gather import Gathered, gather
from hilum.records.ranking import ranking
from hilum.records.sealing import check_seal, seal, seal_of
from hilum.records.shots import few_shots
from hilum.records.uncertain import Changed, Policies
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
    soft: Float32[np.ndarray, "N F"] | None = None
    """Soft labels of what is uncertain and NaN in the table; NaN elsewhere. See `softened`."""
    changed: tuple[Changed, ...] = ()
    """How many labels of each finding were uncertain in the file that this is from, and their policy."""
    others: pd.DataFrame | None = None
    """The columns of that file that play no part, as text: `write` keeps them, nothing else reads them."""

    @classmethod
    def read(
        cls,
        path: Path,
        *,
        findings: Sequence[str] = (),
        ordinal: Sequence[str] = (),
        uncertain: str | Sequence[str] = "refuse",
        columns: Mapping[str, str] | None = None,
        root: Path | None = None,
        check_files: bool | Literal["beside others"] = True,
        labels: bool = True,
        keep_others: bool = False,
        patients: bool = True,
    ) -> Self:
        """Reads a CSV, or a folder with one sub-folder per class.

        Without `labels` and `patients` one image file and a flat folder of images are records too.

        Args:
            path: the file or folder.
            findings: the columns (or sub-folders) that are labels; none: all whose cells are 1, 0 or empty.
            ordinal: the columns that are grades of severity, 0 to K; each becomes K findings, "grade 1 or
                more" and so on, by such names as `edema≥1`.
            uncertain: what a label of -1 becomes, as `Policies.of` reads it: refuse, ignore (unknown), zero,
                one or soft, also by finding: `["ignore", "Edema=one"]`.
            columns: which column plays which part, by part; `patient=image` makes every film a patient of its
                own.
            root: where relative image paths start; None: the folder of the file. It must be there only if
                the files must.
            check_files: whether every image file must be there; "beside others": those that are not are named
                among other defects, and are none alone.
            labels: whether findings are read at all.
            keep_others: whether the columns that play no part are kept, for `write`.
            patients: whether patients must be named; if not, a table without them has one for each film.

        Raises:
            MissingError: there is nothing at `path` or `root`.
            RecordsError: the file has defects; all of them are in the message.
            ConfigError: a policy is none.
        """
        path, policies = Path(path).expanduser().absolute(), Policies.of(uncertain)
        if not path.exists():
            raise MissingError(f"{path}: no such file or folder")
        defects = Defects(path)
        if not (labels or patients) and (films := [path.name] if is_film(path) else films_in(path)):
            return cls(film_table(path if path.is_dir() else path.parent, films), ())
        if path.is_dir():
            table, kept = read_folders(path, findings, defects)
            policies.check(kept, defects)
            for name in ordinal:
                defects.add("settings", f"--ordinal {name}: a folder has classes and no columns of grades")
            found = Gathered(table, kept) if labels else Gathered(table.drop(columns=list(kept)))
        else:
            check_seal(path)
            start = path.parent if root is None else Path(root).expanduser().absolute()
            if check_files and not start.is_dir():
                raise MissingError(f"{start}: no such folder; --root is where image paths start from")
            found = gather(
                path,
                findings=findings,
                ordinal=ordinal,
                uncertain=policies,
                columns=columns or {},
                root=start,
                check_files=check_files,
                labels=labels,
                keep_others=keep_others,
                patients=patients,
                defects=defects,
            )
        defects.check()
        return cls(found.table, found.findings, found.soft, found.changed, found.others)

    def write(self, path: Path) -> None:
        """Writes the table as `read` takes it; images below the file's folder are written relative to it.

        Soft labels are written as -1, from which the same setting makes them anew where paths below the root
        are the same. Where a file of its hash lies beside it, that is renewed.

        Raises:
            OutputError: the place cannot be written to.
            StorageError: the disk is full or fails.
        """
        path = Path(path).expanduser().absolute()
        table = self.table.assign(image=relative(self.table["image"], path.parent))
        for column, finding in enumerate(self.findings):
            table[finding] = table[finding].map({0.0: "0", 1.0: "1"}).fillna("")
            if self.soft is not None:
                table[finding] = table[finding].where(np.isnan(self.soft[:, column]), "-1")
        write_csv(table if self.others is None else pd.concat([table, self.others], axis=1), path)
        if seal_of(path).exists():
            seal(path)

    def where(self, split: str) -> Self:
        """The radiographs of one split, in order."""
        return self.take(self.table["split"].to_numpy() == split)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Self:
        """Some radiographs, by mask or by place."""
        soft = None if self.soft is None else self.soft[rows]
        others = None if self.others is None else self.others.iloc[rows].reset_index(drop=True)
        return replace(self, table=self.table.iloc[rows].reset_index(drop=True), soft=soft, others=others)

    def softened(self) -> Self:
        """The same radiographs with soft labels in the table where they were made, for a loss alone.

        Everywhere else they are unknown, since nothing can be counted, split, chosen or scored by them.
        """
        if self.soft is None:
            return self
        labels = np.where(np.isnan(self.soft), self.labels, self.soft)
        return replace(self, table=self.table.assign(**dict(zip(self.findings, labels.T, strict=True))))

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

    def shots(self, k: int, *, seed: int) -> Self:
        """For every finding `k` positive and `k` negative radiographs, in the table's order; no others.

        Of different patients as far as there are so many. A radiograph that is chosen for one finding counts
        for its others too, and keeps their labels, so some findings have more than `k`. What is chosen does
        not depend on the order of rows, and is nested: of one seed, fewer shots lie within more. Where there
        are fewer than `k`, all are chosen; what was chosen is logged.

        Args:
            k: radiographs per finding and label.
            seed: another seed gives another choice.

        Raises:
            ConfigError: `k` is not above 0, or more than any finding has.
            RecordsError: no label is known.
        """
        images = self.table["image"].to_numpy(object)
        return self.take(
            few_shots(self.patients, images, self.labels, findings=self.findings, k=k, seed=seed)
        )

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
        if self.soft is not None:
            digest.update(self.soft.tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.table)


def relative(images: pd.Series, folder: Path) -> list[str]:
    """Paths relative to a folder where they lie below it, as they are elsewhere."""
    start = f"{folder}/"
    return [image.removeprefix(start) for image in images]
