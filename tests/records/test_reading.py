import csv
import io
import logging

import numpy as np
import pytest

from hilum.errors import MissingError, RecordsError
from hilum.records.defects import Defects
from hilum.records.reading import TextFile, read_text

ROWS = [["path", "patient", "note"], ["a.png", "00012", "Müller"], ["b.png", "NA", 'two\nlines, "quoted"']]


def text_of(separator):
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=separator, lineterminator="\r\n").writerows(ROWS)
    return stream.getvalue()


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_every_encoding_and_separator_gives_the_same_cells(tmp_path, separator, encoding):
    path = tmp_path / "t.csv"
    path.write_bytes(text_of(separator).encode(encoding))
    defects = Defects(path)
    lines, columns = read_text(path, defects)
    assert columns == {name: [row[i] for row in ROWS[1:]] for i, name in enumerate(ROWS[0])}
    assert lines.tolist() == [2, 3]
    assert not len(defects)


def test_an_encoding_that_is_guessed_is_announced_with_the_first_line(tmp_path, caplog):
    path = tmp_path / "t.csv"
    path.write_bytes("path,patient\na.png,1\nb.png,Zoë\n".encode("latin-1"))
    read_text(path, Defects(path))
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "line 3" in record.getMessage()
    assert "Latin-1" in record.getMessage()


def test_bytes_without_a_letter_in_windows_1252_are_latin_1(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"path,patient\na.png,\x81\xe9\n")
    assert TextFile.open(path).encoding == "latin-1"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (b"PK\x03\x04rest", "Excel"),
        (b"\x1f\x8brest", "gzip"),
        (b"a,b\n1,\x00\n", "zero bytes"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, content, says):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(RecordsError, match=says):
        TextFile.open(path)


def test_a_file_that_is_not_there_is_missing(tmp_path):
    with pytest.raises(MissingError, match=r"no\.csv"):
        TextFile.open(tmp_path / "no.csv")


def test_lines_are_those_of_the_file_across_quoted_breaks_blank_lines_and_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("hilum.records.reading.CHUNK", 3)
    path = tmp_path / "t.csv"
    rng = np.random.default_rng(0)
    text, expected = "\nname,x\n", []
    for number in range(50):
        text += "\n" * int(rng.integers(0, 2))
        expected.append(text.count("\n") + 1)
        text += f"{number}," + rng.choice(["plain", '"a\nb"', '"a\r\nb\nc"', '""']) + "\n"
    path.write_bytes(text.encode())
    lines, columns = read_text(path, Defects(path))
    assert lines.tolist() == expected
    assert columns["name"] == [str(number) for number in range(50)]


def test_rows_of_another_length_are_named_and_left_out(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n1\n1,2,3\n3,4\n")
    defects = Defects(path)
    _, columns = read_text(path, defects)
    assert columns == {"a": ["1", "3"], "b": ["2", "4"]}
    with pytest.raises(RecordsError, match=r"line 3: 1 cells, expected 2(.|\n)*line 4: 3 cells, expected 2"):
        defects.check()


def test_a_quotation_mark_that_is_not_closed_is_named_where_it_begins(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a,b\n1,"x\ny"\n2,"open\n3,4\n')
    defects = Defects(path)
    _, columns = read_text(path, defects)
    assert columns["a"] == ["1"]
    with pytest.raises(RecordsError, match=r"line 4: the row cannot be read .*close the quotation mark"):
        defects.check()


def test_names_that_come_twice_are_refused_and_empty_ones_are_not(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,a,,\n1,2,3,4,5\n")
    defects = Defects(path)
    read_text(path, defects)
    with pytest.raises(RecordsError, match="'a': the name comes 2 times") as caught:
        defects.check()
    assert "1 defect;" in str(caught.value)


def test_of_many_defects_twenty_are_shown_and_the_rest_are_counted(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1\n" * 123)
    defects = Defects(path)
    read_text(path, defects)
    with pytest.raises(RecordsError) as caught:
        defects.check()
    assert str(caught.value).count("cells, expected") == 20
    assert "123 defects" in str(caught.value)
    assert "and 103 more of this kind" in str(caught.value)
