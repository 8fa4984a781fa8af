"""hilum cxrlearn: its flags, its job, and what was wrong with it."""

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torchvision
from PIL import Image

import hilum
from hilum.cli import main
from hilum.commands.cxrlearn import Settings, _encoder
from hilum.errors import ConfigError, DependencyError, MissingError, OutputError, RecordsError
from hilum.images.phantom import write_phantoms
from hilum.models.weights import load
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
        "--chk_dir", f"{place}/out", "--datapt_dir", f"{place}/store", "--gpu_ids", "-1", *more,
    ]  # fmt: skip


def test_logistic_regression_by_its_flags(place, capsys):
    assert main(words(place, "--freeze_backbone", "True", "--use_logreg", "True", "--name", "logreg")) == 0
    report = Report.read(place / "out" / "logreg-mococxr-logistic" / "report.json")
    test = pd.read_csv(place / "test.csv")
    assert {e.finding for e in report.estimates} >= {"Cardiomegaly", "Consolidation"}
    assert report.provenance["settings"]["penalty"] == 0.0327
    assert report.provenance["settings"]["preprocessing"] == "clip"
    fewer = words(place, "--freeze_backbone", "--use_logreg", "--name", "logreg", "--max_iter", "9")
    capsys.readouterr()
    assert main(fewer) == OutputError.exit_code
    assert "--out is --chk_dir and --name here" in capsys.readouterr().err
    table = pd.read_csv(place / "out" / "logreg.csv", dtype=str)
    assert (table["split"] == "test").sum() == len(test)


def test_a_linear_probe_by_its_flags(place):
    more = ("--freeze_backbone", "--num_epochs", "1", "--name", "linear", "--patient_column", "patient")
    assert main(words(place, *more)) == 0
    settings = Report.read(place / "out" / "linear-mococxr-linear" / "report.json").provenance["settings"]
    assert (settings["fit"], settings["optimizer"], settings["lr"]) == ("linear", "sgd", 0.001)
    assert (settings["momentum"], settings["schedule"], settings["batch_size"]) == (0.9, "constant", 32)


def test_what_cxrlearn_let_pass_is_refused(place):
    given = {
        "train_csv": place / "train.csv", "path_column": "Path", "class_columns": ["Cardiomegaly"],
        "num_classes": 1, "model": "mococxr", "arch": "resnet18", "pretrained_dir": place / "pretrained",
        "chk_dir": place / "refused",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="scored the validation films as test"):
        hilum.cxrlearn(**given)
    no_validation = place / "doubled.csv"
    pd.concat([pd.read_csv(place / f"{name}.csv") for name in ("train", "val")]).to_csv(no_validation)
    with pytest.raises(RecordsError, match="are in more than one CSV"):
        hilum.cxrlearn(**given, test_csv=no_validation)  # and none of them becomes validation
    with pytest.raises(RecordsError, match="are in more than one CSV"):
        hilum.cxrlearn(**given, val_csv=place / "val.csv", test_csv=place / "val.csv")
    with pytest.raises(ConfigError, match="give --freeze_backbone with it"):
        hilum.cxrlearn(**given, test_csv=place / "test.csv", use_logreg=True)
    with pytest.raises(ConfigError, match="--num_classes 3, but Cardiomegaly has 2"):
        hilum.cxrlearn(**given | {"num_classes": 3}, test_csv=place / "test.csv")
    with pytest.raises(RecordsError, match="there is no column 'Edema'"):
        hilum.cxrlearn(**given | {"class_columns": ["Edema"]}, test_csv=place / "test.csv")


