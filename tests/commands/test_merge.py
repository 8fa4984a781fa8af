import hashlib
import json

import numpy as np
import pandas as pd
import pytest

import hilum
from hilum.cli import main
from hilum.errors import ConfigError, OutputError, RecordsError
from hilum.records.harmonise import State, states
from hilum.records.table import Records

NIH = """image,patient,split,sex,Effusion,Consolidation,Nodule,No Finding
nih/1.png,1,train,F,1,0,0,0
nih/2.png,1,train,F,0,1,0,0
nih/3.png,2,test,M,0,0,0,1
nih/4.png,3,val,M,0,0,1,1
"""
CHEXPERT = """image,patient,split,view,Pleural Effusion,Lung Opacity,Oedema,Mine
che/1.png,1,train,PA,1,1,-1,1
che/2.png,1,train,LL,-1,0,1,0
che/3.png,2,test,PA,,,0,
"""


@pytest.fixture
def tables(tmp_path):
    for name, text in (("nih", NIH), ("chexpert", CHEXPERT)):
        table = tmp_path / f"{name}.csv"
        table.write_text(text)
        for image in pd.read_csv(table)["image"]:
            (tmp_path / image).parent.mkdir(exist_ok=True)
            (tmp_path / image).touch()
    return [tmp_path / "nih.csv", tmp_path / "chexpert.csv"]


def merged(tables, name="merged.csv", **settings):
    out = hilum.records_merge(tables, out=tables[0].parent / name, **settings)
    return Records.read(out, uncertain="soft"), json.loads(out.with_suffix(".json").read_text())


def test_findings_of_one_meaning_share_a_column_and_what_a_table_lacks_is_unknown(tables):
    records, facts = merged(tables)
    assert set(records.findings) == {
        "Pleural Effusion", "Consolidation", "Nodule", "No Finding", "Lung Opacity", "Edema", "Mine",
    }  # fmt: skip
    effusion = states(records)[:, records.findings.index("Pleural Effusion")]
    assert effusion.tolist() == [1, 0, 0, 0, 1, -1, State.NOT_MENTIONED]
    assert np.isnan(records.table["Consolidation"][4:]).all()
    by_name = {one["finding"]: one for one in facts["findings"]}
    assert by_name["Pleural Effusion"]["renamed"] == {"nih": "Effusion"}
    assert by_name["Edema"]["renamed"] == {"chexpert": "Oedema"}
    assert by_name["Pleural Effusion"]["sites"] == ["nih", "chexpert"]
    counts = [by_name["Pleural Effusion"][key] for key in ("positive", "negative", "uncertain", "unknown")]
    assert counts == [2, 3, 1, 1]


def test_patients_of_equal_names_stay_apart_and_keep_their_splits(tables):
    records, facts = merged(tables)
    assert records.table["patient"].tolist() == [
        "nih/1", "nih/1", "nih/2", "nih/3", "chexpert/1", "chexpert/1", "chexpert/2",
    ]  # fmt: skip
    assert records.table["split"].tolist() == ["train", "train", "test", "val", "train", "train", "test"]
    assert records.table["site"].tolist() == ["nih"] * 4 + ["chexpert"] * 3
    assert facts["patients"] == 5
    assert facts["sites"] == {"nih": 4, "chexpert": 3}
    assert records.table["sex"].tolist() == ["F", "F", "M", "M", "", "", ""]
    assert records.table["view"].tolist() == ["", "", "", "", "PA", "LL", "PA"]


def test_minus_one_stays_minus_one_in_the_file(tables):
    merged(tables)
    cells = pd.read_csv(tables[0].parent / "merged.csv", dtype=str, keep_default_na=False)
    assert cells["Pleural Effusion"].tolist() == ["1", "0", "0", "0", "1", "-1", ""]
    assert cells["Edema"].tolist() == ["", "", "", "", "-1", "1", "0"]


def test_wider_findings_are_filled_from_narrower_ones_unless_they_are_left(tables):
    records, facts = merged(tables)
    opacity = records.table["Lung Opacity"]
    assert np.array_equal(opacity, [np.nan, 1, np.nan, 1, 1, 0, np.nan], equal_nan=True)
    assert next(one["filled"] for one in facts["findings"] if one["finding"] == "Lung Opacity") == 2
    left, facts = merged(tables, "left.csv", parents="leave")
    assert np.isnan(left.table["Lung Opacity"][:4]).all()
    assert not any(one["filled"] for one in facts["findings"])


def test_a_set_that_asked_for_every_narrower_finding_gives_negatives_of_that_set_alone(tables):
    records, _ = merged(tables, complete=["nih=Lung Opacity"])
    assert np.array_equal(records.table["Lung Opacity"], [0, 1, 0, 1, 1, 0, np.nan], equal_nan=True)


def test_contradictions_are_named_and_nothing_is_changed_by_them(tables, capsys):
    records, facts = merged(tables)
    pairs = {(one["finding"], one["against"]): one for one in facts["contradictions"]}
    assert set(pairs) == {("Nodule", "No Finding"), ("Edema", "Lung Opacity")}
    assert pairs["Edema", "Lung Opacity"]["films"] == 1
    assert pairs["Edema", "Lung Opacity"]["examples"][0].endswith("che/2.png")
    assert records.table["Lung Opacity"][5] == 0
    assert "contradiction: Nodule is positive and No Finding positive on 1 films" in capsys.readouterr().out


