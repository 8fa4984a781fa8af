"""Other people's weights files, read without running anything that is in them.

A file that torch saved is a pickle, which can name any function to be called when it is read. Here it is read
by `inert`: only what rebuilds tensors and plain containers is called, from a list of our own; everything else
that a file names becomes an inert `Stub`, whose items, attributes and arguments are looked through for
tensors. So files with Namespaces, OmegaConf, optimisers or whole modules give up their tensors, and no code
of theirs runs.
"""

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from hilum.errors import MissingError, WeightsError
from hilum.models.inert import Budget, Stub
from hilum.models.torch_files import Limits, read_archive, read_legacy

DEEPEST = 64
"""Containers within containers that are looked through for tensors."""
LONGEST = 1000
"""Characters of the keys that lead to a value."""


@dataclass(frozen=True)
class ForeignFile:
    """What a weights file of another library holds."""

    path: Path
    tensors: Mapping[str, Tensor]
    """By the keys that lead to them, joined by dots: `state_dict.module.conv1.weight`."""
    facts: Mapping[str, str | int | float | bool]
    """Plain values, by the keys that lead to them: `arch`, `epoch`."""
    stubs: tuple[str, ...]
    """What else the file names, and was not imported: `argparse.Namespace`."""


def read_foreign(path: Path) -> ForeignFile:
    """The tensors and plain values of a .safetensors, .pt, .pth, .ckpt, .bin or .tar file.

    Raises:
        MissingError: there is no such file.
        WeightsError: it is damaged, of no known format, or holds no tensor.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path}: no such file")
    stubs: set[str] = set()
    tensors: dict[str, Tensor] = {}
    facts: dict[str, str | int | float | bool] = {}
    try:
        limits = Limits(path.stat().st_size)
        for name, value in _leaves(_content(path, stubs, limits), "", 0, set(), limits.steps):
            if not isinstance(value, Tensor):
                facts[name] = value
            elif tensors.setdefault(name, value) is not value:
                tensors[f"{name}#{len(tensors)}"] = value  # 1 and "1" are two keys, and one name
    except (safetensors.SafetensorError, zipfile.BadZipFile, OSError, RuntimeError, EOFError, ValueError,
            TypeError, LookupError, MemoryError, OverflowError) as error:  # fmt: skip
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path}: not readable as weights: {said}; is the download whole?") from None
    if not tensors:
        raise WeightsError(f"{path}: holds no tensor ({len(facts)} plain values); is it the weights file?")
    return ForeignFile(path, tensors, facts, tuple(sorted(stubs)))


def _content(path: Path, stubs: set[str], limits: Limits) -> object:
    with path.open("rb") as file:
        head = file.read(512)
        file.seek(0)
        if path.suffix == ".safetensors" or head[8:9] == b"{":
            return safetensors.torch.load_file(path)
        if head.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(file) as archive:
                return read_archive(archive, stubs, limits)
        if head.startswith(b"\x80"):
            return read_legacy(file, stubs, limits)
    raise ValueError(f"it is {_kind(head)}")


def _kind(head: bytes) -> str:
    """What a file that is no weights file is, by its beginning."""
    if not head:
        return "empty"
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS and not the file itself, which `git lfs pull` gets"
    said = "neither safetensors nor what torch saves"
    if head.startswith(b"\x89HDF"):
        return f"{said}, but HDF5, as Keras writes"
    if head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar":
        return f"{said}, but an archive: unpack it"
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head[:64]):
        begin = head[:64].decode().strip().partition("\n")[0][:40]
        return f"{said}, but text that begins with {begin!r}, as a page to log in does"
    return said


def _leaves(
    content: object, at: str, depth: int, above: set[int], budget: Budget
) -> Iterator[tuple[str, Any]]:
    """Tensors and plain values with the keys that lead to them; each step costs, as containers are shared."""
    budget.spend(1 + len(at) // 64)
    if isinstance(content, Tensor | str | int | float | bool):
        yield at, content
        return
    if depth > DEEPEST or id(content) in above:
        return
    for key, value in _inside(content):
        name = key if not at else at if not key else f"{at}.{key}"
        if len(name) > LONGEST:
            raise ValueError(f"the keys that lead to a value are longer than {LONGEST} characters")
        yield from _leaves(value, name, depth + 1, above | {id(content)}, budget)


def _inside(content: object) -> Iterator[tuple[str, object]]:
    if isinstance(content, dict):
        yield from ((_label(key), value) for key, value in content.items())
    elif isinstance(content, list | tuple):
        yield from ((str(place), value) for place, value in enumerate(content))
    elif isinstance(content, Stub):
        yield from _in_stub(content)


def _in_stub(stub: Stub) -> Iterator[tuple[str, object]]:
    parts = ("_parameters", "_buffers", "_modules")
    if isinstance(stub.state, dict) and any(part in stub.state for part in parts):  # a whole module
        yield from (("", stub.state.get(part) or {}) for part in parts)
        return
    if stub.name.rpartition(".")[2] in ("Parameter", "Variable"):  # before torch 0.4, in its state
        told = (*stub.args, *(stub.state if isinstance(stub.state, tuple) else ()))
        yield from (("", part) for part in told if isinstance(part, Tensor))
        return
    if stub.name.startswith("numpy."):  # no tensor is in its numbers, and what else is there is its layout
        return
    yield from ((str(place), arg) for place, arg in enumerate(stub.args) if _holds(arg))
    yield from ((_label(key), value) for key, value in stub.items)
    if stub.state is not None:
        yield "", stub.state


def _holds(arg: object) -> bool:
    """Whether there could be tensors in an argument."""
    return isinstance(arg, Tensor | Stub | dict | list | tuple)


def _label(key: object) -> str:
    return "tensor" if isinstance(key, Tensor) else str(key)
