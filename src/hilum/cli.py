"""Words on the command line → settings → one command's function; errors as a few lines and an exit code."""

import logging
import sys
import textwrap
import typing
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from hilum import commands, find
from hilum.config import Config, flag, read_yaml
from hilum.errors import ConfigError, HilumError

HELP = {"-h", "--help", "help"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    try:
        return _run(words)
    except HilumError as error:
        sys.stderr.write(f"hilum: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("hilum: stopped; what was written before stays\n")
        return 130


def command() -> None:
    """The console script."""
    sys.exit(main())


def _run(words: list[str]) -> int:
    if not words or words[0] in HELP:
        sys.stdout.write(overview())
        return 0
    if words[0] == "--version":
        sys.stdout.write(f"hilum {metadata.version('hilum')}\n")
        return 0
    name, rest = _command(words)
    takes = commands.constant(name, "TAKES")
    cls = commands.settings_of(name, _chosen(rest, takes) if takes in commands.KINDS else "")
    if HELP & set(rest):
        sys.stdout.write(usage(name, cls))
        return 0
    result = commands.call(name, cls.build(values(rest, cls, takes), name))
    if isinstance(result, Path):
        sys.stdout.write(f"{result}\n")
    return result if isinstance(result, int) else 0


def values(words: Sequence[str], cls: type[Config], takes: str) -> dict[str, Any]:
    """Settings from words: the `--config` file first, then flags over it.

    A flag takes the words up to the next one; bare words at the start are the setting that `takes` names.

    Raises:
        ConfigError: a flag is unknown, doubled or without a value; all such are in the message.
    """
    given: dict[str, list[str]] = {takes: []} if takes else {}
    at, wrong = takes, []
    known = [flag(name) for name in cls.model_fields]
    for word in words:
        if not word.startswith("--"):
            if at:
                given[at].append(word)
            else:
                wrong.append(f"{word!r} stands alone; expected a flag{find.did_you_mean('--' + word, known)}")
            continue
        name, equals, value = word[2:].partition("=")
        at = name.replace("-", "_")
        if given.get(at):
            wrong.append(f"--{name} is given twice")
        given[at] = [value] if equals else []
    settings: dict[str, Any] = {}
    for path in given.pop("config", []):
        settings |= read_yaml(Path(path))
    for name, found in given.items():
        on = not name.startswith("no_") or name in cls.model_fields
        field = cls.model_fields.get(name if on else name.removeprefix("no_"))
        if field is None:
            wrong.append(f"there is no flag {flag(name)}{find.did_you_mean(flag(name), known)}")
        elif found or name != takes:
            settings[name if on else name.removeprefix("no_")] = _value(name, found, field, on, wrong)
    if wrong:
        raise ConfigError("\n".join(wrong))
    return settings


def _value(name: str, found: list[str], field: FieldInfo, on: bool, wrong: list[str]) -> Any:
    kind = typing.get_origin(field.annotation) or field.annotation
    if kind is bool and not found:
        return on
    if kind is dict:
        pairs = [word.partition("=") for word in found]
        wrong += [
            f"{flag(name)}: {key!r} has no value; expected {key}=value"
            for key, equals, _ in pairs
            if not equals
        ]
        return {key: value for key, _, value in pairs}
    if kind is list:
        return found
    if len(found) != 1:
        wrong.append(f"{flag(name)} takes one value, found {len(found)}: {' '.join(found) or 'none'}")
        return None
    if kind is typing.Literal:  # a number among the choices is one, not its word
        return {str(choice): choice for choice in typing.get_args(field.annotation)}.get(found[0], found[0])
    return found[0]


def _chosen(words: Sequence[str], takes: str) -> str:
    """The method or detector that the words, or the `--config` file, name: its settings are the command's."""
    named, written = "", ""
    for word, following in zip([flag(takes), *words], [*words, ""], strict=True):
        name, equals, value = word.partition("=")
        value = value if equals else following
        if name == flag(takes) and not named and not value.startswith("-"):
            named = value
        elif name == "--config" and value:
            written = str(read_yaml(Path(value)).get(takes, ""))
    return named or written


def overview() -> str:
    """What `hilum --help` prints."""
    known = commands.names()
    width = max(map(len, known)) + 2
    lines = [
        f"  {name.ljust(width)}{(commands.settings_of(name).__doc__ or '').splitlines()[0]}" for name in known
    ]
    return (
        "  hilum demo --out demo\n\nPretraining on chest radiographs and transferring what was learnt.\n\n"
        + "\n".join(lines)
        + "\n\n`hilum COMMAND --help` says what a command can be told.\n"
        "Exit codes: 0 done, 1 a bug, 2 settings, 65 bad data, 66 not there, 69 package missing,\n"
        "70 not finite, 73 cannot write, 74 disk, 130 and 143 stopped and saved.\n"
    )


def usage(name: str, cls: type[Config]) -> str:
    """What `hilum COMMAND --help` prints: an example, what it does, and every setting with its default."""
    lines = [f"  {commands.constant(name, 'EXAMPLE')}", "", textwrap.dedent(cls.__doc__ or "").strip(), ""]
    general = commands.settings_of(name).model_fields
    order = sorted(cls.model_fields.items(), key=lambda item: (not item[1].is_required(), item[0] in general))
    for field_name, field in order:
        lines.append(f"  {flag(field_name)} {_kind(field)}")
        said = " ".join((field.description or "").split())
        lines += textwrap.wrap(said, 96, initial_indent=" " * 6, subsequent_indent=" " * 6)
    lines += ["  --config FILE", "      Settings from a YAML file; flags go before them."]
    takes = commands.constant(name, "TAKES")
    if takes in commands.KINDS and cls.model_fields.keys() == general.keys():
        lines += [
            "",
            f"{takes.capitalize()}s; `hilum {name} {takes.upper()} --help` adds what one can be told:",
        ]
        for chosen, (what, paper) in commands.described(commands.KINDS[takes]).items():
            lines += [f"  {chosen}", f"      {what}"]
            lines += [f"      {line}" for line in paper]
    return "\n".join(lines) + "\n"


def _kind(field: FieldInfo) -> str:
    annotation, origin = field.annotation, typing.get_origin(field.annotation)
    if origin is typing.Literal:
        kind = "|".join(map(str, typing.get_args(annotation)))
    elif origin is list:
        kind = "VALUE ..."
    elif origin is dict:
        kind = "NAME=VALUE ..."
    else:
        kind = "" if annotation is bool else "VALUE"
    if field.is_required():
        return kind + "  (needed)"
    default = field.get_default()
    shown = " ".join(map(str, default)) if isinstance(default, list) else default
    return f"{kind}  [{shown}]" if shown not in ("", None, {}) and annotation is not bool else kind


def _command(words: list[str]) -> tuple[str, list[str]]:
    known = commands.names()
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in known:
            return name, words[length:]
    group = [name for name in known if name.startswith(words[0] + " ")]
    if group:
        raise ConfigError(f"hilum {words[0]} is followed by one of: {', '.join(n.split()[1] for n in group)}")
    raise ConfigError(
        f"there is no command {words[0]!r}{find.did_you_mean(words[0], known)} (hilum --help lists them)"
    )


if __name__ == "__main__":
    command()
