"""Other people's weights files, read without running anything that is in them.

A file that torch saved is a pickle, which can name any function to be called when it is read. Here only what
rebuilds tensors and plain containers is called, from a list of our own; everything else that a file names
becomes an inert `Stub`, whose arguments and attributes are kept and looked through for tensors. So files with
Namespaces, OmegaConf, optimisers or whole modules give up their tensors, and no code of theirs runs.
"""

import collections
import io
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from hilum.errors import MissingError, WeightsError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
DEEPEST = 64
"""Containers within containers that are looked through for tensors."""


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


class Stub:
    """Stands for an object of a class that was not imported: what it was built from, and its attributes."""

    hilum_name = ""

    def __new__(cls, *args: object, **kwargs: object) -> "Stub":
        """Keeps the arguments; calls nothing."""
        made = super().__new__(cls)
        made.__dict__["hilum_args"] = args
        made.__dict__["hilum_items"] = []
        made.__dict__["hilum_state"] = None
        return made

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Nothing."""

    def __setstate__(self, state: object) -> None:
        """Keeps the state."""
        self.__dict__["hilum_state"] = state

    def __setitem__(self, key: object, value: object) -> None:
        """Keeps an item of what was a mapping."""
        self.__dict__["hilum_items"].append((key, value))

    def append(self, value: object) -> None:
        """Keeps an item of what was a list."""
        self.__dict__["hilum_items"].append((len(self.__dict__["hilum_items"]), value))

    def extend(self, values: list[object]) -> None:
        """Keeps items of what was a list."""
        for value in values:
            self.append(value)

    def __hash__(self) -> int:
        """As any object's, so that it may be a key."""
        return id(self)


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
    try:
        content = _content(path, stubs)
    except (safetensors.SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError,
            IndexError, AttributeError, pickle.UnpicklingError, zipfile.BadZipFile, MemoryError,
            RecursionError, OverflowError, UnicodeDecodeError, NotImplementedError) as error:  # fmt: skip
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path}: not readable as weights: {said}; is the download whole?") from None
    tensors: dict[str, Tensor] = {}
    facts: dict[str, str | int | float | bool] = {}
    for name, value in _leaves(content, "", 0, set()):
        if isinstance(value, Tensor):
            tensors[name] = value
        else:
            facts[name] = value
    if not tensors:
        raise WeightsError(f"{path}: holds no tensor ({len(facts)} plain values); is it the weights file?")
    return ForeignFile(path, tensors, facts, tuple(sorted(stubs)))


def _content(path: Path, stubs: set[str]) -> object:
    with path.open("rb") as file:
        head = file.read(64)
        file.seek(0)
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        if head.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(file) as archive:
                return _zipped(archive, stubs)
        if head.startswith(b"\x80"):
            return _legacy(file, stubs)
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
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        begin = head.decode().strip().partition("\n")[0][:40]
        return f"{said}, but text that begins with {begin!r}, as a page to log in does"
    return said


def _zipped(archive: zipfile.ZipFile, stubs: set[str]) -> object:
    names = archive.namelist()
    pickled = next((name for name in names if name.endswith("/data.pkl") or name == "data.pkl"), None)
    if pickled is None:
        raise ValueError("the zip archive has no data.pkl, which torch writes")
    root = pickled.removesuffix("data.pkl")
    order = f"{root}byteorder"
    if order in names and archive.read(order) != b"little":
        raise ValueError("its numbers are big-endian")
    kept: dict[str, torch.UntypedStorage] = {}

    def storage(told: tuple[Any, ...]) -> "_Storage":
        kind, key = told[1], str(told[2])
        if key not in kept:
            content = archive.read(f"{root}data/{key}")
            kept[key] = _untyped(content)
        return _Storage(kept[key], _dtype(kind))

    return _Unpickler(io.BytesIO(archive.read(pickled)), stubs, storage).load()


def _legacy(file: BinaryIO, stubs: set[str]) -> object:
    """What torch wrote before 1.6: pickles one after the other, then the bytes of all storages."""
    first = _Unpickler(file, stubs, None).load()
    if first != _LEGACY_MAGIC:
        raise ValueError("it is a plain pickle and not what torch saves")
    for _ in ("version", "system"):
        _Unpickler(file, stubs, None).load()
    promised: dict[str, tuple[torch.UntypedStorage, int]] = {}

    def storage(told: tuple[Any, ...]) -> "_Storage":
        kind, key, count = told[1], str(told[2]), int(told[4])
        dtype = _dtype(kind)
        if key not in promised:
            promised[key] = _empty(count * dtype.itemsize), dtype.itemsize
        if len(told) > 5 and told[5] is not None:
            raise ValueError("it has views of storages, which only torch before 0.4 wrote")
        return _Storage(promised[key][0], dtype)

    content = _Unpickler(file, stubs, storage).load()
    for key in _Unpickler(file, stubs, None).load():
        (count,) = memoryview(file.read(8)).cast("q")
        target, size = promised[str(key)]
        read = file.read(count * size)
        if count * size != target.nbytes() or len(read) != count * size:
            raise ValueError("a storage is cut off")
        target.copy_(_untyped(read))
    return content


