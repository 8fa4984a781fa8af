"""What `--split` chooses."""

from pathlib import Path

from hilum.errors import RecordsError
from hilum.find import did_you_mean
from hilum.records.table import Records


def in_split(records: Records, split: str, *, path: Path) -> Records:
    """The radiographs of a split; all, where `split` is empty. `path` is where the records are from.

    Raises:
        RecordsError: the split has none; the message says which splits there are.
    """
    if not split:
        return records
    found = records.where(split)
    if not len(found):
        counts = records.table["split"].value_counts()
        known = [name for name in ("train", "val", "test") if name in counts]
        there = ", ".join(f"{name} ({counts[name]} radiographs)" for name in known)
        raise RecordsError(
            f"{path}: --split {split} has no radiographs; "
            + (f"splits there are {there}" if known else "no radiograph has a split, so leave --split out")
            + did_you_mean(split, known)
        )
    return found
