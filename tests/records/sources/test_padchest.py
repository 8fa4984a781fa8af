"""PadChest in miniature: lists as text, places among labels, projections and who labelled."""

import gzip
import logging

import numpy as np
import pytest

from hilum.cli import main
from hilum.errors import MissingError, RecordsError
from hilum.records.sources import padchest
from hilum.records.table import Records

from .trees import film, text

HEADER = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,"
    "Projection,MethodProjection,Pediatric,ReportID,Report,MethodLabel,Labels,Localizations"
)
ROWS = [
    (
        "1_a.png",
        0,
        20140915,
        "S1",
        "P1",
        "1930.0",
        "F",
        "PA",
        "Physician",
        "['pleural effusion', 'cardiomegaly']",
    ),
    (
        "1_b.png",
        0,
        20140915,
        "S1",
        "P1",
        "1930.0",
        "F",
        "L",
        "Physician",
        "['pleural effusion', 'cardiomegaly']",
    ),
    (
        "2_a.png",
        11,
        20120101,
        "S2",
        "P2",
        "",
        "M",
        "AP_horizontal",
        "RNN_model",
        "[' pleural effusion', 'loc basal']",
    ),
    ("3_a.png", 11, 20120101, "S3", "P3", "1980.0", "M", "AP", "Physician", "['normal']"),
    ("4_a.png", 54, 20120101, "S4", "P4", "1981.0", "M", "PA", "RNN_model", "['unchanged']"),
    ("5_a.png", 54, 20120101, "S5", "P5", "1982.0", "", "PA", "RNN_model", ""),
    ("6_a.png", 54, 20120101, "S6", "P6", "1983.0", "M", "PA", "RNN_model", "['normal', 'exclude']"),
    (
        "7_a.png",
        54,
        20120101,
        "S7",
        "P7",
        "1984.0",
        "F",
        "PA",
        "Physician",
        "['suboptimal study', \"kerley's lines\"]",
    ),
]


def lines(rows):
    for number, (name, folder, date, study, patient, birth, sex, view, method, labels) in enumerate(rows):
        quoted = labels.replace('"', '""')
        about = (
            f"{number},{name},{folder},{date},{study},{patient},{birth},{sex},POSTEROANTERIOR,{view},Manual"
        )
        yield f'{about},No,{number},"derram pleural , cardiomegali",{method},"{quoted}",[]'


def tree(root, rows=ROWS):
    text(root / padchest.SHEET, HEADER, *lines(rows))
    for name, folder, *_ in rows:
        film(root / str(folder) / name)
    return root


def read(root, **changes):
    return padchest.read(root, **padchest.Settings(fewest=1).model_dump() | changes)


def label(records, finding):
    return records.labels[:, records.findings.index(finding)].tolist()


def test_lists_become_findings_and_places_are_dropped(tmp_path, caplog):
    out = tmp_path / "table.csv"
    words = ["--root", str(tree(tmp_path)), "--fewest", "1", "--out", str(out)]
    with caplog.at_level(logging.INFO):
        assert main(["records", "read", "padchest", *words]) == 0
    for said in (
        "1 of 8 films are left out: they are labelled 'exclude'",
        "1 of 7 films are left out: their view is none of PA, AP, AP SUPINE (1 LATERAL)",
        "2 of 6 films have unknown labels: none, or only 'unchanged', 'suboptimal study', 'exclude'",
    ):
        assert said in caplog.text
    found = Records.read(out)
    assert found.findings == ("pleural effusion", "cardiomegaly", "kerley's lines", "normal")
    nan = np.nan
    np.testing.assert_equal(label(found, "pleural effusion"), [1, 1, 0, nan, nan, 0])
    np.testing.assert_equal(label(found, "normal"), [0, 0, 1, nan, nan, 0])
    assert found.table["patient"].tolist() == ["P1", "P2", "P3", "P4", "P5", "P7"]
    assert found.table["view"].tolist() == ["PA", "AP SUPINE", "AP", "PA", "PA", "PA"]
    assert found.table["age"].tolist() == ["84", "", "32", "31", "30", "28"]
    assert found.table["sex"].tolist() == ["F", "M", "M", "M", "", "F"]
    assert found.table["study"][0] == "S1"


def test_rare_findings_other_views_and_physicians(tmp_path, caplog):
    tree(tmp_path)
    with caplog.at_level(logging.INFO):
        found = read(tmp_path, views=[], physician=True, fewest=2, text=True)
    assert "2 findings on fewer than 2 films are left out" in caplog.text
    assert "3 of 7 films are left out: they were not labelled by physicians" in caplog.text
    assert found.findings == ("cardiomegaly", "pleural effusion")
    assert found.table["view"].tolist() == ["PA", "LATERAL", "AP", "PA"]
    assert found.table["text"][0] == "derram pleural , cardiomegali"


def test_a_packed_sheet_and_films_in_one_folder(tmp_path):
    tree(tmp_path)
    with gzip.open(tmp_path / f"{padchest.SHEET}.gz", "wb") as stream:
        stream.write((tmp_path / padchest.SHEET).read_bytes())
    (tmp_path / padchest.SHEET).unlink()
    (tmp_path / "54").rename(tmp_path / "images-224")
    assert len(read(tmp_path)) == 6
    (tmp_path / "0" / "1_a.png").unlink()
    with pytest.raises(RecordsError, match=r"line 2: 1_a\.png is not there"):
        read(tmp_path)
    assert len(read(tmp_path, only_present=True)) == 5


@pytest.mark.parametrize(
    "cell", ["__import__('os').getcwd()", "['normal'", "normal", "['a' 'b']", "['a', [1]]"]
)
def test_what_is_no_list_is_refused_and_never_run(tmp_path, cell):
    tree(tmp_path, [*ROWS, ("8_a.png", 54, 20120101, "S8", "P8", "1984.0", "F", "PA", "Physician", cell)])
    with pytest.raises(RecordsError, match=r"line 10, column 'Labels': found .* expected a list such as"):
        read(tmp_path)


def test_a_wrong_root_is_named(tmp_path):
    with pytest.raises(MissingError, match="expected PADCHEST_chest_x_ray_images_labels_160K"):
        read(tmp_path)


def test_a_film_of_which_only_its_quality_is_told_has_unknown_labels(tmp_path):
    row = ("8_a.png", 54, 20120101, "S8", "P8", "1984.0", "F", "PA", "Physician", "['suboptimal study']")
    found = read(tree(tmp_path / "PadChest", [*ROWS, row]).parent)  # the root is the folder above
    assert np.isnan(found.labels[-1]).all()
    film(tmp_path / "PadChest" / "copies" / "8_a.png")
    with pytest.raises(RecordsError, match=r"8_a\.png is there twice, as .*; move one away"):
        read(tmp_path)
