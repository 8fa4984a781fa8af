"""MIMIC-CXR-JPG in miniature: packed sheets, films in three layers of folders, and reports."""

import gzip
import logging

import numpy as np
import pytest

from hilum.cli import main
from hilum.errors import ConfigError, MissingError, RecordsError
from hilum.records.sources import mimic_cxr
from hilum.records.table import Records

from .trees import film, text

# Alphabetical, as the sheets have them.
FINDINGS = sorted(mimic_cxr.FINDINGS)
METADATA = (
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate"
)
FILMS = [
    ("02aa804e-bde0afdd", "10000032", "50414267", "PA", "train"),
    ("174413ec-4ec4c1f7", "10000032", "50414267", "LATERAL", "train"),
    ("2a2277a9-b0ded155", "10000032", "53189527", "AP", "train"),
    ("e084de3b-be89b11e", "11000764", "57375967", "PA", "validate"),
    ("ea030e7a-2e3b1346", "12003501", "59988438", "AP", "test"),
    ("ffffffff-00000000", "12003501", "51111111", "", "test"),
]
LABELS = [
    ("10000032", "50414267", {"No Finding": "1.0"}),
    ("10000032", "53189527", {"Edema": "-1.0", "Cardiomegaly": "1.0", "Pneumothorax": "0.0"}),
    ("11000764", "57375967", {"Edema": "1.0"}),
]
REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with new onset ascites  // eval for infection

 FINDINGS:

 There is no focal consolidation, pleural effusion
 or pneumothorax.

 IMPRESSION:

 {}
