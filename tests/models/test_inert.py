"""Files made to harm take little memory and give one line; files that people publish open."""

import argparse
import collections
import enum
import io
import json
import pickle
import pickletools
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from hilum.errors import WeightsError
from hilum.models import torch_files
from hilum.models.foreign import read_foreign
from hilum.models.inert import Budget, Stub, _Machine, read_pickle

REBUILD = "torch._utils._rebuild_tensor_v2"
LEGACY = {"_use_new_zipfile_serialization": False}


def text(word: str) -> bytes:
    """A step that puts a text."""
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def call(name: str, *args: bytes) -> bytes:
    """Steps that call what they name."""
    return f"c{name.rpartition('.')[0]}\n{name.rpartition('.')[2]}\n".encode() + b"(" + b"".join(args) + b"tR"


def number(value: int) -> bytes:
    """A step that puts a number."""
    width = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([width]) + value.to_bytes(width, "little", signed=True)


def storage(count: int, key: str = "0") -> bytes:
    """Steps that refer to a storage of so many floats."""
    return (
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + number(count) + b"tQ"
    )


def tensor(count: int, size: bytes, stride: bytes) -> bytes:
    """Steps that rebuild a tensor on that storage."""
    return call(REBUILD, storage(count), b"K\x00", size, stride, b"\x89", b"}")


def zipped(pickled: bytes, *, deflate: bool = False, **parts: bytes) -> bytes:
    """As torch writes it; `parts` are storages."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3")
        for key, content in parts.items():
            archive.writestr(f"archive/data/{key.removeprefix('_')}", content)
    return out.getvalue()


def legacy(pickled: bytes, keys: list[str]) -> bytes:
    """As torch wrote it before 1.6, up to the storages."""
    head = b"".join(pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
    return head + pickled + pickle.dumps(keys, protocol=2)


def laughs(depth: int, make: bytes) -> bytes:
    """Each container holds the one before it, twice."""
    return make + b"".join(b"q\x00" + b"h\x00\x86" for _ in range(depth))


ONE = b"K\x01\x85", b"K\x01\x85"
THREE = b"K\x03\x85", b"K\x01\x85"
"""Sizes and strides."""
MANY = b"(" + b"K\x01" * 100_000 + b"lq\x00"
VIEWS = b"]" + storage(250_000) + b"q\x010(" + b"".join(
    call(REBUILD, b"h\x01", b"K\x00", number(250_000) + b"\x85", b"K\x01\x85", b"\x89", b"}")
    for _ in range(2000)
) + b"e"  # fmt: skip
BOMBS = {
    "a place in the memo that is far away": (zipped(b"\x80\x02]r\xff\xff\xff\x7f."), "holds no tensor"),
    "the same as text": (zipped(b"]p2147483647\n."), "holds no tensor"),
    "a list of lists of lists": (
        zipped(b"\x80\x02]" + b"".join(b"q\x00(" + b"h\x00" * 10 + b"l" for _ in range(30)) + b"."),
        "far more objects",
    ),
    "a key of tuples of tuples": (zipped(b"\x80\x02}" + laughs(60, b")") + b"K\x01s."), "tuples of tuples"),
    "long keys over many values": (
        zipped(b"\x80\x02}" + text("k" * 500_000) + MANY + b"s."), "longer than 1000 characters",
    ),
    "a key with more digits than Python prints": (
        zipped(b"\x80\x02}\x8b" + struct.pack("<I", 20_000) + b"\x7f" * 20_000 + b"K\x01s."), "digits",
    ),
    "copies of a long list": (
        zipped(b"\x80\x02" + MANY + (call("torch.Size", b"h\x00") + b"0") * 2000 + b"."), "far more objects",
    ),
    "a stride of nought": (
        zipped(b"\x80\x02" + tensor(1, number(10**10) + b"\x85", b"K\x00\x85") + b".", _0=bytes(4)),
        "tensors are more than 16 times",
    ),
    "many views of one storage": (zipped(b"\x80\x02" + VIEWS + b".", _0=bytes(10**6)), "more than 16 times"),
    "a size beyond any machine": (
        zipped(b"\x80\x02" + tensor(1, number(2**70) + b"\x85", b"K\x01\x85") + b".", _0=bytes(4)),
        "a size and strides",
    ),
    "a negative stride": (
        zipped(b"\x80\x02" + tensor(9, b"K\x03\x85", number(-1) + b"\x85") + b".", _0=bytes(36)),
        "a size and strides",
    ),
    "a storage declared in an old file": (
        legacy(b"\x80\x02" + tensor(2**33, *THREE) + b".", ["0"]), "is cut off",
    ),
    "a negative storage in an old file": (
        legacy(b"\x80\x02" + tensor(-(2**33), *THREE) + b".", ["0"]), "a storage of -8589934592",
    ),
    "a deflated pickle": (
        zipped(b"\x80\x02(" + b"]" * 60_000_000 + b"l.", deflate=True), "parts are more than",
    ),
    "a deflated storage": (
        zipped(b"\x80\x02" + tensor(10**7, *THREE) + b".", deflate=True, _0=bytes(4 * 10**7)),
        "parts are more than",
    ),
    "bytes that are not there": (zipped(b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x."), "expected"),
    "a frame that is not there": (
        zipped(b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N."), "holds no tensor",
    ),
    "lists within lists": (zipped(b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b"."), "holds no tensor"),
    "names without end": (
        zipped(b"\x80\x02(" + "".join(f"cm\nn{n}\n" for n in range(300_000)).encode() + b"l."),
        "holds no tensor",
    ),
    "an extension": (zipped(b"\x80\x02\x82\x01."), "a step EXT1"),
    "a buffer outside": (zipped(b"\x80\x05\x97."), "a step NEXT_BUFFER"),
    "a call of a tensor": (
        zipped(b"\x80\x02" + tensor(1, *ONE) + b")R.", _0=bytes(4)), "it calls a Tensor",
    ),
    "more taken than put": (zipped(b"\x80\x02K\x01\x86."), "more than it has put"),
    "a header of safetensors that is longer than its file": (struct.pack("<Q", 2**40) + b"{}", "eader"),
    "tensors of safetensors that overlap": (
        (lambda header: struct.pack("<Q", len(header)) + header + bytes(4))(
            json.dumps({n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"}).encode()
        ),
        "nvalid",
    ),
    "shapes of safetensors that are too large": (
        (lambda header: struct.pack("<Q", len(header)) + header + bytes(4))(
            json.dumps({"a": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 4]}}).encode()
        ),
        "a",
    ),
}  # fmt: skip

CHILD = """
import resource, sys, time
from pathlib import Path
from hilum.errors import WeightsError
from hilum.models.foreign import read_foreign
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (4 << 30),) * 2)
for path in sorted(Path(sys.argv[1]).iterdir()):
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    try:
        said = repr(read_foreign(path).stubs)
    except WeightsError as error:
        said = f"refused: {error}"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(path.stem, grown // 1024, round(time.monotonic() - began), said, sep="\\t", flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux reports it")
def test_a_file_made_to_harm_takes_little_and_gives_one_line(tmp_path):
    for place, (content, _) in enumerate(BOMBS.values()):
        (tmp_path / f"{place:03}.pth").write_bytes(content)
    ran = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)], capture_output=True, text=True, timeout=300, check=False
    )
    lines = ran.stdout.splitlines()
    assert len(lines) == len(BOMBS), ran.stdout + ran.stderr
    for (name, (_, expected)), line in zip(BOMBS.items(), lines, strict=True):
        place, grown, seconds, said = line.split("\t")
        assert said.startswith("refused: "), (name, line)
        assert expected in said, (name, line)
        assert "MemoryError" not in said, (name, line)
        assert int(grown) < 400, (name, line)
        assert int(seconds) < 30, (name, line)


