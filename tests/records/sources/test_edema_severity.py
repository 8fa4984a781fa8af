"""Grades of pulmonary oedema on a miniature MIMIC-CXR-JPG."""

import gzip
import logging
from pathlib import Path

import pytest

import hilum
from hilum.errors import ConfigError, MissingError, RecordsError
from hilum.records.ordinal import severity_groups
from hilum.records.sources import edema_severity
from hilum.records.table import Records

REGEX = [
    "subject_id,study_id,edema_severity",
    "10000980,54577367,0",
    "10011938,51900145,2",
    "10062617,55170181,3",
    "10023117,50130952,1",
]
CONSENSUS = ["subject_id,study_id,dicom_id,edema_severity", "10062617,55170181,5b8f4e5f-074a3958,3"]
METADATA = [
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition",
    "aaa,10000980,54577367,CHEST (PA AND LAT),PA",
    "bbb,10000980,54577367,CHEST (PA AND LAT),LATERAL",
    "ccc,10011938,51900145,CHEST (PORTABLE AP),AP",
    "5b8f4e5f-074a3958,10062617,55170181,CHEST (PORTABLE AP),AP",
    "ddd,10023117,50130952,CHEST (PORTABLE AP),AP",
]


def tree(root: Path, regex=REGEX, consensus=CONSENSUS) -> tuple[Path, Path]:
    labels, mimic = root / "mimic_cxr_edema", root / "mimic"
    labels.mkdir(exist_ok=True)
    (labels / "regex_report_edema_severity.csv").write_text("\n".join(regex) + "\n")
    (labels / "consensus_image_edema_severity.csv").write_text("\n".join(consensus) + "\n")
    for line in METADATA[1:]:
        film, subject, study = line.split(",")[:3]
        folder = mimic / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{film}.jpg").write_bytes(b"films are not opened")
    with gzip.open(mimic / "mimic-cxr-2.0.0-metadata.csv.gz", "wt") as stream:
        stream.write("\n".join(METADATA) + "\n")
    return labels, mimic


def test_grades_become_one_severity_and_the_consensus_is_the_test_split(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    labels, mimic = tree(tmp_path)
    out = hilum.records_read("edema_severity", root=labels, mimic=mimic, val=0, out=tmp_path / "edema.csv")
    records = Records.read(out)
    assert severity_groups(records.findings) == {"edema": ("edema≥1", "edema≥2", "edema≥3")}
    assert records.table["patient"].tolist() == ["10000980", "10011938", "10023117", "10062617"]
    assert records.table["split"].tolist() == ["train", "train", "train", "test"]
    assert records.labels.sum(axis=1).tolist() == [0, 2, 1, 3]
    assert records.table["view"].tolist() == ["PA", "AP", "AP", "AP"]
    assert "1 left out: reports of patients of the test split: '55170181'" in caplog.text
    assert "1 left out: films of reports that are not AP or PA: 'bbb'" in caplog.text


def test_validation_is_of_whole_training_patients_and_the_test_split_stays(tmp_path):
    labels, mimic = tree(tmp_path)
    table = edema_severity.read(labels, mimic=mimic, reports="regex", val=0.3).table
    assert sorted(table["split"]) == ["test", "train", "train", "val"]
    assert table.loc[table["split"] == "test", "patient"].tolist() == ["10062617"]


def test_all_that_is_wrong_with_grades_is_one_list(tmp_path):
    labels, mimic = tree(tmp_path, [*REGEX, "10011938,50109051,4", "10011938,50109052,"])
    with pytest.raises(RecordsError) as caught:
        edema_severity.read(labels, mimic=mimic, reports="regex", val=0)
    assert "line 6: regex_report_edema_severity.csv: found '4'; expected 0 to 3" in str(caught.value)
    assert "line 7: regex_report_edema_severity.csv: found ''" in str(caught.value)
    labels, mimic = tree(tmp_path, [*REGEX, "10011938,99,2"])
    with pytest.raises(
        RecordsError,
        match=r"line 6: regex_report_edema_severity\.csv: study 99 is not in mimic-cxr-2\.0\.0-metadata",
    ):
        edema_severity.read(labels, mimic=mimic, reports="regex", val=0)
    labels, mimic = tree(tmp_path)
    next(mimic.rglob("ccc.jpg")).unlink()
    with pytest.raises(
        RecordsError, match=r"line 3: p10/p10011938/s51900145/ccc is there neither as \.jpg nor"
    ):
        edema_severity.read(labels, mimic=mimic, reports="regex", val=0)
    with pytest.raises(MissingError, match=r"expected expert_report_edema_severity\.csv"):
        edema_severity.read(labels, mimic=mimic, reports="expert", val=0)


def test_folders_above_are_read_too_and_a_share_that_is_none_is_named(tmp_path):
    tree(tmp_path)
    settings = {"mimic": tmp_path, "reports": "regex"}
    assert len(edema_severity.read(tmp_path, **settings, val=0)) == 4
    with pytest.raises(ConfigError, match="--val 1: expected a share of the training patients"):
        edema_severity.read(tmp_path, **settings, val=1)
    (tmp_path / "mimic" / "files").rename(tmp_path / "mimic" / "films")
    with pytest.raises(MissingError, match="expected files/ in it, the folder with p10, p11 and so on"):
        edema_severity.read(tmp_path, **settings, val=0)
    with pytest.raises(
        MissingError, match=r"expected mimic-cxr-2\.0\.0-metadata.* in it; --mimic is the folder"
    ):
        edema_severity.read(tmp_path, mimic=tmp_path / "mimic_cxr_edema", reports="regex", val=0)
