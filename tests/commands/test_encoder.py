"""hilum encoder: what a file is, and an encoder for other programs."""

import json

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

import hilum
from hilum.cli import main
from hilum.commands import chosen_by, settings_of
from hilum.commands._open import open_encoder
from hilum.errors import ConfigError, MissingError, OutputError, WeightsError
from hilum.images.spec import InputSpec
from hilum.models.encoder import Encoder
from hilum.models.weights import load, to_bytes


@pytest.fixture
def moco(tmp_path):
    net = timm.create_model("resnet18", num_classes=0)
    query = {f"module.encoder_q.{name}": tensor for name, tensor in net.state_dict().items()}
    key = {f"module.encoder_k.{name}": tensor + 1 for name, tensor in net.state_dict().items()}
    head = {"module.encoder_q.fc.0.weight": torch.zeros(4, 4), "module.queue": torch.zeros(128, 8)}
    torch.save({"epoch": 3, "arch": "resnet18", "state_dict": query | key | head}, tmp_path / "moco.pth.tar")
    return net.eval(), tmp_path / "moco.pth.tar"


def test_inspect_says_whose_a_file_is_and_what_would_be_used(moco, caplog):
    with caplog.at_level("INFO"):
        assert main(["encoder", "inspect", str(moco[1])]) == 0
    said = caplog.text
    assert "family: MoCo-CXR, MedAug (moco_cxr)" in said
    assert "all 120 of the encoder are in the file" in said
    assert "120 momentum encoder" in said
    assert "1 projection head" in said
    assert "sees: 320 pixels, crop, mean 0.502, std 0.085585" in said
    assert "embedding: 512 numbers (mean)" in said


def test_inspect_of_an_unknown_file_names_what_is_near_and_the_ways_out(tmp_path, capsys):
    torch.save({"state_dict": {"trunk.stem.weight": torch.zeros(8, 1, 3, 3)}}, tmp_path / "x.pth")
    assert main(["encoder", "inspect", str(tmp_path / "x.pth")]) == WeightsError.exit_code
    said = capsys.readouterr().err
    assert (
        "a checkpoint of no known family; 1 tensor, the first: state_dict.trunk.stem.weight (8, 1, 3, 3)"
        in said
    )
    assert "--family" in said
    assert "--arch" in said


def test_inspect_of_a_plain_resnet_says_what_else_it_may_be_and_how_to_say_so(tmp_path, caplog):
    path = tmp_path / "convirt_chest_mimic.pt"
    torch.save(timm.create_model("resnet18").state_dict(), path)
    with caplog.at_level("INFO"):
        for words in ([], ["--arch", "resnet34"], ["--family", "convirt"]):
            assert main(["encoder", "inspect", str(path), *words]) == 0
    *plain, told = [record.getMessage() for record in caplog.records]
    for said in plain:
        assert "may be: a plain file of ConVIRT (cxrlearn's convirt_chest_mimic.pt)" in said
        assert "say --family convirt" in said
        assert (
            "sees: 224 pixels, crop, mean 0.5, std 0.25; as the settings say, for the file does not" in said
        )
    assert "may be" not in told
    assert "sees: 224 pixels, pad, mean 0, std 1, then three channels by (0.485" in told


def test_inspect_of_a_file_that_is_no_network_says_what_it_is(tmp_path, capsys):
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.save({"optimizer": optimizer.state_dict(), "epoch": 3}, tmp_path / "x.pt")
    assert main(["encoder", "inspect", str(tmp_path / "x.pt")]) == WeightsError.exit_code
    assert (
        "the state of an optimiser (6 tensors, the first: optimizer.state.0.step)" in capsys.readouterr().err
    )
    (tmp_path / "x.pt").write_text("image,patient\na.png,1\n")
    assert main(["encoder", "inspect", str(tmp_path / "x.pt")]) == WeightsError.exit_code
    assert "text that begins with 'image,patient'" in capsys.readouterr().err


def test_inspect_of_a_file_that_lacks_a_tensor_names_it_and_the_way_out(moco, tmp_path, capsys):
    content = torch.load(moco[1])
    del content["state_dict"]["module.encoder_q.layer2.0.bn1.weight"]
    torch.save(content, tmp_path / "x.pth")
    assert main(["encoder", "inspect", str(tmp_path / "x.pth")]) == WeightsError.exit_code
    said = capsys.readouterr().err
    assert "119 of 120 tensors of resnet18 fit; layer2.0.bn1.weight is missing. Nothing was loaded" in said
    assert "download it again" in said


def test_inspect_of_our_own_file_reads_its_header(tmp_path, caplog):
    (tmp_path / "ours.safetensors").write_bytes(
        to_bytes(Encoder("test_resnet", InputSpec(side=64)), parent="random")
    )
    with caplog.at_level("INFO"):
        hilum.encoder_inspect(tmp_path / "ours.safetensors")
    assert "a file of this library" in caplog.text
    assert "began as: random" in caplog.text


