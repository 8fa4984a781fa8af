import logging

import numpy as np
import pytest

from hilum.errors import RecordsError
from hilum.records.ordinal import severity_groups
from hilum.records.table import Records

NAN = np.nan


def written(folder, *cells, column="edema", mass=True):
    path = folder / "films.csv"
    rows = "".join(f"{i}.png,p{i},{cell}{f',{i % 2}' * mass}\n" for i, cell in enumerate(cells))
    path.write_text(f"image,patient,{column}{',Mass' * mass}\n{rows}")
    return path


def read(path, **settings):
    return Records.read(path, check_files=False, **{"ordinal": ["edema"]} | settings)


def refused(path, **settings):
    with pytest.raises(RecordsError) as caught:
        read(path, **settings)
    return str(caught.value)


def test_a_grade_becomes_the_findings_that_it_reaches(tmp_path):
    records = read(written(tmp_path, "0", "1", "2.0", " 3 ", "", "3"))
    assert records.findings == ("edema≥1", "edema≥2", "edema≥3", "Mass")
    expected = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1], [NAN] * 3, [1, 1, 1]]
    np.testing.assert_array_equal(records.labels[:, :3], np.array(expected, np.float32))
    for grade, row in zip((0, 1, 2, 3, NAN, 3), records.labels[:, :3], strict=True):
        assert row.sum() == grade or np.isnan(grade)


def test_grades_have_their_place_among_named_findings_and_come_last_without(tmp_path):
    path = written(tmp_path, "0", "1", "2")
    assert read(path, findings=["edema", "Mass"]).findings == ("edema≥1", "edema≥2", "Mass")
    assert read(path, findings=["Mass"]).findings == ("Mass", "edema≥1", "edema≥2")
    assert read(path, labels=False).findings == ()


def test_groups_are_found_by_the_names_of_their_findings(tmp_path):
    assert severity_groups(("a≥1", "Mass", "a≥2", "b≥1", "c≥2")) == {"a": ("a≥1", "a≥2"), "b": ("b≥1",)}
    records = read(written(tmp_path, "0", "1", "2"))
    assert severity_groups(records.findings) == {"edema": ("edema≥1", "edema≥2")}
    records.write(tmp_path / "again.csv")
    again = Records.read(tmp_path / "again.csv", check_files=False)  # as plain findings
    assert again.findings == records.findings
    np.testing.assert_array_equal(again.labels, records.labels)


def test_what_is_no_grade_is_a_defect_by_line(tmp_path):
    text = refused(written(tmp_path, "0", "1.5", "mild", "2", "11", "-2"))
    for line, cell in ((3, "1.5"), (4, "mild"), (6, "11"), (7, "-2")):
        assert (
            f"line {line}, column 'edema': found '{cell}'; a grade is an integer from 0 to 10 or empty"
            in text
        )
    assert "4 defects" in text
    assert "no grade above 0" in refused(written(tmp_path, "0", "0", ""))
    assert "the column has no grade;" in refused(written(tmp_path, "", ""))


def test_a_grade_that_nobody_has_is_said(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    assert read(written(tmp_path, "0", "1", "3")).findings[:3] == ("edema≥1", "edema≥2", "edema≥3")
    assert "edema: no radiograph has grade 2" in caplog.text


def test_a_column_that_is_not_there_names_the_nearest(tmp_path):
    path = written(tmp_path, "0", "1")
    text = refused(path, ordinal=["oedema", "patient"])
    assert "--ordinal oedema: there is no column 'oedema'; did you mean 'edema'?" in text
    assert "--ordinal patient: that is the name of a part of the table" in text
    clash = written(tmp_path, "0,1", "1,0", column="edema,edema≥1")
    assert "line 1, column 'edema≥1': --ordinal makes a finding of this name" in refused(clash)


def test_a_folder_of_classes_has_no_grades(tmp_path):
    (tmp_path / "classes" / "Edema").mkdir(parents=True)
    (tmp_path / "classes" / "Edema" / "a.png").touch()
    assert "--ordinal edema: a folder has classes" in refused(tmp_path / "classes")


def test_grades_without_the_setting_are_defects_that_name_it(tmp_path):
    assert "--ordinal edema" in refused(written(tmp_path, "0", "1", "2", "0"), ordinal=[])
    assert "--ordinal" not in refused(written(tmp_path, "0", "1", "x", "0"), ordinal=[])


def test_an_uncertain_grade_can_be_unknown_or_zero(tmp_path):
    path = written(tmp_path, "0", "-1", "2")
    assert np.isnan(read(path, uncertain="ignore").labels[1, :2]).all()
    assert read(path, uncertain="ignore").changed[0].labels == 1
    assert read(path, uncertain=["one", "edema=zero"]).labels[1, :2].tolist() == [0, 0]
    for policy in ("refuse", "one", "soft"):
        text = refused(path, uncertain=policy)
        assert "line 3, column 'edema': found '-1' (uncertain) in line 3" in text
        assert f"--uncertain edema=ignore or --uncertain edema=zero, and not {policy}" in text
