"""What torch.save writes, read without torch.load: a zip archive since torch 1.6, pickles in a row before.

What a file may take of memory is bounded by its size, by the limits below: whatever it declares is compared
with the bytes that are there, before anything is made.
"""

import io
import math
import zipfile
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

from hilum.models.inert import Budget, Stub, read_pickle

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
STEPS = 1_000_000
"""Of pickles and of the walk through what they hold, and one more for every 16 bytes of the file."""
INFLATED = 4
"""Times the size of its archive that parts may have together; torch does not compress."""
VIEWED = 16
"""Times the size of the file that all tensors may have together: several may be of one storage."""
SLACK = 16 << 20
"""Bytes that are let pass whatever the size of a file."""


class Limits:
    """What a file of some size may cost."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.steps = Budget(STEPS + size // 16)
        self.parts = Budget(INFLATED * size + SLACK, f"its parts are more than {INFLATED} times its size")
        self.views = Budget(VIEWED * size + SLACK, f"its tensors are more than {VIEWED} times its size")


def read_archive(archive: zipfile.ZipFile, stubs: set[str], limits: Limits) -> object:
    """What an archive holds; what else it names goes into `stubs`.

    Raises:
        ValueError: it is none of torch's, or reaches beyond what is there.
    """
    names = set(archive.namelist())
    pickled = next((name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"), None)
    if pickled is None:
        raise ValueError("the zip archive has no data.pkl, which torch writes")
    root = pickled.removesuffix("data.pkl")

    def read(name: str) -> bytes:
        limits.parts.spend(archive.getinfo(name).file_size)
        return archive.read(name)

    if f"{root}byteorder" in names and read(f"{root}byteorder") != b"little":
        raise ValueError("its numbers are big-endian")
    kept: dict[str, torch.UntypedStorage] = {}

    def storage(told: tuple[Any, ...]) -> "_Storage | Stub":
        kind, key = told[1], str(told[2])
        if not isinstance(kind, torch.dtype):  # of quantised numbers: left where it is
            return Stub(str(kind))
        if key not in kept:
            kept[key] = _untyped(read(f"{root}data/{key}"))
        return _Storage(kept[key], kind)

    return _unpickled(io.BytesIO(read(pickled)), stubs, limits, storage)


def read_legacy(file: BinaryIO, stubs: set[str], limits: Limits) -> object:
    """What pickles one after the other hold, and after them the bytes of all storages.

    Raises:
        ValueError: they are none of torch's, or reach beyond what is there.
    """
    if _unpickled(file, stubs, limits) != _LEGACY_MAGIC:
        raise ValueError("it is a plain pickle and not what torch saves")
    _unpickled(file, stubs, limits)  # the version
    system = _unpickled(file, stubs, limits)
    if isinstance(system, dict) and not system.get("little_endian", True):
        raise ValueError("its numbers are big-endian")
    promised: dict[str, tuple[torch.UntypedStorage, int]] = {}
    there = Budget(limits.size, "a storage is cut off: there are fewer bytes than it is said to have")

    def storage(told: tuple[Any, ...]) -> "_Storage":
        kind, key, count = told[1], str(told[2]), told[4]
        dtype = _dtype(kind)
        if key not in promised:
            if not isinstance(count, int) or count < 0:
                raise ValueError(f"a storage of {count!r} numbers")
            there.spend(count * dtype.itemsize)
            promised[key] = _empty(count * dtype.itemsize), dtype.itemsize
        if len(told) > 5 and told[5] is not None:
            raise ValueError("it has views of storages, which only torch before 0.4 wrote")
        return _Storage(promised[key][0], dtype)

    content = _unpickled(file, stubs, limits, storage)
    keys = _unpickled(file, stubs, limits)
    if not isinstance(keys, list) or set(map(str, keys)) != set(promised):
        raise ValueError("its list of storages is not what its tensors need")
    for key in keys:
        target, size = promised[str(key)]
        count = int.from_bytes(file.read(8), "little")
        if count * size != target.nbytes():
            raise ValueError("a storage is cut off")
        read = file.read(count * size)
        if len(read) != count * size:
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


_DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool, "UntypedStorage": torch.uint8, "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}  # fmt: skip
_CONSTANTS: dict[str, object] = {
    **{f"torch.{name}": dtype for name, dtype in _DTYPES.items()},
    **{f"torch.storage.{name}": dtype for name, dtype in _DTYPES.items()},
    **{f"torch.{name}": dtype for name, dtype in vars(torch).items() if isinstance(dtype, torch.dtype)},
}


def _unpickled(
    file: BinaryIO,
    stubs: set[str],
    limits: Limits,
    storage: Any = None,
) -> object:
    """One pickle, with dtypes and our own functions in the place of torch's; all that it may call."""

    def refer(told: object) -> object:
        if isinstance(told, tuple) and len(told) > 1 and told[0] == "module":
            return told[1]  # old files have the source of a class beside it, which nobody reads here
        if storage is None or not isinstance(told, tuple) or len(told) < 5 or told[0] != "storage":
            raise ValueError("it refers to something outside of it")
        return storage(told)

    def tensor(store: Any, offset: Any, size: Any, stride: Any, *_: object) -> Tensor:
        return _tensor(store, offset, size, stride, limits.views)

    def tensor_of(
        store: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, *more: Any
    ) -> Tensor:
        return _tensor(_Storage(store.untyped, _dtype(more[0])), offset, size, stride, limits.views)

    known: dict[str, object] = {
        **_CONSTANTS,
        "collections.OrderedDict": _ordered,
        "torch.Size": _size,
        "torch._utils._rebuild_tensor": tensor,
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_tensor_v3": tensor_of,
        "torch._utils._rebuild_parameter": _first,
        "torch._utils._rebuild_parameter_with_state": _first,
        "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first,
        "torch._tensor._rebuild_from_type_v2": _of_type,
        "torch.nn.parameter.Parameter": _first,
        "torch.autograd.variable.Variable": _first,
    }
    return read_pickle(file, known=known, refer=refer, budget=limits.steps, names=stubs)


