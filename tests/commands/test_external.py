"""A model fitted on one dataset, tested on another: two commands, and what they refuse."""

import logging

import pandas as pd
import pytest

import hilum
from hilum.cli import main
from hilum.commands._elsewhere import open_elsewhere
from hilum.commands._open import open_records, open_store
from hilum.config import RecordsConfig, StoreConfig
from hilum.errors import ConfigError, RecordsError
from hilum.images.phantom import FINDINGS, write_phantoms

NAMES = {"Effusion": "Pleural Effusion", "Nodule": "lung_nodule", "Consolidation": "White Patch"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def films(place):
    table = write_phantoms(place / "home", count=90, seed=1, size=64)
    split = place / "home.csv"
    assert main(["records", "split", str(table), "--out", str(split), "--val", "0.2", "--test", "0.4"]) == 0
    return split


@pytest.fixture(scope="module")
def probe(place, films):
    return hilum.transfer(
        records=films, init="pixels", image_size=32, out=place / "probe", replicates=50, **store(place)
    )


@pytest.fixture(scope="module")
def elsewhere(place):
    """Other patients, whose findings have other names, and no split."""
    path = write_phantoms(place / "away", count=60, seed=2, size=64)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table["patient"] = "away-" + table["patient"]
    table["image"] = [str(path.parent / image) for image in table["image"]]
    table["Scanner"] = ["Acme", "Bolt"] * 30
    table.drop(columns="split", errors="ignore").rename(columns=NAMES).to_csv(place / "away.csv", index=False)
    return place / "away.csv"


def store(place):
    return {"store": place / "store", "store_size": 48}


def test_a_model_is_tested_on_another_dataset_in_two_commands(place, probe, elsewhere):
    assert set(NAMES) <= set(FINDINGS)
    predictions = hilum.predict(probe, records=elsewhere, out=place / "away-predicted.csv", **store(place))
    assert (
        main(
            ["evaluate", str(predictions), "--records", str(elsewhere), "--out", str(place / "tested"),
             "--thresholds", str(probe / "report.json"), "--match", "Consolidation=White Patch",
             "--subgroups", "sex", "Scanner", "--replicates", "50"]
        )
        == 0
    )  # fmt: skip
    report, home = (hilum.Report.read(folder / "report.json") for folder in (place / "tested", probe))
    assert report.findings == FINDINGS
    assert {t.finding: t.value for t in report.thresholds} == {t.finding: t.value for t in home.thresholds}
    assert "Effusion is Pleural Effusion" in " ".join(report.notes)
    assert [one.column for one in report.subgroups] == ["sex", "Scanner"]
    assert (place / "tested" / "report.html").exists()


def test_without_a_match_what_has_no_partner_is_said(place, probe, elsewhere):
    predictions = hilum.predict(probe, records=elsewhere, out=place / "again.csv", **store(place))
    out = hilum.evaluate(
        predictions, records=elsewhere, out=place / "unmatched", replicates=20, subgroups=["none"]
    )
    report = hilum.Report.read(out / "report.json")
    assert "Consolidation" not in report.findings
    notes = " ".join(report.notes)
    assert "predicted only (the records have no such column): Consolidation" in notes
    assert "labelled only (the model does not predict it): White Patch" in notes
    assert report.subgroups == ()


def test_settings_that_fit_nothing_are_refused(place, probe, elsewhere):
    predictions = hilum.predict(probe, records=elsewhere, out=place / "third.csv", **store(place))
    wrong = {"records": elsewhere, "out": place / "wrong", "replicates": 20}
    with pytest.raises(ConfigError, match=r"--subgroups Scaner.*did you mean 'Scanner'"):
        hilum.evaluate(predictions, **wrong, subgroups=["Scaner"])
    with pytest.raises(RecordsError, match=r"column 'patient' has .* values"):
        hilum.evaluate(predictions, **wrong, subgroups=["patient"])
    with pytest.raises(ConfigError, match="the records have no finding 'White Path'; did you mean"):
        hilum.evaluate(predictions, **wrong, match={"Consolidation": "White Path"})
    assert not (place / "wrong").exists()


def test_predicting_what_was_trained_on_is_refused_unless_allowed(place, films, probe, caplog):
    table = pd.read_csv(films, dtype=str, keep_default_na=False)
    table["image"] = [str(place / image) for image in table["image"]]
    table.assign(split="").to_csv(place / "unsplit.csv", index=False)
    with pytest.raises(RecordsError, match=r"was trained on \d+ patients"):
        hilum.predict(probe, records=place / "unsplit.csv", out=place / "leak.csv", **store(place))
    assert not (place / "leak.csv").exists()
    with caplog.at_level(logging.WARNING):
        hilum.predict(
            probe, records=place / "unsplit.csv", out=place / "leak.csv", allow_overlap=True, **store(place)
        )
    assert "of the patients: scores on them would mean little" in caplog.text


def test_transfer_can_ask_for_another_dataset(place, films, elsewhere):
    kept = StoreConfig(**store(place))
    known, known_store = open_store(kept, open_records(RecordsConfig(records=films)))
    given = {"known": known, "known_store": known_store, "init": place / "none"}
    found = open_elsewhere(RecordsConfig(records=elsewhere), kept, **given, allow_overlap=False)
    assert (len(found.records), found.overlap, found.notes) == (60, 0, [])
    # The same table has a test split of its own, which shares nothing with its training.
    assert open_elsewhere(RecordsConfig(records=films), kept, **given, allow_overlap=False).overlap == 0
    table = pd.read_csv(films, dtype=str, keep_default_na=False)
    table["image"] = [str(place / image) for image in table["image"]]
    table.assign(split="").to_csv(place / "all.csv", index=False)
    with pytest.raises(RecordsError, match=r"of its patients and \d+ of its films are in the training"):
        open_elsewhere(RecordsConfig(records=place / "all.csv"), kept, **given, allow_overlap=False)
    leaky = open_elsewhere(RecordsConfig(records=place / "all.csv"), kept, **given, allow_overlap=True)
    assert leaky.overlap > 0
    assert "mean little" in leaky.notes[0]
