"""A folder of DICOM films: what reaches the table, and what never does."""

import logging
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from hilum.cli import main
from hilum.errors import ConfigError, ImageError, MissingError, RecordsError
from hilum.images.identity import film_columns
from hilum.images.limits import Limits
from hilum.records.sources import dicom_tree
from hilum.records.table import Records
from tests.images.dicom_films import film, ramp, save

SETTINGS = {
    "salt": "correct horse",
    "patient": "tag",
    "every_file": False,
    "exclude_unreadable": False,
    "look": film_columns,
}
SECRETS = ("Secret", "MRN-4711", "19700102", "20200304", "Saint Elsewhere", "1.2.826", "Dr Who")


def put(path: Path, patient="MRN-4711", study="1", **tags):
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = {
        "PatientID": patient,
        "StudyInstanceUID": generate_uid("1.2.826.0.1.3680043.8.498.", [study]),
        "PatientSex": "F",
        "PatientAge": "045Y",
        "ViewPosition": "PA",
        "PatientBirthDate": "19700102",
        "StudyDate": "20200304",
        "InstitutionName": "Saint Elsewhere",
        "ReferringPhysicianName": "Dr Who",
    } | tags
    save(film(ramp(12), 12, **{name: tag for name, tag in tags.items() if tag is not None}), path)


def tree(root: Path) -> Path:
    put(root / "a" / "1.dcm")
    put(root / "a" / "2.dcm", ViewPosition="LL", PatientAge="006M", study="2")
    put(root / "b" / "3.DCM", patient="MRN-5 ", PatientSex="O", PatientAge="101Y", ViewPosition="SECRETVIEW")
    put(root / "b" / "4.dcm", patient="MRN-5", PatientSex=None, PatientAge=None, ViewPosition="AP", study="1")
    return root


def test_a_table_of_films_holds_hashes_view_sex_and_age_and_nothing_else(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root, out = tree(tmp_path / "films"), tmp_path / "films.csv"
    words = [
        "records",
        "read",
        "dicom_tree",
        "--root",
        str(root),
        "--salt",
        "correct horse",
        "--out",
        str(out),
    ]
    assert main(words) == 0
    assert not any(secret in out.read_text() + caplog.text for secret in SECRETS)
    records = Records.read(out)
    assert records.findings == ()
    table = records.table
    assert list(table) == ["image", "patient", "split", "study", "view", "sex", "age"]
    assert [Path(image).name for image in table["image"]] == ["1.dcm", "2.dcm", "3.DCM", "4.dcm"]
    assert table["view"].tolist() == ["PA", "LATERAL", "", "AP"]
    assert table["sex"].tolist() == ["F", "F", "", ""]
    assert table["age"].tolist() == ["45", "0", "90", ""]
    patients, studies = table["patient"].tolist(), table["study"].tolist()
    assert patients[0] == patients[1] != patients[2] == patients[3]
    assert studies[0] == studies[2] == studies[3] != studies[1]
    assert all(len(one) == 16 and int(one, 16) for one in patients + studies)
    assert "1 headers do not say the view" in caplog.text


def test_the_salt_alone_changes_hashes(tmp_path):
    root = tree(tmp_path)
    first = dicom_tree.read(root, **SETTINGS).table
    assert first.equals(dicom_tree.read(root, **SETTINGS).table)
    other = dicom_tree.read(root, **SETTINGS | {"salt": "battery staple"}).table
    assert not set(first["patient"]) & set(other["patient"])
    assert not set(first["study"]) & set(other["study"])
    with pytest.raises(ConfigError, match="--salt has 5 characters; give 8 or more"):
        dicom_tree.read(root, **SETTINGS | {"salt": "short"})


def test_what_is_no_film_is_listed_with_its_reason_or_left_out(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root = tree(tmp_path)
    put(root / "c" / "ct.dcm", Modality="CT")
    put(root / "c" / "hand.dcm", BodyPartExamined="HAND")
    (root / "c" / "half.dcm").write_bytes((root / "a" / "1.dcm").read_bytes()[:-100])
    (root / "c" / "empty.dcm").write_bytes(b"")
    (root / "c" / "readme.dcm").write_text("no film at all")
    (root / "c" / "notes.txt").write_text("not looked at")
    with pytest.raises(RecordsError) as caught:
        dicom_tree.read(root, **SETTINGS)
    said = str(caught.value)
    assert "5 defects" in said
    for part in (
        "c/ct.dcm: Modality is CT (computed tomography); expected a radiograph",
        "c/hand.dcm: BodyPartExamined is HAND; expected CHEST",
        "c/half.dcm: the DICOM file ends early",
        "c/empty.dcm: the file is empty",
        "c/readme.dcm: it is no DICOM file: its marker is missing; --exclude-unreadable leaves it out",
    ):
        assert part in said
    assert not any(secret in said for secret in SECRETS)
    kept = dicom_tree.read(root, **SETTINGS | {"exclude_unreadable": True, "every_file": True})
    assert len(kept) == 4
    assert (
        "2 left out: it is no DICOM file: its marker is missing: 'c/notes.txt', 'c/readme.dcm'" in caplog.text
    )
    assert "1 left out: Modality is CT (computed tomography)" in caplog.text


def test_films_of_nobody_need_a_word_about_their_patients(tmp_path):
    root = tree(tmp_path)
    put(root / "b" / "5.dcm", patient="")
    with pytest.raises(
        RecordsError, match=r"b/5\.dcm has no PatientID.*; say --patient folder or --patient film"
    ):
        dicom_tree.read(root, **SETTINGS)
    by_folder = dicom_tree.read(root, **SETTINGS | {"patient": "folder"}).table
    assert by_folder["patient"].tolist() == ["a", "a", "b", "b", "b"]
    assert dicom_tree.read(root, **SETTINGS | {"patient": "film"}).table["patient"].nunique() == 5
    put(root / "6.dcm")
    with pytest.raises(RecordsError, match=r"6\.dcm lies in the root itself"):
        dicom_tree.read(root, **SETTINGS | {"patient": "folder"})
    with pytest.raises(MissingError, match=r"no such folder, or no \.dcm in it"):
        dicom_tree.read(tmp_path / "nowhere", **SETTINGS)


def test_a_file_beyond_the_limits_is_not_opened(tmp_path):
    put(tmp_path / "1.dcm")
    with pytest.raises(ImageError, match="the limit is 1,000"):
        film_columns(tmp_path / "1.dcm", "salt", limits=Limits(file_bytes=1000))


def test_that_all_films_are_of_one_patient_is_said(tmp_path, caplog):
    tree(tmp_path / "export")
    dicom_tree.read(tmp_path, **SETTINGS | {"patient": "folder"})
    assert (
        "all 4 films are of one patient, so they cannot be split: the root may be one folder too"
        in caplog.text
    )
    caplog.clear()
    dicom_tree.read(tmp_path / "export", **SETTINGS | {"patient": "folder"})
    assert "of one patient" not in caplog.text
