"""TB Portals in a miniature tree with the names that public code of others has."""

import logging
from pathlib import Path

import numpy as np
import pytest

from hilum.cli import main
from hilum.errors import MissingError, RecordsError
from hilum.records.sources import tb_portals
from hilum.records.table import Records

FILMS = [
    "condition_id,imagingstudy_id,series_instance_content_url,country,cxr_outlier",
    "c1,i1,p1/s1/e1/1.2.1.dcm,Georgia,",
    "c1,i2,p1/s2/e1/1.2.2.dcm,Georgia,",
    "c2,i3,p2/s1/e1/1.2.3.dcm,Moldova,",
    "c3,i4,p3/s1/e1/1.2.4.dcm,Moldova,outlier",
    "c4,i5,p4/s1/e1/1.2.5.dcm,Romania,",
]
CASES = [
    "patient_id,condition_id,age_of_onset,gender,country,type_of_resistance",
    "p1,c1,34,Male,Georgia,MDR non XDR",
    "p2,c2,51,Female,Moldova,Sensitive",
    "p3,c3,20,Female,Moldova,XDR",
    "p4,c4,63,Male,Romania,Not Reported",
]
READ = [
    "imagingstudy_id,sextant,smallcavities,mediumcavities,largecavities",
    "i1,Upper Left,0,1,0",
    "i1,Lower Left,0,0,0",
    "i3,Upper Left,0,0,",
]


def tree(root: Path, films=FILMS, cases=CASES, read=READ) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "TB_Portals_CXRs_August_2023.csv").write_text("\n".join(films) + "\n")
    (root / "TB_Portals_Patient_Cases_August_2023.csv").write_text("\n".join(cases) + "\n")
    if read:
        (root / "TB_Portals_CXR_Manual_Annotations_August_2023.csv").write_text("\n".join(read) + "\n")
    for line in FILMS[1:]:
        path = root / "GlobalBucket" / line.split(",")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"films are not opened")
    return root


def test_resistance_is_the_case_s_and_cavities_are_any_reader_s(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    out = tmp_path / "tb.csv"
    assert (
        main(["records", "read", "tb_portals", "--root", str(tree(tmp_path / "tb")), "--out", str(out)]) == 0
    )
    records = Records.read(out)
    assert records.findings == ("Drug Resistance", "Cavity")
    np.testing.assert_array_equal(records.table["Drug Resistance"], [1, 1, 0, np.nan])
    np.testing.assert_array_equal(records.table["Cavity"], [1, np.nan, 0, np.nan])
    assert records.table["patient"].tolist() == ["p1", "p1", "p2", "p4"]
    countries = ["Georgia", "Georgia", "Moldova", "Romania"]
    assert records.table["site"].tolist() == [f"TB Portals/{country}" for country in countries]
    assert records.table["sex"].tolist() == ["M", "M", "F", "M"]
    assert records.table["age"].tolist() == ["34", "34", "51", "63"]
    assert "1 left out: the release calls them outliers; --outliers keeps them: '1.2.4'" in caplog.text
    assert "1 films have resistance 'Not Reported': it is unknown" in caplog.text
    kept = tb_portals.read(tmp_path / "tb", partial=False, outliers=True)
    assert kept.table["resistance"].tolist()[3] == "XDR"
    assert kept.table["Drug Resistance"].tolist()[3] == 1


def test_parts_of_a_release_and_a_release_without_readings(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root = tree(tmp_path, read=None)
    next(root.rglob("1.2.2.dcm")).unlink()
    with pytest.raises(RecordsError, match=r"line 3: 1\.2\.2 is not there"):
        tb_portals.read(root, partial=False, outliers=False)
    records = tb_portals.read(root, partial=True, outliers=False)
    assert len(records) == 3
    assert records.findings == ("Drug Resistance",)
    assert "1 left out: not there, as --partial allows: '1.2.2'" in caplog.text
    assert "cavities are not in the table" in caplog.text


def test_all_that_is_wrong_is_one_list(tmp_path):
    root = tree(tmp_path, [*FILMS, "c9,i9,p9/s1/e1/1.2.9.dcm,Peru,", "c1,i8,1.2.8.dcm,Peru,"])
    with pytest.raises(RecordsError) as caught:
        tb_portals.read(root, partial=False, outliers=False)
    said = str(caught.value)
    for part in (
        "line 7: case c9 is in no line of the patient cases",
        "line 7: 1.2.9 is not there",
        "line 8: series_instance_content_url names no patient's folder",
    ):
        assert part in said
    tree(tmp_path, read=[*READ, "i3,Upper Left,many,0,0"])
    with pytest.raises(
        RecordsError, match="line 5: one of smallcavities, mediumcavities, largecavities is no"
    ):
        tb_portals.read(root, partial=False, outliers=False)
    (root / "TB_Portals_CXRs_March_2025.csv").write_text("condition_id\n")
    with pytest.raises(
        MissingError, match=r"expected one TB_Portals_CXRs_<month>_<year>\.csv, found 'TB_Portals_C"
    ):
        tb_portals.read(root, partial=False, outliers=False)
    with pytest.raises(MissingError, match="found none"):
        tb_portals.read(tmp_path / "nowhere", partial=False, outliers=False)


def test_cases_and_films_that_come_twice_with_other_words_are_refused(tmp_path):
    root = tree(tmp_path, [*FILMS, FILMS[1]], [*CASES, CASES[1], CASES[2].replace("Sensitive", "XDR")])
    with pytest.raises(RecordsError) as caught:
        tb_portals.read(root, partial=False, outliers=False)
    assert "line 7: case c2 is in an earlier line too, with other words" in str(caught.value)
    assert "line 7: 1.2.1 is in an earlier line too" in str(caught.value)
    assert "2 defects" in str(caught.value)
    path = next(tree(tmp_path).rglob("1.2.1.dcm"))
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "1.2.1.png").write_bytes(path.read_bytes())
    with pytest.raises(RecordsError, match=r"1\.2\.1 is there twice"):
        tb_portals.read(root, partial=False, outliers=False)


def test_a_release_may_have_its_date_twice_in_a_name(tmp_path):
    root = tree(tmp_path)
    for path in root.glob("*.csv"):
        path.rename(path.with_name(f"{path.stem}_1.9.2023.csv"))
    assert len(tb_portals.read(root, partial=False, outliers=False)) == 4
