"""A pickle read as text is: what it names is written down, and nothing is imported or called.

Steps come one by one from the standard library's `pickletools`, which only reads them. What each does to the
stack is done here, so that a pickle reaches no method of any object: no `__setstate__`, `__reduce__`, hash of
nested tuples, registry of extensions. What it may call is a list of functions from the caller, by name;
anything else becomes a `Stub`. Each step and each copied item is charged to a `Budget`, so that what a short
file makes stays small. Python's own unpickler can be told neither.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
"""Steps that put the value that they come with."""
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass
class Budget:
    """What a file may still cost: steps and copied items, or bytes."""

    left: int
    said: str = "it makes far more objects than a file of its size has weights"
    """When it is used up."""

    def spend(self, count: int) -> None:
        """Takes from it.

        Raises:
            ValueError: it is used up.
        """
        self.left -= count
        if self.left < 0:
            raise ValueError(self.said)


@dataclass(frozen=True, repr=False)
class Name:
    """A class or function that a pickle names, not imported: `argparse.Namespace`."""

    text: str

    def __repr__(self) -> str:
        """As a key of a mapping is shown."""
        return self.text


@dataclass(eq=False, slots=True, repr=False)
class Stub:
    """Stands for an object whose class was not imported: what it would be built from."""

    name: str
    args: tuple[object, ...] = ()
    items: list[tuple[object, object]] = field(default_factory=list)
    """Of what was a mapping, or by their places of what was a list."""
    state: object = None
    """Its attributes: a mapping, or whatever its class made of them."""

    def __repr__(self) -> str:
        """As a key of a mapping is shown: without an address, and never with what is in it."""
        return self.name


def read_pickle(
    file: BinaryIO,
    *,
    known: Mapping[str, object],
    refer: Callable[[object], object],
    budget: Budget,
    names: set[str],
) -> object:
    """What one pickle holds; the file is left behind its last byte.

    Args:
        file: at the beginning of the pickle.
        known: what stands for a name; functions among it are called with the pickle's arguments.
        refer: gives what a persistent id stands for.
        budget: what it may cost.
        names: to which all other names are added.

    Raises:
        ValueError: it is cut off, or does what no pickle of weights does.
    """
    machine = _Machine(known, refer, budget, names)
    for step, told, _ in pickletools.genops(file):
        budget.spend(1)
        machine.do(step.name, told)
    return machine.stack.pop()


class _Machine:
    def __init__(
        self,
        known: Mapping[str, object],
        refer: Callable[[object], object],
        budget: Budget,
        names: set[str],
    ) -> None:
        self.known, self.refer, self.budget, self.names = known, refer, budget, names
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[object, object] = {}

    def do(self, step: str, told: object) -> None:
        stack = self.stack
        if step in _VALUES:
            stack.append(told)
        elif step in _CONSTANTS:
            stack.append(_CONSTANTS[step])
        elif step in _TUPLES:
            stack.append(tuple(self.last(_TUPLES[step])))
        else:
            match step:
                case "PROTO" | "FRAME" | "STOP":
                    pass
                case "MARK":
                    self.marks.append(len(stack))
                case "POP" if self.marks and self.marks[-1] == len(stack):
                    self.marks.pop()
                case "POP":
                    stack.pop()
                case "POP_MARK":
                    self.marked()
                case "DUP":
                    stack.append(stack[-1])
                case "PUT" | "BINPUT" | "LONG_BINPUT":
                    self.memo[told] = stack[-1]
                case "MEMOIZE":
                    self.memo[len(self.memo)] = stack[-1]
                case "GET" | "BINGET" | "LONG_BINGET":
                    stack.append(self.memo[told])
                case "EMPTY_LIST" | "EMPTY_SET":
                    stack.append([])  # a set's items need no hash here
                case "EMPTY_DICT":
                    stack.append({})
                case "LIST":
                    stack.append(self.marked())
                case "TUPLE" | "FROZENSET":
                    stack.append(tuple(self.marked()))
                case "DICT":
                    items = self.marked()
                    stack.append({})
                    self.set_items(items)
                case "APPEND":
                    self.append(self.last(1))
                case "APPENDS" | "ADDITEMS":
                    self.append(self.marked())
                case "SETITEM":
                    self.set_items(self.last(2))
                case "SETITEMS":
                    self.set_items(self.marked())
                case "GLOBAL":
                    stack.append(self.named(".".join(str(told).split(" ", 1))))
                case "STACK_GLOBAL":
                    stack.append(self.named(".".join(map(_text, self.last(2)))))
                case "INST":
                    made = self.named(".".join(str(told).split(" ", 1)))
                    stack.append(self.call(made, tuple(self.marked())))
                case "OBJ":
                    kind, *args = self.marked()
                    stack.append(self.call(kind, tuple(args)))
                case "REDUCE" | "NEWOBJ":
                    kind, given = self.last(2)
                    stack.append(self.call(kind, given))
                case "NEWOBJ_EX":
                    kind, given, more = self.last(3)
                    stack.append(self.call(kind, given, more))
                case "BUILD":
                    (state,) = self.last(1)
                    if isinstance(stack[-1], Stub):  # attributes of tensors and containers are not wanted
                        stack[-1].state = state
                case "PERSID" | "BINPERSID":
                    stack.append(self.refer(told if step == "PERSID" else stack.pop()))
                case _:
                    raise ValueError(f"it has a step {step}, which torch does not write")

    def last(self, count: int) -> list[object]:
        if len(self.stack) < count:
            raise ValueError("it takes more than it has put")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def marked(self) -> list[object]:
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def named(self, name: str) -> object:
        if name in self.known:
            return self.known[name]
        self.names.add(name)
        return Name(name)

    def call(self, kind: object, args: object, more: object = None) -> object:
        if not isinstance(args, tuple):
            raise ValueError("it calls something with what are no arguments")
        if isinstance(kind, Name | Stub):
            made = Stub(str(kind), args)
            if isinstance(more, dict):
                self.budget.spend(len(more))
                made.items.extend(more.items())
            return made
        if not callable(kind) or more:
            raise ValueError(f"it calls a {type(kind).__name__}")
        self.budget.spend(sum(len(arg) for arg in args if isinstance(arg, list | tuple | dict)))
        return kind(*args)

    def append(self, values: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(values)
        elif isinstance(target, Stub):
            target.items.extend(enumerate(values, len(target.items)))
        else:
            raise ValueError(f"it appends to a {type(target).__name__}")

    def set_items(self, flat: list[object]) -> None:
        target = self.stack[-1]
        items = list(zip(map(_key, flat[::2]), flat[1::2], strict=True))
        if isinstance(target, dict):
            target.update(items)
        elif isinstance(target, Stub):
            target.items.extend(items)
        else:
            raise ValueError(f"it sets items of a {type(target).__name__}")


def _text(part: object) -> str:
    if not isinstance(part, str):
        raise ValueError("it names something by what is no text")
    return part


def _key(key: object) -> object:
    """The same; the hash of tuples within tuples can take for ever."""
    if isinstance(key, tuple) and any(isinstance(part, tuple) for part in key):
        raise ValueError("a mapping has tuples of tuples as keys")
    return key
