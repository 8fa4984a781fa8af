"""Typed settings: one flat, frozen object per command, the same from flags, YAML, Python and the web."""

import ast
import itertools
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePath
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from hilum.errors import ConfigError, MissingError
from hilum.find import did_you_mean


class Config(BaseModel):
    """Base of all settings: frozen, nothing unknown, every field documented by the string under it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, given: Any) -> Any:
        """What Python has that words have not: a path where text is expected, one value where a list is."""
        if not isinstance(given, Mapping):
            return given
        return {
            name: _as_field(value, cls.model_fields[name].annotation) if name in cls.model_fields else value
            for name, value in given.items()
        }

    @classmethod
    def build(cls, values: Mapping[str, Any], where: str) -> Self:
        """Validates settings once; every error is in the one message.

        Raises:
            ConfigError: any setting is unknown, missing or invalid.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigError("\n".join(_sentence(cls, one, where) for one in error.errors())) from None

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The default of every field that has one."""
        return {name: f.get_default() for name, f in cls.model_fields.items() if not f.is_required()}

    def to_yaml(self) -> str:
        """The complete settings, as `--config` reads them back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


@cache
def settings_in(source: Path, name: str = "Settings") -> type[Config]:
    """The settings that a file defines, made once and without running the rest of it.

    This is how `--help` shows a command's or a method's settings without importing torch: the class and the
    imports from `hilum.config`, `typing`, `pydantic` and `pathlib` are all that is executed.

    Raises:
        ConfigError: the file has no class of that name.
    """
    tree = ast.parse(source.read_text(encoding="utf-8"), filename=str(source))
    light = {"hilum.config", "typing", "pydantic", "pathlib"}
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module in light]
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    if not classes:
        raise ConfigError(
            f"{source}: no class {name}; what a command or a method can be told is a class of that name"
        )
    scope: dict[str, Any] = {"__name__": f"{__name__}.{source.stem}"}
    exec(compile(ast.Module([*imports, *classes], []), str(source), "exec"), scope)
    found: type[Config] = scope[name]
    for field, text in itertools.pairwise(classes[0].body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            assert isinstance(field.target, ast.Name)
            found.model_fields[field.target.id].description = str(text.value.value)
    return found


@cache
def joined(name: str, *parts: type[Config]) -> type[Config]:
    """One settings class with the fields of several, those of the first first."""
    return type(name, tuple(reversed(parts)), {"__module__": __name__, "__doc__": parts[0].__doc__})


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings of a YAML file.

    Raises:
        MissingError: there is no such file.
        ConfigError: it is not a flat mapping of settings.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise MissingError(f"{path}: no such settings file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path}: found {type(content).__name__}; expected lines of `setting: value`")
    return {key.replace("-", "_"): value for key, value in content.items()}


def flag(name: str) -> str:
    """The command-line spelling of a setting.

    >>> flag("batch_size")
    '--batch-size'
    """
    return "--" + name.replace("_", "-")


def _as_field(value: Any, annotation: Any) -> Any:
    if typing.get_origin(annotation) is list:
        (inner,) = typing.get_args(annotation)
        values = [value] if isinstance(value, str | int | float | PurePath) else value
        return [_as_field(one, inner) for one in values] if isinstance(values, list | tuple) else values
    return str(value) if annotation is str and isinstance(value, PurePath) else value


def _sentence(cls: type[Config], error: Any, where: str) -> str:
    name = ".".join(str(part) for part in error["loc"])
    known = list(cls.model_fields)
    if error["type"] == "extra_forbidden":
        return f"{where}: there is no setting {name!r}{did_you_mean(name, known)}"
    if error["type"] == "missing":
        return f"{where}: {flag(name)} is needed: {cls.model_fields[name].description}"
    message = error["msg"].removeprefix("Value error, ")
    if not name:
        return f"{where}: {message}"
    field = cls.model_fields.get(name.split(".")[0])
    choices = (
        typing.get_args(field.annotation) if field and typing.get_origin(field.annotation) is Literal else ()
    )
    near = did_you_mean(str(error["input"]), map(str, choices)) if choices else ""
    return f"{where}: {flag(name)} is {error['input']!r}; {message[:1].lower() + message[1:]}{near}"
