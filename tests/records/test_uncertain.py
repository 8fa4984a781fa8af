import logging

import numpy as np
import pytest

from hilum.cli import values
from hilum.config import RecordsConfig
from hilum.errors import ConfigError, RecordsError
from hilum.metrics.bootstrap import bootstrap
from hilum.records.ranking import states_of
from hilum.records.splits import split_patients
from hilum.records.table import Records
from hilum.records.uncertain import HIGH, LOW, PUBLISHED, Changed, Policies, soft_labels

NAN = np.nan
SOFT = ["soft", "Mass=one"]


@pytest.fixture
def table(tmp_path):
    """Eight patients; Edema is uncertain in rows 1 and 4, Mass in row 2, and the last row is unknown."""
    path = tmp_path / "films.csv"
    rows = ["1,0", "-1,1", "0,-1", "1,0", "-1.0,1", "0,0", "0,1", ","]
    path.write_text(
        "image,patient,Edema,Mass\n" + "".join(f"{i}.png,p{i},{row}\n" for i, row in enumerate(rows))
    )
    return path


def read(table, *words, **settings):
    return Records.read(table, uncertain=list(words), check_files=False, **settings)


def refused(table, *words, **settings):
    with pytest.raises((RecordsError, ConfigError)) as caught:
        read(table, *words, **settings)
    return str(caught.value)


def test_one_word_is_the_policy_of_all_findings(table):
    for word, becomes in (("ignore", NAN), ("zero", 0), ("one", 1)):
        labels = read(table, word).labels
        np.testing.assert_array_equal(labels[[1, 4], 0], np.float32([becomes] * 2))
        np.testing.assert_array_equal(labels[2, 1], np.float32(becomes))
        assert np.array_equal(labels, Records.read(table, uncertain=word, check_files=False).labels, True)


def test_a_finding_that_is_named_has_its_own_policy_in_any_order_of_words(table):
    for words in (["ignore", "Edema=one"], ["Edema=one", "ignore"], ["Edema=one", "Mass=ignore"]):
        labels = read(table, *words).labels
        assert labels[[1, 4], 0].tolist() == [1, 1]
        assert np.isnan(labels[2, 1])


def test_what_has_no_policy_is_refused_with_the_way_out(table):
    text = refused(table, "Edema=one")
    assert "line 4, column 'Mass': found '-1' (uncertain) in line 4; choose what it becomes" in text
    assert "--uncertain ignore, zero, one or soft; of this finding alone: Mass=zero" in text
    assert "'Edema'" not in text
    assert "lines 3, 6" in refused(table)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ones"], "--uncertain ones: 'ones' is no policy; did you mean 'one'?"),
        (["Edema=zer"], "--uncertain Edema=zer: 'zer' is no policy; did you mean 'zero'?"),
        (["irvin"], "did you mean 'irvin2019'?"),
        (
            ["7"],
            "'7' is no policy; expected one of refuse, ignore, zero, one, soft, irvin2019, lovt, or FINDING=",
        ),
        (["zero", "one"], "expected one of these for all findings"),
        (["irvin2019", "lovt"], "expected one of these for all findings"),
        (["Edema=one", "Edema=zero"], "'Edema' is given one and zero; keep one"),
        (["=one"], "'=one' is no policy; did you mean 'one'?"),
    ],
)
def test_words_that_are_no_policies_are_refused(table, words, message):
    assert message in refused(table, *words)


def test_a_named_finding_that_is_not_there_names_the_nearest(table):
    text = refused(table, "ignore", "Edma=one")
    assert "--uncertain Edma=one: there is no finding 'Edma'; did you mean 'Edema'?" in text
    assert "there are 'Edema', 'Mass'" in refused(table, "ignore", "Zzz=one")
    # A column that is not among the findings asked for is no mistake: settings are shared by several tables.
    assert read(table, "ignore", "Mass=one", findings=["Edema"]).findings == ("Edema",)
    assert read(table, "Nonsense=one", labels=False).findings == ()


def test_published_policies_are_for_findings_by_name_and_give_way_to_what_is_named(table):
    assert PUBLISHED["irvin2019"] == {"": "ignore", "Atelectasis": "one", "Edema": "one"}
    labels = read(table, "irvin2019").labels
    assert labels[[1, 4], 0].tolist() == [1, 1]
    assert np.isnan(labels[2, 1])
    assert read(table, "irvin2019", "Edema=zero").labels[1, 0] == 0
    assert read(table, "irvin2019", "one").labels[2, 1] == 1  # the rest has a policy of the user's
    policies = Policies.of("lovt")  # U_diff: zero for Cardiomegaly and Consolidation, one for the other three
    assert [
        policies[f] for f in ("Cardiomegaly", "Consolidation", "Atelectasis", "Edema", "Pleural Effusion")
    ] == [*("zero", "zero", "one", "one", "one")]
    assert policies["Fracture"] == "refuse"