def _tensor(store: Any, offset: Any, size: Any, stride: Any, views: Budget) -> Tensor:
    numbers = [offset, *size, *stride] if isinstance(size, tuple) and isinstance(stride, tuple) else [None]
    if not isinstance(store, _Storage) or not all(isinstance(n, int) and 0 <= n < 2**63 for n in numbers):
        raise ValueError("a tensor without a storage, a size and strides")
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    if 0 not in size and last >= store.untyped.nbytes() // store.dtype.itemsize:
        raise ValueError("a tensor reaches beyond its storage")  # torch would enlarge it with what is there
    views.spend(math.prod(size) * store.dtype.itemsize)  # a stride of 0 makes much of little when copied
    typed = torch.empty(0, dtype=store.dtype)
    return typed.set_(store.untyped, offset, torch.Size(size), stride)


def _ordered(items: object = ()) -> dict[object, object]:
    """What Python 2 made of pairs, and Python 3 fills afterwards."""
    if isinstance(items, dict):
        return dict(items)
    if not isinstance(items, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and not isinstance(pair[0], tuple) for pair in items
    ):
        raise ValueError("an OrderedDict of what are no pairs")
    return {pair[0]: pair[1] for pair in items}


def _size(size: object = ()) -> tuple[int, ...]:
    if not isinstance(size, list | tuple) or not all(isinstance(count, int) for count in size):
        raise ValueError("a size of what are no numbers")
    return tuple(size)


def _first(tensor: object = None, *_: object) -> object:
    """The tensor that a parameter is made of."""
    return tensor if isinstance(tensor, Tensor) else Stub("torch.nn.parameter.Parameter", (tensor,))


def _of_type(function: object, kind: object, args: object, *_: object) -> object:
    """A tensor with attributes of its own; they are not wanted."""
    if not callable(function) or not isinstance(args, tuple):
        return Stub("torch._tensor._rebuild_from_type_v2", (function, kind, args))
    return function(*args)