def films(place, sides):
    """Films of noise, a table of them by three CSVs, and what the pixels are."""
    rng = np.random.default_rng(0)
    (place / "images").mkdir(parents=True)
    rows = []
    for number in range(24):
        side = sides[number % len(sides)]
        level = 90 + 60 * (number // 3 % 2)
        pixels = rng.normal(level, 30, side).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place / "images" / f"{number}.png")
        rows.append({"Path": f"images/{number}.png", "bright": number // 3 % 2, "kind": number // 3 % 4})
    table = pd.DataFrame(rows)
    for number, name in enumerate(("train", "val", "test")):
        table[number::3].to_csv(place / f"{name}.csv", index=False)
    return table


def reference(image, net):
    """The features of torchvision's network by the preprocessing that cxrlearn has for all its models."""
    transform = torchvision.transforms.Compose([
        torchvision.transforms.Resize((224, 224), interpolation=Image.BICUBIC),
        torchvision.transforms.CenterCrop((224, 224)),
        lambda one: one.convert("RGB"),
        torchvision.transforms.ToTensor(),
        torchvision.transforms.Normalize(
            (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
        ),
    ])  # fmt: skip
    with torch.no_grad():
        return net(transform(Image.open(image))[None])[0]


def test_its_resnet_has_torchvisions_weights_and_clips_three_channels(tmp_path, caplog):
    table = films(tmp_path, [(224, 224)])
    torch.manual_seed(0)
    net = torchvision.models.resnet50()
    (tmp_path / "pretrained").mkdir()
    name = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    torch.save(net.state_dict(), tmp_path / "pretrained" / name)
    net.fc = torch.nn.Identity()
    with caplog.at_level("INFO"):
        run = hilum.cxrlearn(
            train_csv=tmp_path / "train.csv", val_csv=tmp_path / "val.csv", test_csv=tmp_path / "test.csv",
            path_column="Path", class_columns=["bright"], num_classes=1, model="resnet",
            pretrained_dir=tmp_path / "pretrained", freeze_backbone=True, use_logreg=True,
            chk_dir=tmp_path / "out", datapt_dir=tmp_path / "store", gpu_ids="-1",
        )  # fmt: skip
    assert "every film counts as a patient of its own" in caplog.text
    assert "bright: AUROC" in caplog.text
    classifier = load(run / "model.safetensors").eval()
    found = pd.read_csv(run / "predictions.csv").set_index("image")["bright"]
    rows = table[2::3]
    assert len(rows) == 8
    for film in rows["Path"]:
        features = reference(tmp_path / film, net.eval())
        grey = torch.from_numpy(np.asarray(Image.open(tmp_path / film), np.float32) / 255)
        with torch.no_grad():
            torch.testing.assert_close(
                classifier.encoder(grey[None, None])[0], features, rtol=1e-4, atol=1e-5
            )
            expected = torch.sigmoid(classifier.head(features)).item()
        assert found[str(tmp_path / film)] == pytest.approx(expected, abs=1e-4)


def test_imagenets_weights_that_cannot_be_had_are_named(tmp_path, monkeypatch):
    films(tmp_path, [(64, 64)])
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def refuses(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models.ResNet50_Weights, "get_state_dict", refuses)
    with pytest.raises(DependencyError, match=r"resnet50-\w+\.pth: not there, .* \(no route to host\)"):
        hilum.cxrlearn(
            train_csv=tmp_path / "train.csv", test_csv=tmp_path / "test.csv", path_column="Path",
            class_columns=["bright"], num_classes=1, model="resnet", chk_dir=tmp_path / "out",
        )  # fmt: skip


def test_one_column_of_classes_is_fitted_by_one_softmax(place, tmp_path):
    table = films(tmp_path, [(64, 64)])
    train = pd.read_csv(tmp_path / "train.csv", dtype=str)
    train.loc[0, "kind"] = ""
    train.to_csv(tmp_path / "train.csv", index=False)
    words = [
        "cxrlearn", "--train_csv", f"{tmp_path}/train.csv", "--val_csv", f"{tmp_path}/val.csv",
        "--test_csv", f"{tmp_path}/test.csv", "--path_column", "Path", "--class_columns", "kind",
        "--num_classes", "4", "--model", "mococxr", "--arch", "resnet18",
        "--pretrained_dir", f"{place}/pretrained", "--freeze_backbone", "--use_logreg",
        "--chk_dir", f"{tmp_path}/out", "--datapt_dir", f"{tmp_path}/store", "--gpu_ids", "-1",
    ]  # fmt: skip
    assert main(words) == 0
    settings = Report.read(tmp_path / "out" / "data_default-mococxr-logistic" / "report.json").provenance[
        "settings"
    ]
    assert (settings["penalty"], settings["exclusive"], settings["max_iter"]) == (0.316, True, 500)
    joined = pd.read_csv(tmp_path / "out" / "data_default.csv", dtype=str, keep_default_na=False)
    kinds = [f"kind {number}" for number in range(4)]
    assert list(joined)[3:] == kinds
    assert joined.loc[0, kinds].tolist() == [""] * 4  # a class that is not known is no class of its own
    assert (joined.loc[1:, kinds].astype(int).sum(axis=1) == 1).all()
    scores = pd.read_csv(tmp_path / "out" / "data_default-mococxr-logistic" / "predictions.csv")[kinds]
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-4)
    assert len(table) == len(joined)


def test_the_command_lines_of_its_readme_are_understood(place, tmp_path):
    shared = [
        "cxrlearn", "--gpu_ids", "0", "--train_csv", f"{place}/train.csv", "--val_csv", f"{place}/val.csv",
        "--test_csv", f"{place}/test.csv", "--path_column", "Path",
        "--class_columns", "Cardiomegaly", "Consolidation", "--datapt_dir", f"{place}/store",
        "--num_classes", "2", "--name", "cxr14", "--chk_dir", f"{tmp_path}/pt-finetune",
        "--model", "gloria", "--arch", "resnet50", "--gloria_layer_dim", "2048",
        "--pretrained_dir", f"{tmp_path}/none",
    ]  # fmt: skip
    linear = ["--freeze_backbone", "True", "--use_logreg", "True", "--max_iter", "500"]
    full = ["--freeze_backbone", "False", "--use_logreg", "False", "--pretrained_on", "mimic-cxr"]
    full += ["--batch_size", "32", "--lr", "1e-3", "--num_epochs", "100", "--momentum", "0.9"]
    for more in (linear, full, ["--no-freeze_backbone", "--no-use_logreg"]):
        assert main([*shared, *more]) == MissingError.exit_code  # which comes after all that is said of flags


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"model": "gloria", "arch": "resnet18", "gloria_layer_dim": 2048}, "resnet18 has 512 features"),
        ({"model": "refers", "arch": "resnet18"}, "--arch would not be read"),
        ({"model": "gloria", "pretrained_on": "chexpert"}, "--pretrained_on would not be read"),
        ({"model": "refers", "cxr_repair_layer_dim": 768}, "--cxr_repair_layer_dim would not be read"),
        ({"max_iter": 9}, "--max_iter would not be read"),
        ({"freeze_backbone": True, "use_logreg": True, "lr": 0.1, "momentum": 0.5}, "--lr and --mom"),
        ({"model": "resnet", "preprocessing": "own"}, "never saw films"),
        ({"gpu_ids": "0,1"}, "expected the number of one GPU"),
    ],
)  # fmt: skip
def test_a_flag_that_would_not_be_read_is_refused(place, more, said):
    given = {"train_csv": place / "train.csv", "test_csv": place / "test.csv", "path_column": "Path",
             "class_columns": ["Cardiomegaly"], "num_classes": 1, "chk_dir": place / "refused",
             "pretrained_dir": place / "pretrained"}  # fmt: skip
    if said.startswith("expected"):
        given |= {"model": "mococxr", "arch": "resnet18"}
    with pytest.raises((ConfigError, MissingError), match=said):
        hilum.cxrlearn(**given | more)


def test_768_numbers_are_the_class_token_before_clips_projection(tmp_path):
    (tmp_path / "chexzero.pt").write_bytes(b"")
    given = {"train_csv": "train.csv", "path_column": "Path", "class_columns": ["Edema"], "num_classes": 1,
             "model": "cxr-repair", "pretrained_dir": tmp_path}  # fmt: skip
    shared = {"init": str(tmp_path / "chexzero.pt"), "family": "chexzero", "preprocessing": "clip"}
    assert _encoder(Settings(**given)) == shared
    assert _encoder(Settings(**given, cxr_repair_layer_dim=768)) == {**shared, "pool": "token"}
