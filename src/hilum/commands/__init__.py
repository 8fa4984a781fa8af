"""One file per command: its settings (`Settings`), an example, and one function with the file's name.

This file finds them and runs them without importing any before it is used, so that `--help` stays quick.
"""

import ast
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from hilum import find
from hilum.config import Config, joined, settings_in

KINDS = {
    "method": "hilum.methods",
    "detector": "hilum.detectors",
    "source": "hilum.records.sources",
}
"""Where the files lie that a command's first word names, by the setting that takes it (`TAKES`)."""


def names() -> list[str]:
    """Every command, as it is typed.

    >>> "pretrain" in names() and "records check" in names() and "lr-range" in names()
    True
    """
    found = []
    for name in find.names(__name__):
        group = find.path(__name__, name).name == "__init__.py"
        found += [f"{name} {inner}" for inner in find.names(f"{__name__}.{name}")] if group else [name]
    return [name.replace("_", "-") for name in found]


def settings_of(name: str, chosen: str = "") -> type[Config]:
    """The settings of a command; those of one that takes a method or a detector include that one's own."""
    cls = settings_in(find.path(*_place(name)))
    package = KINDS.get(constant(name, "TAKES"))
    return joined("Settings", cls, settings_in(find.path(package, chosen))) if package and chosen else cls


def chosen_by(name: str, settings: Mapping[str, Any]) -> str:
    """The method or detector that settings of a command name; empty for commands that take none."""
    takes = constant(name, "TAKES")
    return str(settings.get(takes, "")) if takes in KINDS else ""


def described(package: str) -> dict[str, tuple[str, list[str]]]:
    """Every method or detector: what it is, and the lines that cite it, as its file says."""
    found = {}
    for name in find.names(package):
        text = ast.get_docstring(ast.parse(find.path(package, name).read_text(encoding="utf-8"))) or ""
        what, _, rest = text.partition("\n\n")
        found[name] = (what, rest.partition("\n\n")[0].splitlines())
    return found


def constant(name: str, which: str) -> str:
    """What a command's file says of itself: EXAMPLE, a line to copy; TAKES, the setting of bare words."""
    for node in ast.parse(find.path(*_place(name)).read_text(encoding="utf-8")).body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == which
        ):
            return str(ast.literal_eval(node.value))
    return ""


def call(name: str, config: Config) -> Any:
    """Runs a command's function: all that it needs is imported now."""
    package, module = _place(name)
    return getattr(import_module(f"{package}.{module}"), module)(config)


def function(name: str) -> Callable[..., Any]:
    """A command as a Python function: its first setting may go without a name, as on the command line."""
    takes = constant(name, "TAKES")

    def run(*first: Any, **settings: Any) -> Any:
        settings |= dict(zip([takes], first, strict=True)) if first else {}
        cls = settings_of(name, chosen_by(name, settings))
        return call(name, cls.build(settings, name))

    run.__name__ = run.__qualname__ = name.replace(" ", "_").replace("-", "_")
    run.__doc__ = settings_of(name).__doc__
    return run


def _place(name: str) -> tuple[str, str]:
    *group, last = name.replace("-", "_").split()
    return ".".join([__name__, *group]), last
