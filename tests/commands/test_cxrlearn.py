"""hilum cxrlearn: its flags, its job, and what was wrong with it."""

import numpy as np
import pandas as pd
import pytest
import timm
import torch

import hilum
from hilum.cli import main
from hilum.errors import ConfigError, RecordsError
from hilum.images.phantom import write_phantoms
from hilum.report.report import Report


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("cxrlearn")
    table = pd.read_csv(
        write_phantoms(place / "films", count=90, size=64, seed=5), dtype=str, keep_default_na=False
    )
    table = table.rename(columns={"image": "Path"})
    table["Path"] = "films/" + table["Path"]
    order = {patient: number for number, patient in enumerate(sorted(set(table["patient"])))}
    part = np.array([order[patient] % 3 for patient in table["patient"]])
    for number, name in enumerate(("train", "val", "test")):
        table[part == number].to_csv(place / f"{name}.csv", index=False)
    net = timm.create_model("resnet18", num_classes=0)
    query = {f"module.encoder_q.{name}": tensor for name, tensor in net.state_dict().items()}
    (place / "pretrained").mkdir()
    torch.save(
        {"state_dict": query | {"module.encoder_k.conv1.weight": torch.zeros(1)}},
        place / "pretrained" / "moco-cxr_resnet18.pth.tar",
    )
    return place


def words(place, *more):
    return [
        "cxrlearn", "--train_csv", f"{place}/train.csv", "--val_csv", f"{place}/val.csv",
        "--test_csv", f"{place}/test.csv", "--path_column", "Path",
        "--class_columns", "Cardiomegaly", "Consolidation", "--num_classes", "2",
        "--model", "mococxr", "--arch", "resnet18", "--pretrained_dir", f"{place}/pretrained",
        "--out", f"{place}/out", "--store", f"{place}/store", "--device", "cpu", *more,
    ]  # fmt: skip


def test_logistic_regression_by_its_flags(place):
    assert main(words(place, "--freeze_backbone", "True", "--use_logreg", "True", "--name", "logreg")) == 0
    report = Report.read(place / "out" / "logreg" / "report.json")
    test = pd.read_csv(place / "test.csv")
    assert {e.finding for e in report.estimates} >= {"Cardiomegaly", "Consolidation"}
    assert report.provenance["settings"]["penalty"] == 0.0327
    assert report.provenance["settings"]["preprocessing"] == "clip"
    table = pd.read_csv(place / "out" / "logreg.csv", dtype=str)
    assert (table["split"] == "test").sum() == len(test)


def test_a_linear_probe_by_its_flags(place):
    more = ("--freeze_backbone", "--num_epochs", "1", "--name", "linear", "--patient_column", "patient")
    assert main(words(place, *more)) == 0
    settings = Report.read(place / "out" / "linear" / "report.json").provenance["settings"]
    assert (settings["fit"], settings["optimizer"], settings["lr"]) == ("linear", "sgd", 0.001)
    assert (settings["momentum"], settings["schedule"], settings["batch_size"]) == (0.9, "constant", 32)


def test_what_cxrlearn_let_pass_is_refused(place):
    given = {
        "train_csv": place / "train.csv", "path_column": "Path", "class_columns": ["Cardiomegaly"],
        "num_classes": 1, "model": "mococxr", "arch": "resnet18", "pretrained_dir": place / "pretrained",
        "out": place / "refused",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="scored the validation films as test"):
        hilum.cxrlearn(**given)
    with pytest.raises(RecordsError, match="are in more than one CSV"):
        hilum.cxrlearn(**given, val_csv=place / "val.csv", test_csv=place / "val.csv")
    with pytest.raises(ConfigError, match="give --freeze_backbone with it"):
        hilum.cxrlearn(**given, test_csv=place / "test.csv", use_logreg=True)
    with pytest.raises(ConfigError, match="--num_classes 3, but Cardiomegaly has 2"):
        hilum.cxrlearn(**given | {"num_classes": 3}, test_csv=place / "test.csv")
    with pytest.raises(RecordsError, match="there is no column 'Edema'"):
        hilum.cxrlearn(**given | {"class_columns": ["Edema"]}, test_csv=place / "test.csv")