"""


def pack(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.write("\n".join(lines) + "\n")


def tree(root, *, films=FILMS, labels=LABELS, labeller="chexpert"):
    rows = [f'{d},{p},{s},"CHEST (PA AND LAT)",{view},3056,2544,21800506' for d, p, s, view, _ in films]
    pack(root / "mimic-cxr-2.0.0-metadata.csv.gz", METADATA, *rows)
    rows = [f"{d},{s},{p},{split}" for d, p, s, _, split in films if split]
    pack(root / "mimic-cxr-2.0.0-split.csv.gz", "dicom_id,study_id,subject_id,split", *rows)
    rows = [",".join([p, s, *(cells.get(name, "") for name in FINDINGS)]) for p, s, cells in labels]
    pack(root / f"mimic-cxr-2.0.0-{labeller}.csv.gz", ",".join(["subject_id", "study_id", *FINDINGS]), *rows)
    for d, p, s, _, _ in films:
        film(root / "files" / f"p{p[:2]}" / f"p{p}" / f"s{s}" / f"{d}.jpg")
    return root


def reports(root):
    for _, p, s, _, _ in FILMS:
        shown = REPORT.format("No acute cardiopulmonary process.")
        if s == "53189527":
            shown = " IMPRESSION: \n \n Unchanged."
        text(root / "files" / f"p{p[:2]}" / f"p{p}" / f"s{s}.txt", shown)
    return root


def read(root, **changes):
    return mimic_cxr.read(root, **mimic_cxr.Settings().model_dump() | changes)


def label(records, finding):
    return records.labels[:, records.findings.index(finding)].tolist()


def test_frontal_films_have_the_labels_of_their_exam_and_the_official_split(tmp_path, caplog):
    out = tmp_path / "table.csv"
    with caplog.at_level(logging.INFO):
        assert main(["records", "read", "mimic_cxr", "--root", str(tree(tmp_path)), "--out", str(out)]) == 0
    assert "2 of 6 films are left out: their view is none of AP, PA (1 LATERAL, 1 unknown)" in caplog.text
    assert "1 of 4 films are left out" not in caplog.text
    assert "1 of 4 films have no labels" in caplog.text
    found = Records.read(out, uncertain="one")
    assert found.table["patient"].tolist() == ["10000032", "10000032", "11000764", "12003501"]
    assert found.table["split"].tolist() == ["train", "train", "val", "test"]
    assert found.table["study"].tolist() == ["50414267", "53189527", "57375967", "59988438"]
    assert found.table["view"].tolist() == ["PA", "AP", "PA", "AP"]
    np.testing.assert_equal(label(found, "Edema"), [0, 1, 1, np.nan])
    np.testing.assert_equal(label(found, "No Finding"), [1, 0, 0, np.nan])
    unknown = read(tmp_path, blank="unknown")
    np.testing.assert_equal(label(unknown, "Pneumothorax"), [np.nan, 0, np.nan, np.nan])
    np.testing.assert_equal(label(unknown, "Edema"), [np.nan, np.nan, 1, np.nan])  # -1 is soft, hence NaN
    assert not np.isnan(unknown.soft[1, unknown.findings.index("Edema")])


def test_other_views_and_the_other_labeller(tmp_path):
    tree(tmp_path)
    tree(tmp_path, labeller="negbio", labels=[("10000032", "50414267", {"Edema": "1.0"})])
    assert label(read(tmp_path, labeller="negbio"), "Edema")[0] == 1
    assert len(read(tmp_path, views=[])) == 6
    assert read(tmp_path, views=["LATERAL"]).table["view"].tolist() == ["LATERAL"]
    with pytest.raises(ConfigError, match=r"--views lateral: no film is of these; views are '', 'AP'"):
        read(tmp_path, views=["lateral"])


def test_reports_give_texts_and_exams_with_next_to_none_are_left_out(tmp_path, caplog):
    folder = reports(tmp_path / "mimic-cxr-reports")
    tree(tmp_path)
    with caplog.at_level(logging.INFO):
        both = read(tmp_path, reports=folder)
    why = "the findings and impression of their report have fewer than 3 words"
    assert f"1 of 4 films are left out: {why}" in caplog.text
    assert both.table["study"].tolist() == ["50414267", "57375967", "59988438"]
    findings = "There is no focal consolidation, pleural effusion or pneumothorax."
    impression = "No acute cardiopulmonary process."
    assert both.table["text"][0] == f"FINDINGS: {findings} IMPRESSION: {impression}"
    assert read(tmp_path, reports=folder / "files", section="findings").table["text"][0] == findings
    assert read(tmp_path, reports=folder, section="impression").table["text"][0] == impression
    (folder / "files" / "p11" / "p11000764" / "s57375967.txt").unlink()
    with pytest.raises(RecordsError, match=r"s57375967\.txt is not there"):
        read(tmp_path, reports=folder)


def test_all_that_is_wrong_is_one_list(tmp_path):
    films = [*FILMS[:3], ("e084de3b-be89b11e", "11000764", "57375967", "PA", ""), FILMS[0]]
    films.append(("ea030e7a-2e3b1346", "12003501", "59988438", "AP", "holdout"))
    tree(tmp_path, films=films, labels=[*LABELS, ("12003501", "59988438", {"Edema": "3"})])
    with pytest.raises(RecordsError) as caught:
        read(tmp_path)
    said = str(caught.value)
    for part in (
        "line 5: mimic-cxr-2.0.0-metadata.csv.gz: e084de3b-be89b11e is in no row of mimic-cxr-2.0.0-split",
        "line 6: mimic-cxr-2.0.0-metadata.csv.gz: dicom_id 02aa804e-bde0afdd is in an earlier row too",
        "line 6: mimic-cxr-2.0.0-split.csv.gz: split of ea030e7a-2e3b1346 is 'holdout'",
        "line 5, column 'Edema': mimic-cxr-2.0.0-chexpert.csv.gz: found '3'",
    ):
        assert part in said


def test_films_that_are_not_there_stop_it_or_are_counted(tmp_path):
    tree(tmp_path)
    (tmp_path / "files" / "p11" / "p11000764" / "s57375967" / "e084de3b-be89b11e.jpg").unlink()
    with pytest.raises(
        RecordsError,
        match=r"line 5: .*metadata.csv.gz: p11/p11000764/s57375967/e084de3b-be89b11e is not there; --only-p",
    ):
        read(tmp_path)
    assert len(read(tmp_path, only_present=True)) == 3


def test_a_wrong_root_and_two_versions_are_named(tmp_path):
    with pytest.raises(MissingError, match=r"expected mimic-cxr-2\.0\.0-metadata\.csv\.gz or .* in it"):
        read(tmp_path)
    pack(tree(tmp_path) / "mimic-cxr-2.1.0-split.csv.gz", "dicom_id,study_id,subject_id,split")
    with pytest.raises(RecordsError, match="keep one version"):
        read(tmp_path)
    (tmp_path / "mimic-cxr-2.1.0-split.csv.gz").unlink()
    (tmp_path / "files").rename(tmp_path / "films")
    with pytest.raises(MissingError, match="expected files/ in it"):
        read(tmp_path)


def radiologist(root, *rows, opacity="Airspace Opacity"):
    names = [name.replace("Lung Opacity", opacity) for name in FINDINGS]
    lines = [",".join([study, *(cells.get(name, "") for name in names)]) for study, cells in rows]
    text(root / "mimic-cxr-2.1.0-test-set-labeled.csv", ",".join(["study_id", *names]), *lines)


@pytest.mark.parametrize("opacity", ["Airspace Opacity", "Lung Opacity"])
def test_a_radiologists_labels_are_those_of_the_test_split_alone(tmp_path, caplog, opacity):
    films = [*FILMS, ("dddddddd-00000000", "12003501", "52222222", "AP", "test")]
    labels = [*LABELS, ("12003501", "59988438", {"Edema": "1.0"}), ("12003501", "52222222", {"Edema": "1.0"})]
    tree(tmp_path, films=films, labels=labels)
    rows = [("59988438", {opacity: "1.0", "Edema": "-1.0", "No Finding": "0.0"})]
    rows.append(("50414267", {"Edema": "1.0"}))
    radiologist(tmp_path, *rows, opacity=opacity)
    mined = read(tmp_path)
    with caplog.at_level(logging.INFO):
        found = read(tmp_path, test_labels="radiologist", blank="unknown")
    assert found.findings == mined.findings
    assert found.table["split"].tolist() == ["train", "train", "val", "test", "test"]
    np.testing.assert_equal(label(found, "Lung Opacity"), [np.nan, np.nan, np.nan, 1, np.nan])
    np.testing.assert_equal(label(found, "No Finding"), [1, 0, 0, 0, np.nan])
    edema = found.findings.index("Edema")
    assert not np.isnan(found.soft[3, edema])  # her -1 stays -1
    assert np.isnan(found.soft[4, edema])
    assert np.isnan(found.labels[4]).all()
    assert (
        "1 of 2 films have no labels: their exam is not in mimic-cxr-2.1.0-test-set-labeled.csv"
        in caplog.text
    )
    assert (
        "1 left out: exams of mimic-cxr-2.1.0-test-set-labeled.csv that the test split does not have: '504"
        in caplog.text
    )


def test_a_radiologists_labels_that_are_not_there_are_asked_for(tmp_path):
    with pytest.raises(MissingError, match=r"expected mimic-cxr-2\.1\.0-test-set-labeled\.csv"):
        read(tree(tmp_path), test_labels="radiologist")


def test_sheets_that_were_unpacked_folders_above_and_patients_in_the_root_are_read(tmp_path):
    base = tree(tmp_path / "physionet.org" / "files" / "mimic-cxr-jpg" / "2.0.0")
    for name in ("metadata", "split"):
        packed = base / f"mimic-cxr-2.0.0-{name}.csv.gz"
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    whole = read(base).table
    assert read(tmp_path).table.equals(whole)
    for patients in (base / "files").iterdir():
        patients.rename(base / patients.name)
    (base / "files").rmdir()
    assert read(base).table["study"].equals(whole["study"])


def test_of_two_kinds_of_one_film_the_jpg_is_read_and_films_of_no_row_are_counted(tmp_path, caplog):
    tree(tmp_path)
    film(tmp_path / "files" / "p10" / "p10000032" / "s50414267" / "f.jpg")
    for path in sorted((tmp_path / "files").rglob("*.jpg"))[:3]:
        path.with_suffix(".dcm").write_bytes(b"")
    with caplog.at_level(logging.INFO):
        assert read(tmp_path).table["image"].str.endswith(".jpg").all()
    assert "1 left out: films that no row of mimic-cxr-2.0.0-metadata.csv.gz names: 'p10/p1" in caplog.text


@pytest.mark.parametrize(
    ("report", "findings", "impression"),
    [
        # Lines of a finding that look like headers but are not in capitals belong to it.
        (
            " FINDINGS:\n \n Lungs: clear.\n Heart: normal.\n\n IMPRESSION: None.",
            "Lungs: clear. Heart: normal.",
            "None.",
        ),
        (" CHEST, TWO VIEWS: \n\n Clear lungs.\n\n CONCLUSION: Normal.", "Clear lungs.", "Normal."),
        (" EXAMINATION: CHEST (PA AND LAT)\n\n FINDINGS AND IMPRESSION: Clear.", "", "Clear."),
        (" CHEST, PA LATERAL:\n\n INDICATION: Cough.\n\n FINDINGS: Clear.", "Clear.", ""),
        (" TYPE OF EXAMINATION: Chest PA.\n\n Findings: Clear.\n\n Impression: Normal.", "Clear.", "Normal."),
        (" Findings and impression: Clear.", "", "Clear."),
        (" The lungs are clear.", "", ""),
    ],
)
def test_sections_are_those_of_the_authors_rules(report, findings, impression):
    assert mimic_cxr.section_of(report, "findings") == findings
    assert mimic_cxr.section_of(report, "impression") == impression


def test_reports_of_a_wrong_folder_are_one_line(tmp_path):
    tree(tmp_path / "mimic")
    text(tmp_path / "other" / "files" / "p10" / "p10000033" / "s1.txt", REPORT)
    with pytest.raises(
        RecordsError, match=r"none of 4 reports is there, such as p10/p10000032/s50414267\.txt"
    ):
        read(tmp_path / "mimic", reports=tmp_path / "other")
    with pytest.raises(MissingError, match=r"expected one of p10 to p19 in it; .*give that as --reports"):
        read(tmp_path / "mimic", reports=tmp_path / "other" / "files" / "p10")