def test_what_was_changed_is_counted_logged_and_carried(table, caplog):
    caplog.set_level(logging.INFO)
    records = read(table, "ignore", "Edema=soft")
    expected = (Changed("Edema", "soft", 2), Changed("Mass", "ignore", 1))
    assert records.changed == expected
    assert "Edema: 2 labels of -1 (uncertain) are now soft, 0.55 to 0.85, for a loss alone" in caplog.text
    assert caplog.text.count("are now soft") == 1
    assert "Mass: 1 labels of -1 (uncertain) are now unknown" in caplog.text
    for part in (records.take(np.array([0, 5])), split_patients(records).where("train"), records.softened()):
        assert part.changed == expected
    assert read(table, "ignore", findings=["Mass"]).changed == expected[1:]
    assert not read(table, labels=False).changed


def test_soft_labels_lie_in_their_range_and_are_a_function_of_image_and_finding():
    drawn = soft_labels([f"{i}.png" for i in range(20000)], "Edema")
    assert LOW <= drawn.min() < LOW + 0.001
    assert HIGH - 0.001 < drawn.max() <= np.float32(HIGH)
    counts, _ = np.histogram(drawn, np.linspace(LOW, HIGH, 11))
    assert abs(counts - 2000).max() < 5 * np.sqrt(2000 * 0.9)
    assert np.array_equal(drawn[5:7], soft_labels(["5.png", "6.png"], "Edema"))
    other = soft_labels([f"{i}.png" for i in range(20000)], "Mass")
    assert abs(np.corrcoef(drawn, other)[0, 1]) < 0.04


def test_soft_labels_are_unknown_everywhere_but_to_a_loss(table):
    records = read(table, *SOFT)
    assert np.isnan(records.labels[[1, 4], 0]).all()
    assert records.table["Edema"].isna().sum() == 3
    assert records.labels[2, 1] == 1
    softened = records.softened()
    assert ((softened.labels[[1, 4], 0] >= LOW) & (softened.labels[[1, 4], 0] <= HIGH)).all()
    assert np.isnan(softened.labels[7, 0])
    known = ~np.isnan(records.labels)
    assert np.array_equal(softened.labels[known], records.labels[known])
    assert read(table, "ignore", "Mass=one").softened().table["Edema"].isna().sum() == 3
    # Should they get there all the same, splits take them for unknown and metrics refuse them.
    _, states = states_of(softened.patients, softened.labels)
    assert np.array_equal(states, states_of(records.patients, records.labels)[1])
    with pytest.raises(RecordsError, match="expected 1, 0 or NaN"):
        bootstrap("auroc", softened.labels, softened.labels, patients=records.patients, findings=("a", "b"))


def test_soft_labels_follow_their_rows_and_depend_neither_on_order_nor_on_the_place_of_the_files(
    table, tmp_path
):
    records = read(table, *SOFT)
    order = np.random.default_rng(0).permutation(len(records))
    assert np.array_equal(records.take(order).softened().labels, records.softened().labels[order], True)
    mask = records.table["patient"].isin(["p1", "p7"]).to_numpy()
    assert records.take(mask).softened().labels[0, 0] == records.softened().labels[1, 0]
    moved = tmp_path / "elsewhere" / "films.csv"
    moved.parent.mkdir()
    head, *rows = table.read_text().splitlines(keepends=True)
    moved.write_text(head + "".join(rows[::-1]))
    assert np.array_equal(read(moved, *SOFT).softened().labels[::-1], records.softened().labels, True)


def test_soft_labels_are_written_as_uncertain_and_read_again(table, tmp_path):
    records = read(table, *SOFT)
    records.write(tmp_path / "again.csv")
    again = read(tmp_path / "again.csv", "soft")
    assert np.array_equal(again.softened().labels, records.softened().labels, True)
    assert len({read(table, word).sha256 for word in ("soft", "ignore", "one")}) == 3


def test_the_setting_is_one_word_or_several_on_the_command_line_in_yaml_and_in_python():
    def of(*words):
        return RecordsConfig.build(values(words, RecordsConfig, "records"), "flags").uncertain

    assert of("a.csv") == ["refuse"]
    assert of("a.csv", "--uncertain", "ignore") == ["ignore"]
    assert of("a.csv", "--uncertain", "zero", "Pleural Effusion=one") == ["zero", "Pleural Effusion=one"]
    assert RecordsConfig.build({"records": "a.csv", "uncertain": "one"}, "yaml").uncertain == ["one"]
    config = RecordsConfig(records="a.csv", uncertain=["ignore", "Edema=one"], ordinal=["edema"])
    assert "uncertain:\n- ignore\n- Edema=one\n" in config.to_yaml()
