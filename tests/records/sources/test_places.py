"""Where the files of a data set lie: in the root, below, or above; hidden, linked, or there twice."""

import logging

import pytest

from hilum.errors import MissingError
from hilum.records.defects import Defects
from hilum.records.sources._places import by_name, home
from hilum.records.sources._tables import files_below

from .trees import film, text


def test_the_root_may_be_the_folder_of_the_archive_or_one_of_wget(tmp_path, caplog):
    deep = text(tmp_path / "physionet.org" / "files" / "set" / "1.0.0" / "labels.csv", "a").parent
    assert home(deep, "labels.csv", "other.csv") == deep
    with caplog.at_level(logging.INFO):
        assert home(tmp_path / "physionet.org", "labels.csv") == deep
    assert "the data set is in files/set/1.0.0" in caplog.text
    with pytest.raises(MissingError, match=r"expected labels\.csv in it or in a folder below, found 'physio"):
        home(tmp_path, "labels.csv")  # too deep


def test_two_places_and_a_root_below_are_said_with_the_way_out(tmp_path):
    text(tmp_path / "one" / "labels.csv", "a")
    film(tmp_path / "one" / "images" / "a.png")
    with pytest.raises(MissingError, match=rf"that is in {tmp_path / 'one'}: give --root {tmp_path / 'one'}"):
        home(tmp_path / "one" / "images", "labels.csv")
    text(tmp_path / "two" / "labels.csv", "a")
    with pytest.raises(MissingError, match=r"labels\.csv is in 'one', 'two'; give one of them as --root"):
        home(tmp_path, "labels.csv")
    with pytest.raises(MissingError, match="found nothing"):
        home(tmp_path / "nowhere", "labels.csv")


def test_a_film_that_is_there_twice_is_named_where_it_is_wanted(tmp_path):
    for name in ("a/1.png", "b/1.png", "a/2.png", "b/2.jpg"):
        film(tmp_path / name)
    defects = Defects(tmp_path)
    assert sorted(by_name(tmp_path, ["1.png"], defects, stem=False)) == ["1.png", "2.jpg", "2.png"]
    assert len(defects) == 1
    by_name(tmp_path, ["2"], defects, stem=True)
    assert len(defects) == 2
    by_name(tmp_path, ["3"], defects, stem=True)
    assert len(defects) == 2


def test_links_to_folders_are_followed_once_and_what_is_hidden_is_no_film(tmp_path):
    root, far = tmp_path / "root", tmp_path / "far"
    for name in ("a.png", "._a.png", "__MACOSX/a.png", ".cache/a.png"):
        film(root / name)
    film(far / "b.png")
    (root / "linked").symlink_to(far)
    (root / "again").symlink_to(far)
    (far / "back").symlink_to(root)
    assert sorted(name.rpartition("/")[2] for name in files_below(root)) == ["a.png", "b.png"]