def test_what_a_pickle_sets_reaches_nothing_of_ours(tmp_path):
    enlarging = (
        b"(" + storage(4) + b"K\x00" + number(10**6) + b"\x85K\x01\x85tb"
    )  # as Tensor.__setstate__ has it
    defaults = b"ctorch._utils\n_rebuild_tensor_v2\n(N}" + text("__defaults__") + b"K\x07\x85stb0"
    items = call("collections.OrderedDict") + b"}" + text("items") + b"K\x01sb"
    content = (
        b"\x80\x02" + defaults + items + text("x") + tensor(4, b"K\x04\x85", b"K\x01\x85") + enlarging + b"s."
    )
    (tmp_path / "x.pth").write_bytes(zipped(content, _0=np.arange(4, dtype="<f4").tobytes()))
    found = read_foreign(tmp_path / "x.pth").tensors
    assert {name: one.tolist() for name, one in found.items()} == {"x": [0, 1, 2, 3]}
    assert not torch_files._tensor.__defaults__


def test_keyword_arguments_are_kept_and_looked_through(tmp_path):
    content = b"\x80\x02cmy\nThing\n)}" + text("w") + tensor(1, b"K\x01\x85", b"K\x01\x85") + b"s\x92."
    (tmp_path / "x.pth").write_bytes(zipped(content, _0=np.float32(7).tobytes()))
    found = read_foreign(tmp_path / "x.pth")
    assert (found.tensors["w"].item(), found.stubs) == (7, ("my.Thing",))