def test_exported_files_hold_the_encoder(moco, tmp_path):
    net, path = moco
    words = ["encoder", "export", str(path), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    again = load(tmp_path / "out" / "encoder.safetensors")
    films = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        ours = again((films - 0.502) / 0.085585)
        theirs = net(((films - 0.502) / 0.085585).expand(-1, 3, -1, -1))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    plain = timm.create_model("resnet18", num_classes=0, in_chans=1)
    plain.load_state_dict(safetensors.torch.load_file(tmp_path / "out" / "timm.safetensors"))
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert (card["arch"], card["embedding"], card["channels"]) == ("resnet18", 512, 1)
    assert card["input"]["mean"] == 0.502
    assert "terms of CheXpert" in card["notes"]
    assert main(words) == OutputError.exit_code


@pytest.mark.filterwarnings("ignore")
def test_the_onnx_file_computes_the_same_embeddings(tmp_path, caplog):
    import onnxruntime

    encoder = Encoder("test_resnet", InputSpec(side=64, mean=0.4, std=0.2)).eval()
    (tmp_path / "x.safetensors").write_bytes(to_bytes(encoder))
    words = [
        "encoder",
        "export",
        str(tmp_path / "x.safetensors"),
        "--formats",
        "onnx",
        "--out",
        str(tmp_path / "out"),
    ]
    with caplog.at_level("INFO"):
        assert main(words) == 0
    assert {record.name.partition(".")[0] for record in caplog.records} == {"hilum"}
    session = onnxruntime.InferenceSession(
        tmp_path / "out" / "encoder.onnx", providers=["CPUExecutionProvider"]
    )
    films = np.random.default_rng(0).random((5, 1, 64, 64), np.float32)
    (found,) = session.run(None, {"images": films})
    with torch.inference_mode():
        expected = encoder((torch.from_numpy(films) - 0.4) / 0.2).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["onnx_largest_difference"] < 1e-4
    assert "normalised inside" in card["feed"]["encoder.onnx"]


def test_the_card_says_how_each_file_is_fed(moco, tmp_path):
    """The timm file is fed by hand here, as its card says."""
    folder = hilum.encoder_export(init=str(moco[1]), out=tmp_path / "out", preprocessing="clip")
    card = json.loads((folder / "card.json").read_text())
    assert set(card["feed"]) == {"encoder.safetensors", "timm.safetensors"}
    assert "three times, minus input.colour_mean" in card["feed"]["timm.safetensors"]
    assert "three times" not in card["feed"]["encoder.safetensors"]
    plain = timm.create_model("resnet18", num_classes=0, in_chans=card["channels"]).eval()
    plain.load_state_dict(safetensors.torch.load_file(folder / "timm.safetensors"))
    film = torch.rand(1, 1, 64, 64)
    mean, std = (torch.tensor(card["input"][n]).view(3, 1, 1) for n in ("colour_mean", "colour_std"))
    with torch.no_grad():
        theirs = plain((film.expand(-1, 3, -1, -1) - mean) / std)
        torch.testing.assert_close(load(folder / "encoder.safetensors")(film), theirs, rtol=1e-4, atol=1e-4)


def test_what_a_plain_network_lacks_is_said(tmp_path):
    encoder = Encoder("test_vit", InputSpec(side=64), pool="token", project=8)
    (tmp_path / "x.safetensors").write_bytes(to_bytes(encoder))
    folder = hilum.encoder_export(init=str(tmp_path / "x.safetensors"), out=tmp_path / "out")
    card = json.loads((folder / "card.json").read_text())
    assert "the projection of the encoder is not in this file" in card["feed"]["timm.safetensors"]
    assert "projection" not in card["feed"]["encoder.safetensors"]


def test_inspect_pools_as_it_is_told(moco, caplog):
    with caplog.at_level("INFO"):
        hilum.encoder_inspect(moco[1], pool="top_k", top_k=4, combine="concatenate")
    assert "embedding: 2048 numbers (top_k)" in caplog.text


def test_inspect_of_our_own_file_says_all_of_how_it_sees_and_pools(tmp_path, caplog):
    colour = {"colour_mean": (0.1, 0.2, 0.3), "colour_std": (0.4, 0.5, 0.6)}
    encoder = Encoder("test_vit", InputSpec(64, crop=0.875, **colour), pool="token", project=8)
    (tmp_path / "ours.safetensors").write_bytes(to_bytes(encoder))
    with caplog.at_level("INFO"):
        hilum.encoder_inspect(tmp_path / "ours.safetensors")
    assert "then three channels by (0.1, 0.2, 0.3) and (0.4, 0.5, 0.6), the middle 0.875" in caplog.text
    assert "embedding: token, projected to 8 numbers" in caplog.text
    with pytest.raises(ConfigError, match="this library's own file"):
        hilum.encoder_inspect(tmp_path / "ours.safetensors", family="dino")


@pytest.mark.parametrize(
    ("command", "init", "said"),
    [
        ("transfer", "randm", "did you mean 'random'?"),
        ("transfer", "pixel", "did you mean 'pixels'?"),
        ("pretrain", "imagnet", "did you mean 'imagenet'?"),
        ("pretrain", "pixel", "give a run or a weights file"),
        ("transfer", "runs/modle", "did you mean 'runs/model'?"),
    ],
)
def test_an_init_that_is_not_there_names_the_nearest(tmp_path, monkeypatch, command, init, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "model").mkdir(parents=True)
    given = {"records": "films.csv", "out": "out", "init": init}
    given |= {"method": "simclr"} if command == "pretrain" else {}
    config = settings_of(command, chosen_by(command, given)).build(given, command)
    with pytest.raises(MissingError) as caught:
        open_encoder(config.init, config, seed=0)
    assert f"{init}: no such weights file; {said}" in str(caught.value)
