import pickle
import struct

import pytest
import safetensors.torch
import timm
import torch

from hilum.errors import ConfigError, MissingError, WeightsError
from hilum.images.spec import InputSpec
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.models.weights import load, load_encoder, read_header, to_bytes
from tests import toys

ARCHITECTURES = [
    "test_resnet",
    "test_vit",
    "test_convnext",
    "test_efficientnet",
    "densenet121",
    "seresnext26d_32x4d",
]


@pytest.mark.parametrize("arch", [*ARCHITECTURES, "torchvision/squeezenet1_0", "pixels/8"])
def test_a_file_alone_rebuilds_the_encoder(arch, tmp_path):
    spec = InputSpec(side=64, fit="pad", mean=0.4, std=0.2)
    encoder = Encoder(arch, spec).eval()
    (tmp_path / "model.safetensors").write_bytes(to_bytes(encoder, parent="random"))
    again = load(tmp_path)
    images = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        assert torch.equal(again(images), encoder(images))
        assert encoder(images).shape == (2, encoder.num_features)
        assert torch.equal(encoder(images), encoder.pool(encoder.feature_maps(images)[-1]))
    assert again.input == spec


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_plain_timm_loads_an_exported_encoder(arch, tmp_path):
    encoder = Encoder(arch, InputSpec(side=64)).eval()
    path = tmp_path / "model.safetensors"
    path.write_bytes(to_bytes(encoder))
    size = {"img_size": 64} if "vit" in arch else {}
    plain = timm.create_model(arch, in_chans=1, num_classes=0, **size).eval()
    plain.load_state_dict(safetensors.torch.load_file(path))
    images = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        assert torch.equal(plain.forward_features(images), encoder.net.forward_features(images))


def test_a_classifier_comes_back_with_its_findings(tmp_path):
    model = Classifier(toys.encoder(), ("Edema", "Nodule"), exclusive=True)
    torch.nn.init.normal_(model.head.weight)
    (tmp_path / "model.safetensors").write_bytes(to_bytes(model.eval()))
    again = load(tmp_path)
    images = torch.randn(2, 1, 32, 32)
    assert (again.findings, again.exclusive) == (("Edema", "Nodule"), True)
    with torch.inference_mode():
        assert torch.equal(again(images), model(images))


def test_the_summed_stem_is_exact_for_grey_images(tmp_path):
    rgb = timm.create_model("test_resnet", num_classes=0).eval()
    path = tmp_path / "rgb.safetensors"
    safetensors.torch.save_file(rgb.state_dict(), path)
    grey = load_encoder(path, arch="test_resnet", input_spec=toys.SPEC)
    images = torch.randn(2, 1, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(grey(images), rgb(images.expand(-1, 3, -1, -1)), atol=1e-5)


def test_weights_saved_by_torch_are_read_and_unused_tensors_are_named(tmp_path, caplog):
    net = timm.create_model("test_resnet", num_classes=3, in_chans=1)
    torch.save({"state_dict": net.state_dict()}, tmp_path / "old.pth")
    with caplog.at_level("INFO"):
        load_encoder(tmp_path / "old.pth", arch="test_resnet", input_spec=toys.SPEC)
    assert "unexpected: fc.bias, fc.weight" in caplog.text


def test_weights_that_do_not_cover_the_encoder_are_refused_with_a_count(tmp_path):
    state = timm.create_model("test_resnet", num_classes=0, in_chans=1).state_dict()
    state.pop("layer4.0.conv2.weight")
    safetensors.torch.save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(
        WeightsError,
        match=r"of \d+ tensors of --arch test_resnet fit; layer4.0.conv2.weight is missing.*Nothing "
        "was loaded",
    ):
        load_encoder(tmp_path / "x.safetensors", arch="test_resnet", input_spec=toys.SPEC)


class Canary:
    def __reduce__(self):
        return (open, ("canary", "w"))


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Canary()}, "bad.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Canary(), protocol=2))
    for name in ("bad.pth", "raw.pth"):
        with pytest.raises(WeightsError, match=r"bad\.pth|raw\.pth"):
            load_encoder(tmp_path / name, arch="test_resnet", input_spec=toys.SPEC)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_refused(tmp_path, share):
    whole = to_bytes(toys.encoder())
    path = tmp_path / "model.safetensors"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(WeightsError, match="damaged or cut off"):
        load(path)


def test_a_header_of_absurd_length_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(WeightsError):
        read_header(path)


def test_missing_files_and_unknown_architectures_say_what_to_do(tmp_path):
    with pytest.raises(MissingError, match="give a run or a weights file"):
        load(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        Encoder("resnet_18", toys.SPEC)