def test_every_step_of_a_pickle_is_known_or_refused():
    unknown = set()
    for step in pickletools.opcodes:
        machine = _Machine({}, lambda told: told, Budget(100), set())
        machine.stack = [[], {}, "a", "b"]
        machine.marks = [1]
        machine.memo = {0: 1}
        try:
            machine.do(step.name, 0 if step.arg and "int" in step.arg.name else "a b")
        except ValueError as error:
            unknown |= {step.name} if "a step" in str(error) else set()
        except (KeyError, TypeError):
            pass
    assert unknown == {"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_as_pickle_reads_them(protocol):
    value = {
        "numbers": [0, 1, -1, 255, 256, 65536, 2**31, -(2**40), 2**300, 1.5, float("inf")],
        "texts": ["", "ä", "\u4e2d" * 300, "a\nb"], "bytes": [b"", b"x" * 300], "truths": (True, False, None),
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)], 3: {"deep": {}}, ("a", 1): 2,
    }  # fmt: skip
    value["again"] = value["numbers"]
    names: set[str] = set()
    file = io.BytesIO(pickle.dumps(value, protocol) + b"rest")
    found = read_pickle(file, known={}, refer=id, budget=Budget(10_000), names=names)
    if protocol < 3:  # it has no bytes, and writes a call that makes them of a text
        kept = found.pop("bytes")
        assert [one.args for one in kept] in (
            [(), ("x" * 300, "latin1")],
            [("", "latin1"), ("x" * 300, "latin1")],
        )
        value.pop("bytes")
    assert found == value
    assert found["again"] is found["numbers"]
    assert file.read() == b"rest"


class Precision(enum.Enum):
    HALF = "16"


def test_a_checkpoint_of_lightning_opens(tmp_path):
    omegaconf = pytest.importorskip("omegaconf")
    lightning = pytest.importorskip("pytorch_lightning")
    parsing = pytest.importorskip("pytorch_lightning.utilities.parsing")
    weights = {
        "model.conv1.weight": torch.randn(4, 3, 2, 2),
        "model.bn1.num_batches_tracked": torch.tensor(3),
    }
    content = {
        "epoch": 5, "pytorch-lightning_version": "1.1.4", "state_dict": collections.OrderedDict(weights),
        "callbacks": {lightning.callbacks.ModelCheckpoint: {"best_model_score": torch.tensor(0.8)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [np.float64(0.1)]}],
        "lr_schedulers": [{"milestones": collections.Counter([30]), "last": collections.defaultdict(list)}],
        "hyper_parameters": parsing.AttributeDict(lr=0.1, cfg=omegaconf.OmegaConf.create({"depth": 50})),
        "hparams_name": "kwargs", "args": argparse.Namespace(arch="resnet50"), "auc": np.float32(0.9),
        "curve": np.arange(5), "precision": Precision.HALF, "modes": {Precision.HALF: 1},
    }  # fmt: skip
    for how in ({}, LEGACY):
        torch.save(content, tmp_path / "x.ckpt", **how)
        found = read_foreign(tmp_path / "x.ckpt")
        for name, tensor in weights.items():
            assert torch.equal(found.tensors[f"state_dict.{name}"], tensor)
        assert len(found.tensors) == 4
        facts = found.facts
        assert (facts["epoch"], facts["args.arch"], facts["hyper_parameters.lr"]) == (5, "resnet50", 0.1)
        assert not any(name.startswith(("auc", "curve")) for name in facts)
        assert "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint" in found.stubs
        assert "omegaconf.dictconfig.DictConfig" in found.stubs


