"""Open-i in both of its forms, in miniature trees, and XML that must not be read."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hilum.cli import main
from hilum.errors import ConfigError, MissingError, RecordsError
from hilum.records.sources import openi
from hilum.records.table import Records

SETTINGS = {"views": "all", "terms": "major", "heads": [], "projections": None}


def png(path: Path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(path)


def report(uid, films, *, major=(), automatic=(), findings="", impression=""):
    terms = "".join(f"<major>{term}</major>" for term in major)
    terms += "".join(f"<automatic>{term}</automatic>" for term in automatic)
    images = "".join(
        f'<parentImage id="{film}"><caption>PA and lateral</caption></parentImage>' for film in films
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f'<eCitation><uId id="{uid}"/><MedlineCitation><Article><Abstract>'
        '<AbstractText Label="INDICATION">Chest pain</AbstractText>'
        f'<AbstractText Label="FINDINGS">{findings}</AbstractText>'
        f'<AbstractText Label="IMPRESSION">{impression}</AbstractText>'
        f"</Abstract></Article></MedlineCitation><MeSH>{terms}</MeSH>{images}</eCitation>\n"
    )


def xml_tree(root: Path) -> Path:
    reports = {
        "1.xml": report(
            "CXR1",
            ["CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"],
            major=["normal"],
            impression="Normal chest &amp; heart.",
        ),
        "2.xml": report(
            "CXR2",
            ["CXR2_IM-0652-1001"],
            major=["Cardiomegaly/borderline", "Opacity/lung/base/left ", "Scoliosis"],
            automatic=["pulmonary edema"],
            findings="Borderline heart.",
            impression="Cardiomegaly.",
        ),
        "3.xml": report("CXR3", ["CXR3_IM-1384-1001"], major=["No Indexing"]),
        "4.xml": report("CXR4", [], major=["normal"]),
    }
    (root / "ecgen-radiology").mkdir(parents=True)
    for name, text in reports.items():
        (root / "ecgen-radiology" / name).write_text(text, encoding="utf-8")
    for film in ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001", "CXR2_IM-0652-1001", "CXR3_IM-1384-1001"):
        png(root / "NLMCXR_png" / f"{film}.png")
    return root


def sheets_tree(root: Path, *, projections=None, reports=None) -> Path:
    (root / "indiana_reports.csv").write_text(
        "\n".join(
            reports
            or [
                "uid,MeSH,Problems,image,indication,comparison,findings,impression",
                '1,normal,normal,Xray Chest PA,Positive test,None.,"The heart, is normal.",Normal chest.',
                '2,Cardiomegaly/borderline;Pulmonary Artery/enlarged,H,Chest,Pain,,,"No ""acute"" disease."',
                "5,normal,normal,Chest,,,,",
            ]
        )
        + "\n"
    )
    (root / "indiana_projections.csv").write_text(
        "\n".join(
            projections
            or [
                "uid,filename,projection",
                "1,1_IM-0001-4001.dcm.png,Frontal",
                "1,1_IM-0001-3001.dcm.png,Lateral",
                "2,2_IM-0652-1001.dcm.png,Frontal",
            ]
        )
        + "\n"
    )
    for name in ("1_IM-0001-4001", "1_IM-0001-3001", "2_IM-0652-1001"):
        png(root / "images" / "images_normalized" / f"{name}.dcm.png")
    return root


def test_reports_in_xml_give_findings_by_their_heads_and_the_text(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    records = openi.read(xml_tree(tmp_path), **SETTINGS)
    table = records.table.set_index(records.table["image"].str.rsplit("/").str[-1].str.removesuffix(".png"))
    assert records.findings == tuple(openi.FINDINGS)
    assert table["patient"].tolist() == ["CXR1", "CXR1", "CXR2", "CXR3"]
    assert table.loc["CXR1_1_IM-0001-3001", list(openi.FINDINGS)].sum() == 1
    assert table.loc["CXR1_1_IM-0001-3001", "No Finding"] == 1
    abnormal = table.loc["CXR2_IM-0652-1001"]
    assert {name for name in openi.FINDINGS if abnormal[name] == 1} == {"Cardiomegaly", "Lung Opacity"}
    assert table.loc["CXR3_IM-1384-1001", list(openi.FINDINGS)].isna().all()
    assert table["text"].tolist() == ["Normal chest & heart."] * 2 + ["Borderline heart.\nCardiomegaly.", ""]
    assert "1 left out: reports without a film: '4.xml'" in caplog.text
    assert "1 MeSH heads are no finding here: 'scoliosis (1)'" in caplog.text
    assert "1 films have a report that was not indexed" in caplog.text
    by_program = openi.read(tmp_path, **SETTINGS | {"terms": "automatic"}).table
    assert by_program["Edema"].tolist()[2] == 1
    assert by_program["Edema"].isna().tolist() == [True, True, False, True]
    chosen = openi.read(tmp_path, **SETTINGS | {"heads": ["Scoliosis"]})
    assert chosen.findings == ("Scoliosis",)
    assert chosen.table["Scoliosis"].tolist()[:3] == [0, 0, 1]


def test_frontal_films_of_xml_need_the_projections(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root = xml_tree(tmp_path / "xml")
    with pytest.raises(ConfigError, match="do not say which film is frontal; give --projections"):
        openi.read(root, **SETTINGS | {"views": "frontal"})
    (tmp_path / "sheets").mkdir()
    told = sheets_tree(tmp_path / "sheets") / "indiana_projections.csv"
    records = openi.read(root, **SETTINGS | {"views": "frontal", "projections": told})
    assert [Path(image).stem for image in records.table["image"]] == [
        "CXR1_1_IM-0001-4001",
        "CXR2_IM-0652-1001",
    ]
    assert records.table["view"].tolist() == ["FRONTAL", "FRONTAL"]
    assert "1 films are in no line of the projections" in caplog.text
    assert "2 left out: not frontal" in caplog.text


def test_sheets_give_frontal_films_with_the_findings_and_the_text(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    out = tmp_path / "openi.csv"
    assert main(["records", "read", "openi", "--root", str(sheets_tree(tmp_path)), "--out", str(out)]) == 0
    records = Records.read(out)
    assert records.table["patient"].tolist() == ["1", "2"]
    assert records.table["study"].tolist() == ["1", "2"]
    assert records.table["No Finding"].tolist() == [1, 0]
    assert records.table["Cardiomegaly"].tolist() == [0, 1]
    assert records.table["text"].tolist() == ["The heart, is normal.\nNormal chest.", 'No "acute" disease.']
    assert (
        "1 left out: not frontal, or nothing says so; --views all keeps them: '1_IM-0001-3001.dcm.png'"
        in caplog.text
    )
    assert "1 left out: reports without a film, by uid: '5'" in caplog.text
    both = openi.read(tmp_path, **SETTINGS).table
    assert both["view"].tolist() == ["FRONTAL", "LATERAL", "FRONTAL"]
    assert both["patient"].nunique() == 2


def test_all_that_is_wrong_with_sheets_is_one_list(tmp_path):
    root = sheets_tree(
        tmp_path,
        projections=["uid,filename,projection", "1,1_IM-0001-4001.dcm.png,Oblique", "1,gone.png,Lateral"],
    )
    with pytest.raises(RecordsError, match=r"line 2: found 'Oblique'; expected Frontal or Lateral"):
        openi.read(root, **SETTINGS)
    sheets_tree(tmp_path, projections=["uid,filename,projection", "1,gone.png,Lateral"])
    with pytest.raises(RecordsError, match=r"line 2: gone\.png is not there"):
        openi.read(root, **SETTINGS)
    sheets_tree(tmp_path, projections=["uid,filename,projection", "77,gone.png,Lateral"])
    with pytest.raises(RecordsError, match=r"uid 77 is not in indiana_reports\.csv"):
        openi.read(root, **SETTINGS)
    sheets_tree(tmp_path, reports=["uid,Problems", "1,normal"])
    with pytest.raises(RecordsError) as caught:
        openi.read(root, **SETTINGS)
    assert all(f"has no column {name!r}" in str(caught.value) for name in ("MeSH", "findings", "impression"))
    with pytest.raises(MissingError, match="expected ecgen-radiology or"):
        openi.read(tmp_path / "nowhere", **SETTINGS)


def test_xml_with_entities_or_too_large_is_refused_and_all_is_one_list(tmp_path):
    root = xml_tree(tmp_path)
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><eCitation><uId id="&c;"/></eCitation>'
    (root / "ecgen-radiology" / "bomb.xml").write_text(bomb)
    (root / "ecgen-radiology" / "wide.xml").write_bytes(bomb.encode("utf-16"))
    (root / "ecgen-radiology" / "half.xml").write_text('<eCitation><uId id="CXR9"/>')
    (root / "ecgen-radiology" / "bare.xml").write_text("<eCitation/>")
    (root / "ecgen-radiology" / "large.xml").write_text("<eCitation>" + " " * (1 << 20) + "</eCitation>")
    with pytest.raises(RecordsError) as caught:
        openi.read(root, **SETTINGS)
    said = str(caught.value)
    assert "5 defects" in said
    for part in (
        "bomb.xml is no report as Open-i gives it: it declares a document type",
        "wide.xml is no report as Open-i gives it: it declares a document type",
        "half.xml is no report as Open-i gives it: no element found",
        "bare.xml has no uId",
        "large.xml has more than 1,048,576 bytes",
    ):
        assert part in said


def test_films_may_lie_beside_the_reports_but_none_twice(tmp_path):
    root = xml_tree(tmp_path / "openi")
    (root / "ecgen-radiology").rename(root / "NLMCXR_png" / "ecgen-radiology")
    (root / "NLMCXR_png").rename(root / "unpacked")
    assert len(openi.read(tmp_path, **SETTINGS)) == 4
    png(tmp_path / "copies" / "CXR2_IM-0652-1001.png")
    with pytest.raises(RecordsError, match=r"CXR2_IM-0652-1001\.png is there twice"):
        openi.read(tmp_path, **SETTINGS)
    root = sheets_tree(tmp_path, projections=["uid,filename,projection", *["1,a.png,Frontal"] * 2])
    with pytest.raises(RecordsError, match=r"line 3: a\.png is in an earlier row too"):
        openi.read(root, **SETTINGS | {"projections": None})
