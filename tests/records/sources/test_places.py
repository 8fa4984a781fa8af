"""Where a data set lies, and sheets as downloads leave them: packed, unpacked, cut short."""

import gzip
import logging

import pandas as pd
import pytest

from hilum.errors import MissingError, RecordsError
from hilum.records.defects import Defects
from hilum.records.sources._places import basename, by_name, files_below, found, start_of, stem
from hilum.records.sources._tables import sheet, with_films

from .trees import film, text


def test_a_folder_that_an_archive_made_around_the_data_set_is_entered_and_said(tmp_path, caplog):
    text(tmp_path / "physionet.org" / "files" / "set" / "2.0" / "train.csv", "Path")
    text(tmp_path / "__MACOSX" / "train.csv", "no sheet")
    place = tmp_path / "physionet.org" / "files" / "set" / "2.0"
    with caplog.at_level(logging.INFO):
        assert start_of(tmp_path, "train.csv") == place
        assert start_of(place, "train.csv") == place
    assert caplog.messages == [f"{place} is read, since {tmp_path} has no train.csv"]


def test_a_folder_of_another_data_set_with_the_same_names_is_not_entered(tmp_path):
    text(tmp_path / "ranzcr" / "train.csv", "UID")
    text(tmp_path / "sets" / "chexpert" / "train.csv", "Path")
    text(tmp_path / "sets" / "chexpert" / "valid.csv", "Path")
    assert start_of(tmp_path, "train.csv", beside=["valid.csv"]) == tmp_path / "sets" / "chexpert"
    with pytest.raises(MissingError, match=r"expected train\.csv and test\.csv in it"):
        start_of(tmp_path, "train.csv", beside=["test.csv"])


def test_of_two_copies_none_is_chosen(tmp_path):
    for name in ("CheXpert-v1.0", "CheXpert-v1.0-small"):
        text(tmp_path / name / "train.csv", "Path")
    with pytest.raises(MissingError, match=r"say with --root which is meant: '.*v1.0', '.*v1.0-small'"):
        start_of(tmp_path, "train.csv")


def test_among_very_many_folders_none_is_searched_for(tmp_path):
    for number in range(1001):
        (tmp_path / f"patient{number}").mkdir()
    text(tmp_path / "patient7" / "train.csv", "Path")
    with pytest.raises(MissingError, match=r"expected train\.csv in it; --root is the folder as downloaded"):
        start_of(tmp_path, "train.csv")


def test_a_wrong_root_is_told_the_right_one(tmp_path):
    text(tmp_path / "set" / "train.csv", "Path")
    (tmp_path / "set" / "train" / "patient1").mkdir(parents=True)
    with pytest.raises(MissingError, match=rf"it is in {tmp_path}/set: give that as --root"):
        found(tmp_path, "train.csv")
    with pytest.raises(MissingError, match=rf"it is in {tmp_path}/set: give that as --mimic"):
        start_of(tmp_path / "set" / "train" / "patient1", "train.csv", flag="--mimic")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "set.zip").write_bytes(b"PK")
    with pytest.raises(MissingError, match=r"expected valid\.csv in it; unpack 'set\.zip' first"):
        found(tmp_path / "packed", "valid.csv")


def test_links_to_folders_are_followed_once_and_never_in_a_circle(tmp_path):
    film(tmp_path / "disk" / "p10" / "1.png")
    film(tmp_path / "set" / "2.png")
    (tmp_path / "set" / "files").symlink_to(tmp_path / "disk")
    (tmp_path / "set" / "again").symlink_to(tmp_path / "disk")
    (tmp_path / "set" / "up").symlink_to(tmp_path)
    (tmp_path / "disk" / "p10" / "round").symlink_to(tmp_path / "set")
    names = sorted(name.rpartition("/")[2] for name in files_below(tmp_path / "set"))
    assert names == ["1.png", "2.png"]
    assert files_below(tmp_path / "nowhere") == {}


def test_two_files_of_one_film_are_refused(tmp_path):
    one, two = film(tmp_path / "a" / "1.png"), film(tmp_path / "b" / "1.png")
    defects = Defects(tmp_path)
    by_name(files_below(tmp_path), basename, defects)
    with pytest.raises(RecordsError, match=r"1\.png is there twice, as .*; move one away") as caught:
        defects.check()
    assert str(one) in str(caught.value)
    assert str(two) in str(caught.value)


def test_a_film_that_is_there_twice_is_named_where_it_is_wanted(tmp_path):
    for name in ("a/1.png", "b/1.png", "a/2.png", "b/2.jpg"):
        film(tmp_path / name)
    files, defects = files_below(tmp_path), Defects(tmp_path)
    assert sorted(by_name(files, basename, defects, ["1.png"])) == ["1.png", "2.jpg", "2.png"]
    assert len(defects) == 1
    by_name(files, stem, defects, ["2"])
    assert len(defects) == 2
    by_name(files, stem, defects, ["3"])
    assert len(defects) == 2


def test_what_is_hidden_or_of_a_mac_is_no_film(tmp_path):
    for name in ("a.png", "._a.png", "__MACOSX/a.png", ".cache/a.png"):
        film(tmp_path / name)
    assert list(files_below(tmp_path)) == ["a.png"]


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_sheet_is_unpacked_by_what_it_is_and_not_by_its_name(tmp_path, name, packed):
    content = b"Path,Old Label\na,1\nb,0\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    defects = Defects(tmp_path)
    table = sheet(tmp_path / name, ["Path", "New Label"], defects, older={"Old Label": "New Label"})
    assert table["New Label"].tolist() == ["1", "0"]
    assert table["line"].tolist() == [2, 3]
    assert not len(defects)


def test_a_packed_sheet_that_is_cut_short_or_empty_is_named(tmp_path):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"Path\n" + bytes(range(32, 127)) * 99)[:-20])
    with pytest.raises(RecordsError, match=r"table\.csv\.gz: is damaged or not whole .*download it again"):
        sheet(path, ["Path"], Defects(path))
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(RecordsError, match=rf"{path}: the file is empty"):
        sheet(path, ["Path"], Defects(path))


def test_where_no_film_is_there_one_line_says_so_even_if_only_present_are_wanted(tmp_path):
    names = pd.Series([f"{number}.png" for number in range(500)])
    table = pd.DataFrame({"line": range(2, 502)})
    for only_present in (True, False):
        defects = Defects(tmp_path)
        with_films(table, names, {}, defects, only_present=only_present)
        with pytest.raises(
            RecordsError, match=r"1 defect.*\n.*none of 500 films is there, such as 0\.png; unpack"
        ):
            defects.check()