class Tagged(torch.nn.Module):
    """With a parameter that has an attribute, and one that is of a class of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(3.0))
        self.weight.no_decay = True
        self.register_buffer("mean", torch.ones(2))
        self.shared = self.first = torch.nn.Linear(2, 2)


def averaged() -> torch.nn.Module:
    return torch.optim.swa_utils.AveragedModel(timm.create_model("test_resnet", num_classes=0))


def moving() -> torch.nn.Module:
    return timm.utils.ModelEmaV3(timm.create_model("test_vit", num_classes=0))


@pytest.mark.parametrize("how", [{}, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("make", [Tagged, averaged, moving])
def test_whole_modules_and_their_moving_averages_open(make, how, tmp_path):
    torch.manual_seed(0)
    module = make()
    torch.save(module, tmp_path / "x.pt", **how)
    found = read_foreign(tmp_path / "x.pt").tensors
    own = module.state_dict()
    assert set(found) == set(own)
    assert all(torch.equal(found[name], tensor) for name, tensor in own.items())


def test_files_of_torch_0_3_open(tmp_path):
    """Written by hand as Python 2 and torch 0.3 did; torch itself says what is in them."""
    first = call(
        "torch._utils._rebuild_tensor",
        b"(" + storage(6)[1:-2] + b"NtQ",
        b"K\x00",
        b"K\x02K\x03\x86",
        b"K\x03K\x01\x86",
    )
    pairs = b"](]" + b"(" + b"U\x0bconv.weight" + first + b"e]" + b"(" + b"U\x05epoch" + b"K\x07ee"
    ordered = call("collections.OrderedDict", pairs)
    content = legacy(b"\x80\x02}U\nstate_dict" + ordered + b"s.", ["0"])
    content += struct.pack("<q", 6) + np.arange(6, dtype="<f4").tobytes()
    (tmp_path / "x.pth.tar").write_bytes(content)
    expected = torch.load(tmp_path / "x.pth.tar", weights_only=False)["state_dict"]
    found = read_foreign(tmp_path / "x.pth.tar")
    assert list(found.tensors) == ["state_dict.conv.weight"]
    assert torch.equal(found.tensors["state_dict.conv.weight"], expected["conv.weight"])
    assert found.facts == {"state_dict.epoch": expected["epoch"]}


@pytest.mark.parametrize("built", ["called", "state"])
def test_parameters_of_torch_0_3_are_their_tensors(built, tmp_path):
    data = tensor(2, b"K\x02\x85", b"K\x01\x85")
    made = call("torch.nn.parameter.Parameter", data) + b"\x88\x89N\x87b"
    if built == "state":  # (data, gradient, hooks, requires_grad, volatile)
        made = b"ctorch.nn.parameter\nParameter\n)\x81(" + data + b"NN\x88\x89tb"
    module = b"cmy\nNet\n)\x81}" + text("_parameters") + b"}" + text("w") + made + b"ssb"
    (tmp_path / "x.pth").write_bytes(zipped(b"\x80\x02" + module + b".", _0=np.float32([3, 4]).tobytes()))
    assert {n: t.tolist() for n, t in read_foreign(tmp_path / "x.pth").tensors.items()} == {"w": [3, 4]}


def test_a_tensor_with_attributes_is_read(tmp_path):
    tagged = torch.arange(4.0)
    tagged.origin = "film"
    torch.save({"x": tagged}, tmp_path / "x.pt")
    assert torch.equal(read_foreign(tmp_path / "x.pt").tensors["x"], tagged)


@pytest.mark.filterwarnings("ignore")
def test_tensors_of_other_kinds_are_named_and_not_read(tmp_path):
    content = {
        "x": torch.ones(2),
        "sparse": torch.eye(3).to_sparse(),
        "quantised": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "meta": torch.empty(2, device="meta"),
    }
    torch.save(content, tmp_path / "x.pt")
    found = read_foreign(tmp_path / "x.pt")
    assert torch.equal(found.tensors["x"], content["x"])
    assert {"torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_qtensor"} <= set(found.stubs)


def test_two_keys_that_read_alike_are_both_kept(tmp_path):
    torch.save({1: torch.ones(1), "1": torch.zeros(1)}, tmp_path / "x.pt")
    assert sorted(t.item() for t in read_foreign(tmp_path / "x.pt").tensors.values()) == [0, 1]


def test_safetensors_are_known_without_their_ending(tmp_path):
    safetensors.torch.save_file({"x": torch.ones(2)}, tmp_path / "model.bin")
    assert torch.equal(read_foreign(tmp_path / "model.bin").tensors["x"], torch.ones(2))


def test_what_is_often_in_the_place_of_weights_is_said(tmp_path):
    (tmp_path / "x.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(WeightsError, match="pointer of Git LFS"):
        read_foreign(tmp_path / "x.pth")
    (tmp_path / "x.pth").write_bytes(b"\x1f\x8b\x08" + bytes(20))
    with pytest.raises(WeightsError, match="an archive: unpack it"):
        read_foreign(tmp_path / "x.pth")


def test_a_link_is_followed_and_a_broken_one_is_none(tmp_path):
    torch.save({"x": torch.ones(1)}, tmp_path / "x.pt")
    (tmp_path / "link.pt").symlink_to(tmp_path / "x.pt")
    assert list(read_foreign(tmp_path / "link.pt").tensors) == ["x"]
    (tmp_path / "x.pt").unlink()
    with pytest.raises(Exception, match=r"link\.pt: no such file"):
        read_foreign(Path(tmp_path / "link.pt"))


def test_a_stub_shows_its_name_alone():
    assert str(Stub("enum.Mode", ("16",))) == "enum.Mode"
