"""Settings, environment and hashes as tables for people, without the folders of anybody's disk."""

from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from hilum.report.words import without_folders

Table = tuple[str, list[tuple[str, str]]]

BUILT = ("random", "imagenet")
"""What --init calls an encoder that is built as the settings say."""


def tables(provenance: Mapping[str, JsonValue]) -> list[Table]:
    """One table per group of the mapping, what stands alone first; nested names are joined with dots."""
    alone = [(_words(key), _text(value)) for key, value in provenance.items() if not isinstance(value, dict)]
    groups = [
        (_words(key).capitalize(), list(_flat(value)))
        for key, value in provenance.items()
        if isinstance(value, dict)
    ]
    return [table for table in (("Evaluation", alone), *groups) if table[1]]


def run_title(command: str, name: str, settings: Mapping[str, object]) -> str:
    """The title of a run's page: its name, and as far as the settings say them its encoder and its fit.

    >>> run_title("transfer", "probe", {"init": "random", "arch": "resnet18", "fit": "logistic"})
    'hilum transfer: probe (logistic on random resnet18)'
    >>> run_title("detect", "boxes", {"init": "/home/ada/simclr", "arch": "resnet18", "detector": "fcos"})
    'hilum detect: boxes (fcos on simclr)'
    """
    init, how = settings.get("init"), settings.get("fit") or settings.get("detector")
    if not init or not how:
        return f"hilum {command}: {name}"
    # Of a run or a weights file the architecture is its own, whatever the settings say.
    arch = f" {settings['arch']}" if init in BUILT and settings.get("arch") else ""
    return f"hilum {command}: {name} ({how} on {without_folders(str(init))}{arch})"


def _flat(group: Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in group.items():
        name = f"{prefix}{without_folders(key)}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        else:
            yield name, _text(value)


def _words(key: str) -> str:
    return key.replace("_", " ")


def _text(value: JsonValue) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value)) or "none"
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return without_folders(str(value))
