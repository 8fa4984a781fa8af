"""Files of others give up their tensors, and run nothing."""

import argparse
import builtins
import io
import os
import pickle
import struct
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from hilum.errors import MissingError, WeightsError
from hilum.models.foreign import read_foreign

LEGACY = {"_use_new_zipfile_serialization": False}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=2)


@pytest.mark.parametrize("how", [{}, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("shape", ["flat", "wrapped", "module", "parallel"])
def test_tensors_come_out_bit_by_bit(net, how, shape, tmp_path):
    content, prefix = {
        "flat": (net.state_dict(), ""),
        "wrapped": (
            {"opt": argparse.Namespace(lr=0.1, arch="x"), "epoch": 3, "model": net.state_dict(), "best": 0.5},
            "model.",
        ),
        "module": (net, ""),
        "parallel": (torch.nn.DataParallel(net), "module."),
    }[shape]
    torch.save(content, tmp_path / "x.pth", **how)
    found = read_foreign(tmp_path / "x.pth")
    assert {name for name in found.tensors if name.startswith(prefix)} == {
        prefix + n for n in net.state_dict()
    }
    for name, tensor in net.state_dict().items():
        assert torch.equal(found.tensors[prefix + name], tensor)
    if shape == "wrapped":
        assert found.facts == {"opt.lr": 0.1, "opt.arch": "x", "epoch": 3, "best": 0.5}
        assert found.stubs == ("argparse.Namespace",)


def test_every_dtype_view_and_parameter_is_read(tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    content = {
        **{
            str(d): torch.ones(3, dtype=d)
            for d in (torch.float16, torch.bfloat16, torch.float64, torch.int64)
        },
        "bool": torch.tensor([True, False]),
        "turned": base.t(),
        "part": base[1:3, ::2],
        "parameter": torch.nn.Parameter(base),
        "empty": torch.empty(0, 5),
        "scalar": torch.tensor(2.0),
        "deep": [{"inner": (base, {"more": base + 1})}],
    }
    torch.save(content, tmp_path / "x.pt")
    found = read_foreign(tmp_path / "x.pt").tensors
    for name in (
        "torch.float16",
        "torch.bfloat16",
        "torch.float64",
        "torch.int64",
        "bool",
        "turned",
        "part",
        "scalar",
    ):
        assert torch.equal(found[name], content[name])
        assert found[name].dtype == content[name].dtype
    assert torch.equal(found["parameter"], base)
    assert torch.equal(found["deep.0.inner.1.more"], base + 1)
    assert found["empty"].shape == (0, 5)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_torchscript_archive_gives_its_weights(tmp_path):
    made = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).half()
    torch.jit.script(made).save(str(tmp_path / "x.pt"))
    found = read_foreign(tmp_path / "x.pt").tensors
    assert {name: tuple(t.shape) for name, t in found.items()} == {
        name: tuple(t.shape) for name, t in made.state_dict().items()
    }


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def stacked(module: str, name: str, argument: bytes) -> bytes:
    """A pickle that gets a function by STACK_GLOBAL and calls it."""
    text = [b"\x8c" + bytes([len(word)]) + word for word in (module.encode(), name.encode())]
    return b"\x80\x04" + text[0] + text[1] + b"\x93" + b"U" + bytes([len(argument)]) + argument + b"\x85R."


def zipped(pickled: bytes) -> bytes:
    """As torch writes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3")
    return out.getvalue()


def legacy(pickled: bytes) -> bytes:
    """As torch wrote it before 1.6."""
    head = b"".join(pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
    return head + pickled + pickle.dumps([], protocol=2)


class Builds:
    """Pickles as an object whose state is set by a function of its own."""

    def __setstate__(self, state):
        os.system(state)

    def __getstate__(self):
        return "touch canary"


TOUCH = "touch canary"
MALICIOUS = {
    "os.system": pickle.dumps(Calls(os.system, TOUCH), protocol=2),
    "builtins.exec": pickle.dumps(Calls(builtins.exec, "open('canary', 'w')"), protocol=2),
    "builtins.eval": pickle.dumps({"state_dict": Calls(builtins.eval, "open('canary', 'w')")}, protocol=4),
    "open": pickle.dumps([Calls(open, "canary", "w")], protocol=5),
    "subprocess": pickle.dumps(Calls(subprocess.check_output, ["touch", "canary"]), protocol=2),
    "a call within a call": pickle.dumps(Calls(getattr, Calls(__import__, "os"), "system"), protocol=2),
    "protocol 0": b"cos\nsystem\n(S'touch canary'\ntR.",
    "INST": b"(S'touch canary'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'touch canary'\no.",
    "STACK_GLOBAL": stacked("os", "system", b"touch canary"),
    "posix": stacked("posix", "system", b"touch canary"),
    "torch's own loader": stacked("torch.hub", "load_state_dict_from_url", b"canary"),
    "dotted name": stacked("builtins", "__import__", b"canary"),
    "set state": pickle.dumps(Builds(), protocol=2),
    "numpy": pickle.dumps(Calls(np.load, "canary"), protocol=2),
    "extension": b"\x80\x02\x82\x01.",
    "persistent id": b"\x80\x02U\x04evilQ.",
    "runpy": stacked("runpy", "run_path", b"canary"),
}


@pytest.mark.parametrize("wrap", [zipped, legacy, bytes], ids=["zip", "legacy", "bare"])
@pytest.mark.parametrize("name", MALICIOUS)
def test_nothing_that_a_file_names_is_run(name, wrap, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bad.pth").write_bytes(wrap(MALICIOUS[name]))
    with pytest.raises(WeightsError, match=r"bad\.pth: (not readable as weights|holds no tensor)"):
        read_foreign(Path("bad.pth"))
    assert not Path("canary").exists()


def test_a_malicious_part_does_not_run_beside_good_tensors(net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": net.state_dict(), "hook": Calls(os.system, TOUCH), "b": Builds()}, "mixed.pth")
    found = read_foreign(Path("mixed.pth"))
    assert len(found.tensors) == len(net.state_dict())
    assert any(name.endswith(".system") for name in found.stubs)
    assert not Path("canary").exists()


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
    torch.save({"x": torch.zeros(4)}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in parts if name.endswith("data.pkl"))
    assert b"K\x04\x85" in parts[pickled]  # its size: (4,)
    parts[pickled] = parts[pickled].replace(b"K\x04\x85", b"K\x44\x85", 1)
    with zipfile.ZipFile(tmp_path / "y.pt", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(WeightsError, match="reaches beyond its storage"):
        read_foreign(tmp_path / "y.pt")


@pytest.mark.parametrize("how", [{}, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_refused(net, how, share, tmp_path):
    torch.save(net.state_dict(), tmp_path / "x.pth", **how)
    content = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError, match=r"x\.pth"):
        read_foreign(tmp_path / "x.pth")


def test_what_is_no_weights_file_is_said(tmp_path):
    with pytest.raises(MissingError, match="no such file"):
        read_foreign(tmp_path / "none.pth")
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><title>Sign in</title>")
    with pytest.raises(
        WeightsError, match=r"neither safetensors nor what torch saves, but text that .*DOCTYPE"
    ):
        read_foreign(tmp_path / "page.pth")
    (tmp_path / "pointer.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    with pytest.raises(WeightsError, match="git lfs pull"):
        read_foreign(tmp_path / "pointer.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    with pytest.raises(WeightsError, match="it is empty"):
        read_foreign(tmp_path / "empty.pth")
    torch.save({"epoch": 3}, tmp_path / "bare.pth")
    with pytest.raises(WeightsError, match="holds no tensor"):
        read_foreign(tmp_path / "bare.pth")
    (tmp_path / "count.pth").write_bytes(legacy(b"\x80\x02.")[:40] + struct.pack("q", 1 << 60))
    with pytest.raises(WeightsError, match=r"count\.pth"):
        read_foreign(tmp_path / "count.pth")