def test_an_intersection_keeps_what_every_table_has_after_filling(tables):
    records, facts = merged(tables, join="intersection")
    assert records.findings == ("Pleural Effusion",)
    assert set(facts["left_out"]) == {
        "Consolidation",
        "Nodule",
        "No Finding",
        "Lung Opacity",
        "Edema",
        "Mine",
    }
    assert len(records) == 7


def test_one_table_alone_is_harmonised(tables):
    records, facts = merged(tables[1:])
    assert records.findings == ("Pleural Effusion", "Lung Opacity", "Edema", "Mine")
    assert states(records)[:, 2].tolist() == [-1, 1, 0]
    assert facts["sites"] == {"chexpert": 3}


def test_names_that_the_user_gives_go_before_the_ontology(tables):
    records, _ = merged(tables, match={"Mine": "Fracture"})
    assert "Fracture" in records.findings
    with pytest.raises(ConfigError, match=r"no table has a finding 'Min'; did you mean 'Mine'\?"):
        merged(tables, "other.csv", match={"Min": "Fracture"})


def test_names_without_an_entry_are_joined_where_letters_and_digits_agree(tables):
    tables[0].write_text(NIH.replace("Nodule", "mine"))
    records, facts = merged(tables)
    assert records.table["mine"].fillna(-9).tolist() == [0, 0, 0, 1, 1, 0, -9]
    assert next(one["renamed"] for one in facts["findings"] if one["finding"] == "mine") == {
        "chexpert": "Mine"
    }


def test_sites_can_be_named_and_a_table_s_own_sites_stay_behind_them(tables):
    tables[0].write_text(NIH.replace("sex", "site"))
    records, _ = merged(tables, sites=["NIH", "Stanford"])
    assert records.table["site"].tolist() == ["NIH/F", "NIH/F", "NIH/M", "NIH/M", *["Stanford"] * 3]
    assert records.table["patient"][0] == "NIH/1"


def test_a_merged_table_can_be_merged_again(tables):
    merged(tables)
    both = tables[0].parent / "merged.csv"
    again = Records.read(
        hilum.records_merge([both], out=both.parent / "again.csv", sites=["all"]), uncertain="soft"
    )
    assert again.table["site"].tolist() == ["all/nih"] * 4 + ["all/chexpert"] * 3
    assert again.table["patient"][0] == "all/nih/1"


def test_an_image_in_two_tables_is_refused(tables):
    tables[1].write_text(CHEXPERT.replace("che/1.png", "nih/2.png"))
    with pytest.raises(
        RecordsError, match=r"1 images are in two tables(.|\n)*nih/2.png: in nih and chexpert"
    ):
        merged(tables)


def test_tables_without_a_common_finding_have_no_intersection(tables):
    tables[1].write_text("image,patient,split,Mine\nche/1.png,1,train,1\nche/2.png,1,train,0\n")
    with pytest.raises(RecordsError, match="no finding in common"):
        merged(tables, join="intersection")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"sites": ["one"]}, "1 names for 2 tables"),
        ({"sites": ["one", "one"]}, "a name of its own"),
        ({"complete": ["nhi=Lung Opacity"]}, "there is no site 'nhi'; did you mean 'nih'"),
        ({"complete": ["Fracture"]}, "there is no finding 'Fracture'"),
        ({"complete": ["Lung Opacity"], "parents": "leave"}, "give one of them"),
    ],
)
def test_settings_that_name_nothing_are_refused_and_nothing_is_written(tables, settings, why):
    with pytest.raises(ConfigError, match=why):
        merged(tables, **settings)
    assert sorted(path.name for path in tables[0].parent.glob("merged*")) == []


def test_nothing_is_overwritten(tables):
    merged(tables)
    before = hashlib.sha256((tables[0].parent / "merged.json").read_bytes()).digest()
    (tables[0].parent / "merged.csv").unlink()
    with pytest.raises(OutputError, match=r"merged\.json: is there already"):
        merged(tables)
    assert hashlib.sha256((tables[0].parent / "merged.json").read_bytes()).digest() == before


def test_the_command_line_takes_tables_and_prints_the_way_to_the_result(tables, capsys):
    out = tables[0].parent / "merged.csv"
    assert main(["records", "merge", *map(str, tables), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == str(out)
    assert "  was 'Effusion' in nih" in printed


def test_a_site_that_is_another_name_for_the_tables_own_is_said_once(tables):
    table = pd.read_csv(tables[0], dtype=str, keep_default_na=False)
    table.assign(site=["NIH ChestX-ray14", "", "St Mary", "RSNA"]).to_csv(tables[0], index=False)
    records, _ = merged(tables)
    assert records.table["site"].tolist()[:5] == ["nih", "nih", "nih/St Mary", "nih/RSNA", "chexpert"]
