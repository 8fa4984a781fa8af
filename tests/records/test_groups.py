import numpy as np
import pandas as pd
import pytest

from hilum.errors import ConfigError, RecordsError
from hilum.records.groups import bands, in_order, read_groups
from hilum.records.table import Records

BANDS = [18, 40, 60, 80]


@pytest.fixture
def file(tmp_path):
    rows = [
        "image,patient,sex,age,view,Scanner,bmi,Edema,Device",
        "a.png,1,M,17.5,PA,Acme,20.1,1,1",
        "b.png,2,female,018Y,pa,acme,21.2,0,0",
        "c.png,3,F,59,AP,Bolt,22.3,1,1",
        "d.png,4,,80,PA,,23.4,0,",
        "e.png,5,unknown,,AP,Bolt,24.5,0,0",
    ]
    path = tmp_path / "films.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def read(file):
    return Records.read(file, findings=["Edema", "Device"], check_files=False)


def test_the_usual_columns_are_those_that_there_are(file):
    found = read_groups(read(file), file, columns=[], age_bands=BANDS)
    assert list(found) == ["sex", "age", "view"]
    assert found["sex"].tolist() == ["male", "female", "female", "", ""]
    assert found["age"].tolist() == ["0–17", "18–39", "40–59", "80+", ""]
    assert found["view"].tolist() == ["PA", "PA", "AP", "PA", "AP"]
    assert [image.rsplit("/")[-1] for image in found.index] == ["a.png", "b.png", "c.png", "d.png", "e.png"]


def test_any_column_of_the_file_and_any_finding_can_be_a_grouping(file):
    found = read_groups(read(file), file, columns=["Scanner", "Device"], age_bands=BANDS)
    assert found["Scanner"].tolist() == ["Acme", "Acme", "Bolt", "", "Bolt"]
    assert found["Device"].tolist() == ["present", "absent", "present", "", "absent"]


def test_an_unknown_column_names_the_nearest(file):
    with pytest.raises(ConfigError, match=r"no column 'scaner'.*did you mean 'Scanner'"):
        read_groups(read(file), file, columns=["scaner"], age_bands=BANDS)
    with pytest.raises(ConfigError, match="did you mean 'sex'"):
        read_groups(read(file), file, columns=["sexe"], age_bands=BANDS)
    with pytest.raises(ConfigError) as caught:
        read_groups(read(file), file, columns=["zzzz"], age_bands=BANDS)
    assert str(caught.value).count("'patient'") == 1


def test_a_column_of_two_hundred_values_is_no_grouping(tmp_path):
    path = tmp_path / "films.csv"
    pd.DataFrame(
        {
            "image": [f"{i}.png" for i in range(200)],
            "patient": range(200),
            "weight": np.linspace(40, 120, 200),
            "Edema": np.arange(200) % 2,
        }
    ).to_csv(path, index=False)
    with pytest.raises(RecordsError, match=r"column 'weight' has 200 values .*at most 20.*wider groups"):
        read_groups(Records.read(path, check_files=False), path, columns=["weight"], age_bands=BANDS)


def test_bands_begin_where_they_say():
    assert bands(["0", "17.99", "18", "39", "40", "79.5", "80", ""], BANDS) == [
        "0–17", "0–17", "18–39", "18–39", "40–59", "60–79", "80+", "",
    ]  # fmt: skip
    assert in_order("age", ["80+", "18–39", "", "0–17", "100+"]) == ["0–17", "18–39", "80+", "100+"]
    assert in_order("site", ["b", "", "a", "b"]) == ["a", "b"]


@pytest.mark.parametrize("starts", [[], [40, 18], [0, 40], [18, 18]])
def test_bands_that_do_not_ascend_are_refused(file, starts):
    with pytest.raises(ConfigError, match="--age-bands"):
        read_groups(read(file), file, columns=["age"], age_bands=starts)