@dataclass(frozen=True)
class _Storage:
    untyped: torch.UntypedStorage
    dtype: torch.dtype


def _untyped(content: bytes) -> torch.UntypedStorage:
    if not content:
        return _empty(0)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).untyped_storage()


def _empty(size: int) -> torch.UntypedStorage:
    return torch.empty(size, dtype=torch.uint8).untyped_storage()


def _dtype(kind: object) -> torch.dtype:
    if isinstance(kind, torch.dtype):
        return kind
    raise ValueError(f"a storage of {kind!r}")


def _tensor(
    storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (
        0 not in size and last >= storage.untyped.nbytes() // storage.dtype.itemsize
    ):
        raise ValueError("a tensor reaches beyond its storage")  # torch would enlarge it with what is there
    typed = torch.empty(0, dtype=storage.dtype)
    return typed.set_(storage.untyped, offset, torch.Size(size), stride)


def _tensor_of(
    storage: _Storage,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    grad: object,
    hooks: object,
    dtype: torch.dtype,
    *_: object,
) -> Tensor:
    return _tensor(_Storage(storage.untyped, dtype), offset, size, stride)


def _parameter(tensor: Tensor, *_: object) -> Tensor:
    return tensor


_DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool, "UntypedStorage": torch.uint8,
}  # fmt: skip

_SAFE: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch", "Size"): tuple,
    **{("torch", name): dtype for name, dtype in _DTYPES.items()},
    **{("torch.storage", name): dtype for name, dtype in _DTYPES.items()},
    **{
        ("torch", str(dtype).removeprefix("torch.")): dtype
        for dtype in (*_DTYPES.values(), torch.complex64, torch.complex128)
    },
}
"""All that a file may name: containers, dtypes, and our own functions in the place of torch's."""


class _Unpickler(pickle.Unpickler):
    def __init__(
        self, file: BinaryIO, stubs: set[str], storage: Callable[[tuple[Any, ...]], _Storage] | None
    ) -> None:
        super().__init__(file, encoding="utf-8", errors="surrogateescape")
        self.stubs, self.storage = stubs, storage

    def find_class(self, module: str, name: str) -> Any:
        safe = _SAFE.get((module, name))
        if safe is not None:
            return safe
        self.stubs.add(f"{module}.{name}")
        return type("Stub", (Stub,), {"hilum_name": f"{module}.{name}"})

    def persistent_load(self, told: object) -> Any:
        if isinstance(told, tuple) and len(told) > 1 and told[0] == "module":
            return told[1]  # old files have the source of a class beside it, which nobody reads here
        if self.storage is None or not isinstance(told, tuple) or len(told) < 5 or told[0] != "storage":
            raise ValueError("it refers to something outside of it")
        return self.storage(told)


def _leaves(content: object, at: str, depth: int, above: set[int]) -> Iterator[tuple[str, Any]]:
    """Tensors and plain values with the keys that lead to them."""
    if isinstance(content, Tensor | str | int | float | bool):
        yield at, content
        return
    if depth > DEEPEST or id(content) in above:
        return
    for key, value in _inside(content):
        name = key if not at else at if not key else f"{at}.{key}"
        yield from _leaves(value, name, depth + 1, above | {id(content)})


def _inside(content: object) -> Iterator[tuple[str, object]]:
    if isinstance(content, Mapping):
        yield from ((str(key), value) for key, value in content.items())
    elif isinstance(content, list | tuple):
        yield from ((str(place), value) for place, value in enumerate(content))
    elif isinstance(content, Stub):
        yield from ((str(key), value) for key, value in content.__dict__["hilum_items"])
        state = content.__dict__["hilum_state"]
        parts = ("_parameters", "_buffers", "_modules")
        if isinstance(state, Mapping) and any(part in state for part in parts):  # a whole module
            for part in parts:
                yield "", state.get(part) or {}
        elif state is not None:
            yield "", state
