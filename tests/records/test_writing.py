import errno
import os

import pandas as pd
import pytest

from hilum.errors import OutputError, StorageError
from hilum.records.writing import write_csv

TABLE = pd.DataFrame({"patient": ["007", "NA"], "score": [0.1 + 0.2, 1e-300]})


def test_floats_keep_all_their_digits(tmp_path):
    write_csv(TABLE, tmp_path / "new" / "t.csv")
    assert (tmp_path / "new" / "t.csv").read_text() == "patient,score\n007,0.30000000000000004\nNA,1e-300\n"


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, StorageError), (errno.EIO, StorageError), (errno.EACCES, OutputError)],
)
def test_a_disk_that_fails_leaves_the_file_that_was_there_and_nothing_else(
    tmp_path, monkeypatch, number, error
):
    path = tmp_path / "t.csv"
    path.write_text("before")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(error, match=r"t\.csv"):
        write_csv(TABLE, path)
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]
    assert path.read_text() == "before"
